"""Lower ranks within half the budget: found where they are, refused where they cost too much, told in the report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from calibration.cli import main
from calibration.flow import CalibrationOptions, calibrate
from calibration.page import write_calibration_page
from calibration.search import Journal
from calibration.slim import SHARE, slim
from calibration.trunk import load_named
from edge_ad.algebra import units
from edge_ad.bundle import Bundle
from edge_ad.methods.graph import InspectionGraph
from edge_ad.training.export import onnx_from_graph
from edge_ad.training.registry import METHODS
from tests.calibration.graphs import two_convolutions, write_images
from tests.calibration.judges import judge_of
from tests.golden_bundle import bundle_of

WIDE = {"channels": 256, "rank": 4}


def test_a_low_rank_is_found_and_costs_nothing(tmp_path: Path) -> None:
    content = two_convolutions(**WIDE)
    judge, _ = judge_of(content, tmp_path / "judged")
    slimmed = slim(load_named(content), write_images(tmp_path / "seen", 12), Journal(None, judge))
    assert slimmed.convolutions == {"conv1": 16}
    assert (slimmed.differences, slimmed.units) == ({}, {})
    after = judge.trial(slimmed.model.SerializeToString(), whole=True)
    assert after.used == slimmed.used < 0.05
    pixels, second = 16 * 24, 256 * 9
    assert slimmed.macs_before == pixels * (256 * 27 + second)
    assert slimmed.macs_after == pixels * (16 * (27 + 256) + second)


def test_what_costs_more_than_half_the_budget_is_refused(tmp_path: Path) -> None:
    """A rank of 27 in place of 16 would do; the few axes that miss a tenth and more do not."""
    content = two_convolutions(channels=256, gain=1.0)
    judge, _ = judge_of(content, tmp_path / "judged", points=1e-4)
    before = load_named(content)
    slimmed = slim(before, write_images(tmp_path / "seen", 12), Journal(None, judge))
    assert slimmed.convolutions == {} and slimmed.used == 0
    assert slimmed.macs_after == slimmed.macs_before
    assert judge.trial(slimmed.model.SerializeToString(), whole=True).used <= SHARE


def head_of_copies() -> bytes:
    """SuperSimpleNet of random weights, whose 512 hidden units are 64, each eight times in other sizes."""
    entry = METHODS["supersimplenet"].load()
    torch.manual_seed(0)
    network = entry.empty(entry.options(image_size=64, backbone="resnet18", hidden=512)).eval()
    with torch.no_grad():
        sizes = torch.linspace(0.5, 2, 8).repeat_interleave(64)
        network.hidden.weight.copy_(network.hidden.weight[:64].repeat(8, 1, 1, 1) * sizes.view(-1, 1, 1, 1))
        network.hidden.bias.copy_(network.hidden.bias[:64].repeat(8) * sizes)
    return onnx_from_graph(InspectionGraph(network, (64, 64), 64).eval())


def test_heads_get_fewer_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STEPS", 200), ("BATCH", 1024), ("LEARNING_RATE", 0.05)):
        monkeypatch.setattr(units, name, value)
    monkeypatch.setattr("calibration.slim.UNIT_FRAMES", 72)
    monkeypatch.setattr("calibration.slim.MISSED", ())
    monkeypatch.setattr("calibration.slim.WORTH", 0.01)
    content = head_of_copies()
    judge, _ = judge_of(content, tmp_path / "judged", points=0.5, size=(64, 64))
    slimmed = slim(load_named(content), write_images(tmp_path / "seen", 12, size=(64, 64)), Journal(None, judge))
    assert set(slimmed.units.values()) == {256}
    assert slimmed.macs_after < 0.99 * slimmed.macs_before
    assert judge.trial(slimmed.model.SerializeToString(), whole=True).used == slimmed.used <= SHARE


def test_what_saves_less_than_a_quarter_is_left_alone(tmp_path: Path) -> None:
    content = two_convolutions(channels=64, rank=4)
    judge, _ = judge_of(content, tmp_path / "judged")
    slimmed = slim(load_named(content), write_images(tmp_path / "seen", 12), Journal(None, judge))
    assert slimmed.convolutions == {}, "it would save 12 %"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_of(tmp_path / "it.bundle", {"fp32": two_convolutions(**WIDE)})


def test_fewer_bits_start_from_the_lower_ranks_and_float32_stays(bundle: Bundle, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 12)
    fp32 = bundle.read(bundle.precision("fp32").graph)
    options = CalibrationOptions(images=images[0].parent, precisions=("fp16", "int8"), slim=True)
    report = calibrate(bundle, options)
    assert bundle.read(bundle.precision("fp32").graph) == fp32
    for precision in ("fp16", "int8"):
        names = {node.name for node in load_named(bundle.read(bundle.precision(precision).graph)).graph.node}
        assert {"conv1", "conv1_axes", "conv2"} <= names
        assert report[precision]["slim"]["convolutions"] == {"conv1": 16}
        assert set(report[precision]["work_share"]) == {"conv1_axes", "conv1", "conv2"}
        assert report[precision]["within_limits"]
    page = write_calibration_page(tmp_path / "page.html", "it", report).read_text()
    assert "Lower ranks of 1 convolution leave" in page and "rank 16" in page
    plain = calibrate(bundle, dataclasses.replace(options, slim=False))
    assert "slim" not in plain["int8"]


def test_the_command_line_says_what_is_left_of_the_work(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "images", 12)
    assert main([str(bundle.path), "--images", str(tmp_path / "images"), "--precision", "int8", "--slim"]) == 0
    assert "Lower ranks of 1 convolution leave 0.00262 of 0.00354 GMAC (74%)" in capsys.readouterr().out
