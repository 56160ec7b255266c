"""Which TensorRT is there, and what its log says."""

from __future__ import annotations

import importlib
import platform
from types import SimpleNamespace

import pytest

from edge_ad.backends import vendor
from edge_ad.backends.flavours import capturing_logger, explain, installed_flavours, load_flavour, target_of
from edge_ad.errors import MissingDependency
from tests.tiny_bundle import needs_rtx


@pytest.mark.parametrize(
    ("machine", "expected"), [("x86_64", ("rtx", "trt")), ("AMD64", ("rtx", "trt")), ("aarch64", ("trt", "rtx"))]
)
def test_full_tensorrt_comes_first_on_a_jetson(
    monkeypatch: pytest.MonkeyPatch, machine: str, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(vendor, "is_installed", lambda name: True)
    assert installed_flavours() == expected


@pytest.mark.parametrize(("name", "version"), [("rtx", "1.6.0.39"), ("trt", "8.4.1.5")])
def test_too_old_a_version_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, version: str) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda module: SimpleNamespace(__version__=version))
    with pytest.raises(MissingDependency, match="too old") as caught:
        load_flavour(name)
    assert caught.value.got == version


@pytest.mark.parametrize("version", ["1.10.0.1", "2.0.0"])
def test_versions_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda module: SimpleNamespace(__version__=version))
    assert load_flavour("rtx").version == version


def test_library_that_does_not_load_is_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libnvinfer.so.11: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(MissingDependency, match=r"TensorRT cannot be loaded(.|\n)*libnvinfer\.so\.11"):
        load_flavour("trt")


@needs_rtx
def test_real_version_is_the_full_one() -> None:
    flavour = load_flavour("rtx")
    assert flavour.title == "TensorRT-RTX"
    assert flavour.version == flavour.trt.__version__
    assert len(flavour.version.split(".")) == 4


@pytest.mark.parametrize(("capability", "target"), [((7, 5), "sm75"), ((8, 9), "sm89"), ((12, 1), "sm121")])
def test_target_of_a_capability(capability: tuple[int, int], target: str) -> None:
    assert target_of(capability) == target


@needs_rtx
def test_logger_keeps_errors_only() -> None:
    trt = load_flavour("rtx").trt
    logger = capturing_logger(trt)
    logger.log(trt.ILogger.INFO, "chatter")
    logger.log(trt.ILogger.WARNING, "perhaps")
    logger.log(trt.ILogger.ERROR, "first")
    logger.log(trt.ILogger.INTERNAL_ERROR, "second")
    assert logger.problems == ["first", "second"]


@needs_rtx
def test_a_logger_that_is_told_errors_for_months_keeps_the_last() -> None:
    trt = load_flavour("rtx").trt
    logger = capturing_logger(trt)
    for number in range(1000):
        logger.log(trt.ILogger.ERROR, str(number))
    assert (len(logger.problems), logger.problems[-1]) == (100, "999")


def test_explanation_says_each_thing_once_and_drops_the_echo() -> None:
    echo = "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime"
    assert explain(["bad node\n", echo, "bad node", "why"]).split("\n") == ["bad node", "            why"]
    assert explain([echo]) == echo
    assert explain([]) == "nothing in TensorRT's log"
