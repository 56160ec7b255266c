"""Which methods, with which options: what `--methods` and `--set` make of a command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edge_ad.compare.contenders import changed_options, chosen_methods, contenders, option_names, parse_settings
from edge_ad.errors import TrainingError
from edge_ad.training.registry import METHODS


def test_settings_are_parsed_as_the_options_they_name():
    texts = [
        "simplenet.backbone=resnet18",
        "simplenet.weights=a folder/r18.pth",
        "simplenet.layers=1,2",
        "simplenet.noise=0.02",
        "simplenet.batch-patches=64",
        "efficientad-s.seed=3",
    ]
    assert parse_settings(texts, ["simplenet", "efficientad-s"]) == {
        "simplenet": {
            "backbone": "resnet18",
            "weights": Path("a folder/r18.pth"),
            "layers": (1, 2),
            "noise": 0.02,
            "batch_patches": 64,
        },
        "efficientad-s": {"seed": 3},
    }


@pytest.mark.parametrize("method", METHODS)
def test_what_is_parsed_makes_the_methods_options(method):
    """Every default, written as text, comes back as itself."""
    options = METHODS[method].load().options
    for field in dataclasses.fields(options):
        value = field.default
        if value is None:
            continue
        text = {True: "yes", False: "no"}.get(value) if isinstance(value, bool) else str(value)
        if isinstance(value, tuple):
            text = " ".join(map(str, value))
        parsed = parse_settings([f"{method}.{field.name}={text}"], [method])[method]
        assert parsed == {field.name: value}
        assert options(**parsed) == options()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("simplenet.steps", "METHOD.OPTION=VALUE"),
        ("steps=3", "METHOD.OPTION=VALUE"),
        ("patchwork.steps=3", "one of the methods that are compared: simplenet"),
        ("simplenet.stepz=3", "an option of simplenet: .*steps"),
        ("simplenet.steps=many", "'many' is not a whole number"),
        ("simplenet.steps=-1", "'-1' is not a whole number from 0 up"),
        ("simplenet.backbone=resnet19", "invalid choice: 'resnet19'"),
        ("simplenet.layers=2,9", "invalid choice: 9"),
        ("simplenet.noise=nan", "'nan' is not a number from 0 up"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_what_would_be_right(text, said):
    with pytest.raises(TrainingError, match=said) as refused:
        parse_settings([text], ["simplenet"])
    assert refused.value.got == text


def test_yes_and_no_are_the_values_of_a_flag():
    assert parse_settings(["cutpaste.pretrained=no"], ["cutpaste"]) == {"cutpaste": {"pretrained": False}}
    with pytest.raises(TrainingError, match=r"cutpaste\.pretrained=yes or cutpaste\.pretrained=no"):
        parse_settings(["cutpaste.pretrained=0"], ["cutpaste"])


def test_steps_are_for_every_method_that_has_them_and_a_setting_goes_before():
    settings = parse_settings(["simplenet.steps=9"], list(METHODS), steps=5)
    for method in METHODS:
        expected = 9 if method == "simplenet" else 5
        assert settings[method] == ({"steps": expected} if "steps" in option_names(method) else {})


def test_steps_are_checked_as_an_option_is():
    with pytest.raises(TrainingError, match="'-2' is not a whole number from 0 up") as refused:
        parse_settings([], ["simplenet"], steps=-2)
    assert refused.value.got == "--steps -2"


def test_all_is_every_method_and_none_comes_twice():
    assert chosen_methods(["simplenet", "all"]) == list(METHODS)
    assert chosen_methods(["simplenet", "efficientad-s", "simplenet"]) == ["simplenet", "efficientad-s"]


def test_runs_are_named_after_their_methods():
    one, other = contenders(["simplenet", "efficientad-s"], Path("runs"), {"simplenet": {"steps": 3}}, "-nuts")
    assert (one.run, one.bundle, one.settings) == (
        Path("runs/simplenet-nuts"),
        Path("runs/simplenet-nuts.bundle"),
        {"steps": 3},
    )
    assert (other.run, other.settings) == (Path("runs/efficientad-s-nuts"), {})


def test_options_that_were_changed_are_told_without_folders():
    defaults = METHODS["simplenet"].load().options()
    options = dataclasses.asdict(defaults) | {"layers": [2, 3], "steps": 7, "weights": "/somewhere/r18.pth"}
    assert changed_options("simplenet", options) == {"steps": 7, "weights": "r18.pth"}
