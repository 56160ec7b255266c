"""Training CutPaste: its classes, its schedule, its warm-up, its densities."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor

from edge_ad.backends.onnxruntime import OUTPUTS, open_session
from edge_ad.errors import TrainingError, WeightsNotFound
from edge_ad.frame import Image, read_image
from edge_ad.methods.backbones import empty_backbone
from edge_ad.methods.cutpaste import CLASSES, CutPaste, CutPasteOptions, Detector
from edge_ad.methods.graph import InspectionGraph
from edge_ad.training import fit_cutpaste
from edge_ad.training.dataset import open_dataset
from edge_ad.training.export import onnx_from_graph
from edge_ad.training.fit_cutpaste import classified_views
from edge_ad.training.images import load_rgb, normalise
from edge_ad.training.run import Split, split_images

OPTIONS = CutPasteOptions(pretrained=False, stage=1, image_size=64, steps=3, warmup_steps=0, batch_images=2)


@pytest.fixture
def split(parts_dataset: Path) -> Split:
    return split_images(open_dataset(parts_dataset), 0)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint that ends at stage 1, with batch norms that do something."""
    torch.manual_seed(0)
    trunk = empty_backbone("resnet18", layers=(1,))
    for name, value in trunk.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
    torch.save(trunk.state_dict(), tmp_path / "w.pth")
    return tmp_path / "w.pth"


def test_the_classes_of_each_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normal first; then patches and scars: alone, as one class half of the time each, or as two classes."""
    monkeypatch.setattr(fit_cutpaste, "paste_patch", lambda image, rng: np.full_like(image, 1))
    monkeypatch.setattr(fit_cutpaste, "paste_scar", lambda image, rng: np.full_like(image, 2))
    image, rng = np.zeros((8, 8, 3), np.uint8), np.random.default_rng(0)
    drawn = {
        variant: [tuple(int(view.max()) for view in classified_views(image, variant, rng)) for _ in range(200)]
        for variant in CLASSES
    }
    assert set(drawn["normal"]) == {(0, 1)}
    assert set(drawn["scar"]) == {(0, 2)}
    assert set(drawn["3way"]) == {(0, 1, 2)}
    assert set(drawn["union"]) == {(0, 1), (0, 2)}
    assert 70 < drawn["union"].count((0, 2)) < 130


@pytest.mark.parametrize("variant", CLASSES)
@pytest.mark.parametrize("level", ["image", "patch"])
def test_a_batch_holds_every_view_with_its_class(split: Split, variant: str, level: str) -> None:
    options = dataclasses.replace(OPTIONS, variant=variant, level=level, patch_size=32)
    views, labels = next(fit_cutpaste._batches(split.training, options, np.random.default_rng(0)))
    assert labels.tolist() == list(range(CLASSES[variant])) * 2
    assert views.shape == (len(labels), 3, *([64, 64] if level == "image" else [32, 32]))
    for normal, *pasted in views.split(CLASSES[variant])[0][None]:
        for view in pasted:
            changed = (view != normal).any(0).float().mean()
            assert 0 < changed < 0.5, "the same image but for a piece"


def test_inputs_are_prepared_as_in_the_graph_then_shifted_and_jittered(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the random changes a normal view is the image as the deployed graph sees it, but for 8-bit rounding."""
    monkeypatch.setattr(fit_cutpaste, "TRANSLATION", 0.0)
    monkeypatch.setattr(fit_cutpaste, "colour_jitter", lambda image, rng: image)
    paths = split.training[:1]
    views, labels = next(fit_cutpaste._batches(paths, OPTIONS, np.random.default_rng(0)))
    rounding = 0.5 / 255 / 0.224
    torch.testing.assert_close(views[labels == 0][0], normalise(load_rgb(paths[0], 64)), atol=1.01 * rounding, rtol=0)


def test_a_shift_moves_the_image_and_repeats_its_border() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    places = set()
    for seed in range(60):
        shifted = fit_cutpaste._shifted(image, np.random.default_rng(seed))
        places.add(place_of(shifted, image))
    rows, columns = zip(*places, strict=True)
    reach = round(0.05 * 64)
    assert (min(rows), max(rows)) == (min(columns), max(columns)) == (-reach, reach)


def place_of(shifted: Image, image: Image) -> tuple[int, int]:
    """(down, right) by which clamped coordinates explain the shifted image."""
    size = len(image)
    for down in range(-5, 6):
        for right in range(-5, 6):
            rows, columns = (np.clip(np.arange(size) + by, 0, size - 1) for by in (down, right))
            if np.array_equal(image[np.ix_(rows, columns)], shifted):
                return down, right
    raise AssertionError("not a shift")


def one_step(options: CutPasteOptions, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor], torch.optim.SGD]:
    """The trunk's state before and after one training step of random images, and the optimiser."""
    member = CutPaste(options).members[0]
    head = fit_cutpaste._begin(member, options, 0)
    optimiser = fit_cutpaste._optimiser(member, head, options)
    before = {key: value.clone() for key, value in member.trunk.state_dict().items()}
    head_before = head[0].weight.clone()
    batch = torch.randn(6, 3, 64, 64), torch.tensor([0, 1, 2] * 2)
    fit_cutpaste._step(member, head, optimiser, step, batch, options)
    assert not torch.equal(head[0].weight, head_before), "the head always learns"
    return before, dict(member.trunk.state_dict()), optimiser


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {key for key, value in before.items() if not torch.equal(value, after[key])}


def test_the_warm_up_freezes_a_pretrained_trunk(weights: Path) -> None:
    options = dataclasses.replace(OPTIONS, pretrained=True, weights=weights, steps=10, warmup_steps=4)
    before, after, _ = one_step(options, 3)
    assert changed(before, after) == set()
    assert all(torch.equal(before[key], value) for key, value in torch.load(weights).items())
    before, after, _ = one_step(options, 4)
    assert changed(before, after) == {key for key in before if key.endswith(("weight", "bias"))}, "no statistics"


