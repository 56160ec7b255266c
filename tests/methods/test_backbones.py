"""ResNet trunks with torchvision's names, and a loader that says what is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from edge_ad.errors import WeightsNotFound
from edge_ad.methods.backbones import BACKBONES, ResNetTrunk, empty_backbone, load_backbone

# torchvision's state dicts without fc, counted from its published checkpoints: tensors and parameters of the
# whole trunk (11,689,512 - 513,000 = 11,176,512 for ResNet-18, and so on).
WHOLE = {
    "resnet18": (120, 11_176_512),
    "resnet50": (318, 23_508_032),
    "wide_resnet50_2": (318, 66_834_240),
    "wide_resnet101_2": (624, 124_837_696),
}
KEYS = {
    "resnet18": {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_mean": (64,),
        "layer1.1.conv2.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer4.1.bn2.num_batches_tracked": (),
    },
    "resnet50": {
        "layer1.0.downsample.1.bias": (256,),
        "layer2.3.conv3.weight": (512, 128, 1, 1),
        "layer4.0.conv2.weight": (512, 512, 3, 3),
    },
    "wide_resnet50_2": {"layer1.0.conv1.weight": (128, 64, 1, 1), "layer3.5.conv2.weight": (512, 512, 3, 3)},
    "wide_resnet101_2": {"layer3.22.conv3.weight": (1024, 512, 1, 1)},
}


def shapes(trunk: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in trunk.state_dict().items()}


@pytest.mark.parametrize("name", WHOLE)
def test_tensors_are_named_and_shaped_like_torchvisions(name: str) -> None:
    with torch.device("meta"):
        trunk = empty_backbone(name, layers=(1, 2, 3, 4))
    got = shapes(trunk)
    assert (len(got), sum(value.numel() for value in trunk.parameters())) == WHOLE[name]
    assert KEYS[name].items() <= got.items()
    assert all(re.fullmatch(r"(layer[1-4]\.\d+\.)?(conv|bn|downsample\.)[0-3]\.\w+", key) for key in got)


@pytest.mark.parametrize(
    ("name", "channels"), [("resnet18", [128, 256]), ("resnet50", [512, 1024]), ("wide_resnet50_2", [512, 1024])]
)
def test_outputs_are_the_layers_asked_for(name: str, channels: list[int]) -> None:
    trunk = empty_backbone(name, layers=(2, 3))
    with torch.inference_mode():
        outputs = trunk(torch.zeros(1, 3, 64, 96))
    assert [tuple(output.shape) for output in outputs] == [(1, channels[0], 8, 12), (1, channels[1], 4, 6)]
    assert trunk.out_channels == channels
    assert not any(key.startswith("layer4") for key in trunk.state_dict()), "nothing beyond the last layer is built"


def save_random(path: Path, name: str = "resnet18", layers: tuple[int, ...] = (2, 3)) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = dict(empty_backbone(name, layers=layers).state_dict())
    torch.save({**state, "fc.weight": torch.zeros(1000, 512)}, path)
    return state


def test_a_checkpoint_loads_frozen_and_in_evaluation_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = BACKBONES["resnet18"]
    assert spec is not None
    state = save_random(tmp_path / spec.torchvision_file)
    by_path = load_backbone("resnet18", weights=tmp_path / spec.torchvision_file)
    monkeypatch.setenv("EDGE_AD_WEIGHTS", str(tmp_path))
    for trunk in (by_path, load_backbone("resnet18")):
        assert isinstance(trunk, ResNetTrunk)
        assert all(torch.equal(value, state[key]) for key, value in trunk.state_dict().items())
        assert not any(parameter.requires_grad for parameter in trunk.parameters())
        assert not any(module.training for module in trunk.modules())


def test_missing_weights_say_what_to_fetch_and_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, got in (("", "$EDGE_AD_WEIGHTS is not set"), (str(tmp_path), f"no {tmp_path}/resnet18-f37072fd.pth")):
        monkeypatch.setenv("EDGE_AD_WEIGHTS", folder)
        with pytest.raises(WeightsNotFound, match="resnet18 are not on this machine") as caught:
            load_backbone("resnet18")
        assert caught.value.got == got
        assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in str(caught.value.fix)
    with pytest.raises(WeightsNotFound, match=r"absent\.pth does not exist"):
        load_backbone("resnet18", weights=tmp_path / "absent.pth")


def test_a_checkpoint_of_another_backbone_or_a_shorter_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    save_random(path)
    with pytest.raises(WeightsNotFound, match="does not hold the weights of resnet50") as caught:
        load_backbone("resnet50", weights=path)
    assert caught.value.expected == "layer1.0.conv1.weight (64, 64, 1, 1)"
    assert caught.value.got == (64, 64, 3, 3)
    with pytest.raises(WeightsNotFound, match=r"30 of 120 tensors are absent") as caught:
        load_backbone("resnet18", layers=(4,), weights=path)
    assert caught.value.got == "absent"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"hello"])
def test_a_damaged_checkpoint_is_our_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsNotFound, match=r"w\.pth cannot be read as weights"):
        load_backbone("resnet18", weights=path)


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(WeightsNotFound, match="no backbone 'resnet19'"):
        empty_backbone("resnet19")


@pytest.mark.parametrize(
    ("name", "file", "layers"),
    [
        ("resnet18", "resnet18_imagenet_conv1_to_layer3_bnfolded.pth", (2, 3)),
        ("resnet50", "resnet50_imagenet_conv1_to_layer2.pth", (1, 2)),
    ],
)
def test_real_weights_load(shared_weights: Path, name: str, file: str, layers: tuple[int, ...]) -> None:
    """6 tensors of conv1 and bn1, 12 to 18 per block and 6 per shortcut; the answers are finite and not constant."""
    trunk = load_backbone(name, layers=layers, weights=shared_weights / file)
    assert len(trunk.state_dict()) == {"resnet18": 90, "resnet50": 144}[name]
    with torch.inference_mode():
        for features in trunk(torch.randn(1, 3, 64, 64)):
            assert torch.isfinite(features).all() and features.std() > 0
