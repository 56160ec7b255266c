"""Which engine of a bundle a machine can run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from edge_ad.backends.engine_choice import Machine, choose_engine
from edge_ad.bundle import Bundle
from edge_ad.errors import EngineMismatch
from edge_ad.manifest import EngineEntry, EngineSettings
from tests.tiny_bundle import tiny_bundle

VERSION = "1.7.1.116"
HERE = Machine(versions={"rtx": VERSION}, capability=(8, 9))


def _add_engine(bundle: Bundle, **changes: Any) -> EngineEntry:
    """Put bytes in place as an engine of the bundle."""
    entry = EngineEntry(
        file=changes.get("file", "engines/one.engine"),
        flavour=changes.get("flavour", "rtx"),
        version=changes.get("version", VERSION),
        target=changes.get("target", "sm89"),
        precision=changes.get("precision", "fp32"),
        graph_sha256=bundle.manifest.files[bundle.precision("fp32").graph],
        max_batch=1,
        settings=changes.get("settings", EngineSettings()),
    )
    with bundle.edit() as edit:
        edit.write(entry.file, b"an engine")
        edit.manifest = dataclasses.replace(edit.manifest, engines=(*edit.manifest.engines, entry))
    return entry


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "tiny", "fp32", "int8")


def test_engine_for_this_very_gpu_comes_before_a_portable_one(bundle: Bundle) -> None:
    _add_engine(bundle, file="engines/portable.engine", target="portable")
    exact = _add_engine(bundle, file="engines/exact.engine", target="sm89")
    assert choose_engine(bundle, "fp32", HERE) == exact


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (12, 0), (12, 1)])
def test_portable_engine_runs_from_ampere_on(bundle: Bundle, capability: tuple[int, int]) -> None:
    portable = _add_engine(bundle, target="portable")
    assert choose_engine(bundle, "fp32", dataclasses.replace(HERE, capability=capability)) == portable


def test_preferred_flavour_comes_first(bundle: Bundle) -> None:
    _add_engine(bundle, file="engines/rtx.engine")
    plain = _add_engine(bundle, file="engines/trt.engine", flavour="trt", version="11.4.0")
    both = Machine(versions={"trt": "11.4.0", "rtx": VERSION}, capability=(8, 9))
    assert choose_engine(bundle, "fp32", both) == plain


@pytest.mark.parametrize(
    ("engine", "capability", "expected", "got", "target"),
    [
        pytest.param(
            {"target": "sm89"},
            (12, 0),
            "compute capability 12.0 (this GPU)",
            "compute capability 8.9",
            "sm120",
            id="gpu",
        ),
        pytest.param(
            {"target": "portable"},
            (7, 5),
            "compute capability 7.5 (this GPU)",
            "portable: compute capability 8.0 or higher",
            "sm75",
            id="turing",
        ),
        pytest.param(
            {"version": "1.6.0.9"},
            (8, 9),
            f"TensorRT-RTX {VERSION} (installed)",
            "1.6.0.9",
            "sm89",
            id="version",
        ),
        pytest.param({"flavour": "trt"}, (8, 9), "TensorRT-RTX (installed)", "TensorRT", "sm89", id="flavour"),
    ],
)
def test_engine_that_does_not_fit_says_why(
    bundle: Bundle, engine: dict[str, str], capability: tuple[int, int], expected: str, got: str, target: str
) -> None:
    _add_engine(bundle, **engine)
    with pytest.raises(EngineMismatch) as caught:
        choose_engine(bundle, "fp32", dataclasses.replace(HERE, capability=capability))
    assert str(caught.value).splitlines() == [
        f"{bundle.path}/engines/one.engine does not fit this machine.",
        f"  expected: {expected}",
        f"  got:      {got} (manifest.json)",
        f"  fix:      python -m build_engines {bundle.path} --target {target}",
    ]


def test_engine_of_another_graph_does_not_fit(bundle: Bundle) -> None:
    """An edit drops such an engine; a manifest from elsewhere may still list one."""
    entry = _add_engine(bundle)
    stale = dataclasses.replace(entry, graph_sha256="0" * 64)
    bundle.manifest = dataclasses.replace(bundle.manifest, engines=(stale,))
    with pytest.raises(EngineMismatch) as caught:
        choose_engine(bundle, "fp32", HERE)
    assert caught.value.expected == f"compiled from graph {entry.graph_sha256}"


def test_the_closest_engine_is_the_one_told_about(bundle: Bundle) -> None:
    _add_engine(bundle, file="engines/old.engine", version="1.6.0.9")
    _add_engine(bundle, file="engines/close.engine", target="sm86")
    with pytest.raises(EngineMismatch, match=r"close\.engine"):
        choose_engine(bundle, "fp32", HERE)


def test_no_engine_of_the_precision(bundle: Bundle) -> None:
    _add_engine(bundle)
    with pytest.raises(EngineMismatch, match="has no int8 engine") as caught:
        choose_engine(bundle, "int8", HERE)
    assert caught.value.got == "engines/one.engine"


@pytest.mark.parametrize("installed", ["10.3.0.26", "10.13.0.35", "10.16.1"])
def test_a_version_compatible_engine_loads_in_newer_ones_of_its_major_version(bundle: Bundle, installed: str) -> None:
    settings = EngineSettings(version_compatible=True)
    entry = _add_engine(bundle, flavour="trt", version="10.3.0.26", settings=settings)
    assert choose_engine(bundle, "fp32", dataclasses.replace(HERE, versions={"trt": installed})) == entry


@pytest.mark.parametrize("installed", ["10.2.9.9", "11.0.0", "8.6.1"])
def test_a_version_compatible_engine_loads_in_no_other(bundle: Bundle, installed: str) -> None:
    settings = EngineSettings(version_compatible=True)
    _add_engine(bundle, flavour="trt", version="10.3.0.26", settings=settings)
    with pytest.raises(EngineMismatch, match=rf"TensorRT {installed} \(installed\)"):
        choose_engine(bundle, "fp32", dataclasses.replace(HERE, versions={"trt": installed}))


def test_a_hardware_compatible_engine_runs_from_ampere_on(bundle: Bundle) -> None:
    entry = _add_engine(bundle, target="sm80", settings=EngineSettings(hardware_compatible=True))
    assert choose_engine(bundle, "fp32", HERE) == entry
    exact = _add_engine(bundle, file="engines/exact.engine")
    assert choose_engine(bundle, "fp32", HERE) == exact
    with pytest.raises(EngineMismatch, match=r"portable: compute capability 8\.0 or higher"):
        choose_engine(bundle, "fp32", dataclasses.replace(HERE, capability=(7, 5)))
