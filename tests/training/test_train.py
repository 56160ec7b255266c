"""Training runs: they begin, stop, go on, end once, and say what is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edge_ad.errors import TooFewImages, TrainingError, UnreadableImage, WeightsNotFound
from edge_ad.training import fit_cutpaste, fit_efficientad, fit_simplenet, fit_supersimplenet, fit_uninformed_students
from edge_ad.training.dataset import open_dataset
from edge_ad.training.run import image_hash, read_run, split_images
from edge_ad.training.train import load_run, train
from tests.golden_bundle import snapshot
from tests.trained import METHODS, OPTIONS, TRAIN, VALIDATION, draw_dataset

FITS = {
    "simplenet": fit_simplenet,
    "efficientad-s": fit_efficientad,
    "cutpaste": fit_cutpaste,
    "supersimplenet": fit_supersimplenet,
    "uninformed-students": fit_uninformed_students,
}
LEARNED = (  # one tensor of each method
    *("hidden.weight", "student.conv1.weight", "members.0.trunk.conv1.weight"),
    "ensembles.0.students.convolutions.0.weight",
)


class Interrupted(Exception):
    """Stands for the power cut."""


def stop_at(monkeypatch: pytest.MonkeyPatch, method: str, step: int) -> None:
    """A checkpoint at that step, and the end of the process right after it."""
    module = FITS[method]
    save = module.save_checkpoint

    def save_and_stop(path: Path, state: dict[str, object]) -> None:
        save(path, state)
        raise Interrupted

    monkeypatch.setattr(module, "CHECKPOINT_EVERY", step)
    monkeypatch.setattr(module, "save_checkpoint", save_and_stop)


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_is_whole(trained_run: Callable[[str], Path], parts_dataset: Path, method: str) -> None:
    run = trained_run(method)
    assert sorted(path.name for path in run.iterdir()) == ["model.safetensors", "options.json", "run.json"]
    record, options = read_run(run)
    assert (record.method, record.name, record.camera) == (method, "flange", (96, 128))
    assert len(record.validation) == VALIDATION and len(record.training_hashes) == TRAIN
    assert record.training_hashes[0] == image_hash(parts_dataset / "train/good/000.png")
    assert options == json.loads(json.dumps(dataclasses.asdict(OPTIONS[method])))
    network, _, _ = load_run(run)
    assert not network.training
    assert set(network.state_dict()) == set(load_file(run / "model.safetensors"))


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_goes_on(
    parts_dataset: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at(patch, method, 2)
        train(method, parts_dataset, run, OPTIONS[method])
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 2 and not (run / "run.json").exists()
    starts = []
    monkeypatch.setattr(
        FITS[method], "_resume", lambda *given, real=FITS[method]._resume: starts.append(real(*given)) or starts[0]
    )
    train(method, parts_dataset, run, OPTIONS[method])
    assert starts == [2]
    assert not (run / "checkpoint.pt").exists()
    finished = load_file(run / "model.safetensors")
    trained = [key for key in saved["network"] if key.startswith(LEARNED)]
    assert trained and all(not torch.equal(finished[key], saved["network"][key]) for key in trained)


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_is_left_as_it_is(trained_run: Callable[[str], Path], parts_dataset: Path, method: str) -> None:
    before = snapshot(trained_run(method))
    train(method, parts_dataset, trained_run(method), OPTIONS[method])
    assert snapshot(trained_run(method)) == before


def test_other_options_are_refused(trained_run: Callable[[str], Path], parts_dataset: Path) -> None:
    run = trained_run("simplenet")
    before = snapshot(run)
    with pytest.raises(TrainingError, match="other options") as caught:
        train("simplenet", parts_dataset, run, dataclasses.replace(OPTIONS["simplenet"], steps=9))
    assert (caught.value.expected, caught.value.got) == ({"steps": 8}, {"steps": 9})
    assert snapshot(run) == before


def test_a_run_that_failed_before_it_began_takes_other_options(parts_dataset: Path, tmp_path: Path) -> None:
    """The first try names a file that is not there; the second must not be told to keep to it."""
    options = OPTIONS["simplenet"]
    with pytest.raises(WeightsNotFound):
        train(
            "simplenet", parts_dataset, tmp_path, dataclasses.replace(options, weights=tmp_path / "none.pth", steps=9)
        )
    train("simplenet", parts_dataset, tmp_path, options)
    assert json.loads((tmp_path / "options.json").read_text())["steps"] == options.steps


def test_the_seed_decides_the_run(trained_run: Callable[[str], Path], parts_dataset: Path, tmp_path: Path) -> None:
    first = load_file(trained_run("simplenet") / "model.safetensors")
    options = OPTIONS["simplenet"]
    again = load_file(train("simplenet", parts_dataset, tmp_path / "a", options) / "model.safetensors")
    other = dataclasses.replace(options, seed=1)
    different = load_file(train("simplenet", parts_dataset, tmp_path / "b", other) / "model.safetensors")
    assert all(torch.equal(again[key], value) for key, value in first.items())
    assert not torch.equal(different["adaptor.weight"], first["adaptor.weight"])


def test_quantiles_are_those_of_the_validation_images(trained_run: Callable[[str], Path]) -> None:
    """A tenth of all validation pixels lies above the low quantile, five in a thousand above the high one."""
    network, record, _ = load_run(trained_run("efficientad-s"))
    from edge_ad.training.images import load_rgb, normalise

    images = torch.stack([normalise(load_rgb(Path(path), 128)) for path in record.validation])
    with torch.inference_mode():
        for of_one, (low, high) in zip(network.maps(images), network.quantiles.tolist(), strict=True):
            assert (of_one > low).float().mean().item() == pytest.approx(0.1, abs=1e-3)
            assert (of_one > high).float().mean().item() == pytest.approx(0.005, abs=1e-3)


def test_teacher_statistics_are_those_of_the_training_images(
    trained_run: Callable[[str], Path], parts_dataset: Path
) -> None:
    from edge_ad.training.images import load_rgb, normalise

    network, _, _ = load_run(trained_run("efficientad-s"))
    paths = open_dataset(parts_dataset).train
    with torch.inference_mode():
        images = torch.stack([normalise(load_rgb(path, 128)) for path in paths])
        normalised = network.normalised_teacher(images)
    assert normalised.mean((0, 2, 3)).abs().max() < 2e-2  # trained in bfloat16 where there is such hardware
    torch.testing.assert_close(normalised.std((0, 2, 3)), torch.ones(384), atol=2e-2, rtol=2e-2)


def test_the_data_sets_own_validation_images_or_a_tenth(parts_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(parts_dataset)
    own = split_images(dataset, 0)
    assert (own.training, own.validation) == (list(dataset.train), list(dataset.validation))
    without = dataclasses.replace(dataset, validation=(), train=dataset.train + dataset.validation)
    first, other = split_images(without, 0), split_images(without, 1)
    assert (len(first.training), len(first.validation)) == (20, 2)
    assert sorted([*first.training, *first.validation]) == sorted(without.train)
    assert split_images(without, 0) == first != other


def test_bad_input_is_named(parts_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = OPTIONS["simplenet"]
    few = dataclasses.replace(open_dataset(parts_dataset), train=open_dataset(parts_dataset).train[:9])
    with pytest.raises(TooFewImages, match="too few good images"):
        split_images(few, 0)
    monkeypatch.delenv("EDGE_AD_WEIGHTS", raising=False)
    with pytest.raises(WeightsNotFound, match="resnet18"):
        train("simplenet", parts_dataset, tmp_path / "r", dataclasses.replace(options, backbone="resnet18"))
    with pytest.raises(WeightsNotFound, match=r"absent\.pth does not exist"):
        train(
            "efficientad-s",
            parts_dataset,
            tmp_path / "e",
            dataclasses.replace(OPTIONS["efficientad-s"], teacher=tmp_path / "absent.pth"),
        )
    broken = draw_dataset(tmp_path / "broken")
    (broken / "train/good/003.png").write_bytes(b"not an image")
    for method in METHODS:
        with pytest.raises(UnreadableImage, match=r"003\.png"):
            train(method, broken, tmp_path / f"broken-{method}", OPTIONS[method])
        with pytest.raises(TrainingError, match="not a finished training run"):
            load_run(tmp_path / f"broken-{method}")