def test_a_trunk_from_scratch_learns_at_once_with_its_own_statistics() -> None:
    before, after, optimiser = one_step(dataclasses.replace(OPTIONS, warmup_steps=5, steps=10), 0)
    assert changed(before, after) == set(before)
    assert [group["lr"] for group in optimiser.param_groups] == [0.03, 0.03]


def test_learning_rates_fall_by_a_cosine(weights: Path) -> None:
    options = dataclasses.replace(
        OPTIONS, pretrained=True, weights=weights, steps=8, learning_rate=0.2, trunk_learning_rate=0.01
    )
    for step, share in ((0, 1.0), (2, 0.5 + math.sqrt(0.125)), (4, 0.5), (6, 0.5 - math.sqrt(0.125))):
        _, _, optimiser = one_step(options, step)
        assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.2 * share, 0.01 * share])
        assert all((group["momentum"], group["weight_decay"]) == (0.9, 3e-5) for group in optimiser.param_groups)


@pytest.mark.parametrize("level", ["image", "patch"])
def test_the_density_is_that_of_the_training_images(split: Split, level: str, tmp_path: Path) -> None:
    """scikit-learn's Ledoit-Wolf precision of the unit embeddings; normal held-out images score 1 on average."""
    options = dataclasses.replace(OPTIONS, level=level, patch_size=32, stride=16, ensemble=2)
    network = fit_cutpaste.fit_cutpaste(split, options, tmp_path)
    assert not network.training
    training, validation = (
        torch.stack([normalise(load_rgb(path, 64)) for path in paths]) for paths in (split.training, split.validation)
    )
    with torch.inference_mode():
        for member in network.members:
            inputs = training
            if level == "patch":  # 9 a side are fewer than DENSITY_PATCHES: all of them
                inputs = torch.cat([training[:, :, y : y + 32, x : x + 32] for y in (0, 16, 32) for x in (0, 16, 32)])
            pooled = member.trunk(inputs)[-1].mean((2, 3)).double()
            embeddings = (pooled / pooled.norm(dim=1, keepdim=True)).numpy()
            expected = LedoitWolf().fit(embeddings)
            whitening = member.gaussian.whitening.double().numpy()
            np.testing.assert_allclose(member.gaussian.mean, expected.location_, atol=1e-6)
            scale = np.abs(expected.precision_).max()
            np.testing.assert_allclose(whitening.T @ whitening, expected.precision_, atol=1e-3 * scale)
            assert member(validation)[1].mean().item() == pytest.approx(1, rel=1e-4)
    first, second = network.members
    assert not torch.equal(first.trunk.conv1.weight, second.trunk.conv1.weight)


@pytest.mark.parametrize("level", ["image", "patch"])
def test_the_graph_of_an_ensemble_answers_as_torch_for_every_batch(split: Split, level: str, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, level=level, patch_size=32, stride=16, ensemble=2)
    graph = InspectionGraph(fit_cutpaste.fit_cutpaste(split, options, tmp_path), (96, 128), 64).eval()
    session = open_session(onnx_from_graph(graph), level)
    frames = np.stack([read_image(path) for path in split.validation[:3]])
    for batch in (1, 2, 3):
        with torch.inference_mode():
            expected = graph(torch.from_numpy(frames[:batch]))
        for wanted, came in zip(expected, session.run(OUTPUTS, {"image": frames[:batch]}), strict=True):
            assert len(came) == batch
            np.testing.assert_allclose(came, wanted, rtol=1e-3, atol=1e-3 * wanted.abs().max().item())


def test_members_learn_one_after_the_other(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, int]] = []
    options = dataclasses.replace(OPTIONS, ensemble=2)
    network = CutPaste(options)
    members = list(network.members)

    def record(member: Detector, head: object, optimiser: object, step: int, *_: object) -> float:
        taken.append((members.index(member), step))
        return 0.0

    monkeypatch.setattr(fit_cutpaste, "_step", record)
    fit_cutpaste._train(network, [None, None], [None, None], 2, split.training, options, tmp_path)
    assert taken == [(0, 2), (1, 0), (1, 1), (1, 2)]


def test_weights_that_end_too_early_say_which_stage_to_ask_for(split: Split, weights: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, pretrained=True, weights=weights, stage=2)
    with pytest.raises(WeightsNotFound, match="tensors are absent") as caught:
        fit_cutpaste.fit_cutpaste(split, options, tmp_path)
    assert "--stage 1" in str(caught.value.fix) and "--no-pretrained" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"level": "patch", "patch_size": 65}, "no such patches"),
        ({"level": "patch", "patch_size": 0}, "no such patches"),
        ({"level": "patch", "patch_size": 32, "stride": 0}, "no such patches"),
        ({"ensemble": 0}, "ensemble of none"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    split: Split, tmp_path: Path, change: dict[str, object], what: str
) -> None:
    with pytest.raises(TrainingError, match=what):
        fit_cutpaste.fit_cutpaste(split, dataclasses.replace(OPTIONS, **change), tmp_path)


def test_a_training_that_fails_says_so(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="diverged at step 0"):
        patch.setattr(fit_cutpaste, "_step", lambda *_: math.nan)
        fit_cutpaste.fit_cutpaste(split, OPTIONS, tmp_path)
    same = torch.full((1, 64), 0.125)
    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="collapsed"):
        patch.setattr("edge_ad.methods.cutpaste.Detector.embed", lambda self, image: same)
        fit_cutpaste.fit_cutpaste(split, OPTIONS, tmp_path)
