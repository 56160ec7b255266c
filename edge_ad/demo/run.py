"""The whole way on drawn parts: train, export, calibrate, compile, inspect, report."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from build_engines import BuildOptions, BuiltEngine, build
from edge_ad import __version__
from edge_ad.bundle import Bundle
from edge_ad.demo.findings import EngineRow, InspectedPart, PrecisionRow, Report
from edge_ad.demo.parts import write_dataset
from edge_ad.demo.report import write_report
from edge_ad.errors import DataError, MissingDependency
from edge_ad.frame import read_image
from edge_ad.inspector import Inspector
from edge_ad.manifest import PRECISIONS
from edge_ad.overlay import draw_heat
from edge_ad.progress import Progress
from edge_ad.training.dataset import Dataset, open_dataset

__all__ = ["run_demo"]

TARGETS = ("sm86", "sm89", "sm120")  # RTX 30, RTX 40 and RTX 50
TRAIN, VALIDATION, TEST_GOOD, TEST_PER_DEFECT = 80, 40, 30, 8
STEPS = 400
MARKER = ".edge-ad-demo"


def run_demo(output: Path, *, seed: int = 0) -> Path:
    """Run every step in `output` and return the path of report.html; what an earlier demo left there is replaced.

    Raises:
        DataError: `output` holds something that is not a demo's.
    """
    started = time.monotonic()
    _clear(output)
    _say("1/6 drawing parts: a seeded camera of machined flanges")
    folder = write_dataset(
        output / "parts",
        train=TRAIN,
        validation=VALIDATION,
        test_good=TEST_GOOD,
        test_per_defect=TEST_PER_DEFECT,
        seed=seed,
    )
    dataset = open_dataset(folder)
    bundle = _deploy(folder, output, seed)
    _say("4/6 calibrating FP16 and INT8 on good parts")
    costs = _calibrate(bundle, folder, seed)
    _say(f"5/6 compiling engines for {', '.join(TARGETS)}")
    engines = build(bundle, BuildOptions(targets=TARGETS))
    _say("6/6 inspecting the stream in INT8")
    parts, backend = _inspect(bundle, dataset)
    report = Report(
        title="Machined flange",
        subtitle=f"SimpleNet on PDN-S features, INT8 on {backend}, {len(parts)} parts",
        parts=parts,
        precisions=tuple(_precision_row(name, costs[name]) for name in PRECISIONS if name in costs),
        engines=tuple(_engine_row(engine) for engine in engines),
        provenance=_provenance(bundle, costs, seed, time.monotonic() - started),
    )
    return write_report(output / "report.html", report)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _clear(output: Path) -> None:
    if output.exists() and any(output.iterdir()):
        if not (output / MARKER).exists():
            raise DataError(
                f"{output} is not empty and not from a demo.", expected="a new folder", fix="choose another -o"
            )
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / MARKER).touch()


def _deploy(folder: Path, output: Path, seed: int) -> Bundle:
    try:
        from edge_ad.methods.simplenet import SimpleNetOptions
        from edge_ad.training.export import export
        from edge_ad.training.train import train
    except ImportError as exc:
        raise MissingDependency(
            "The demo trains and exports.", got=f"no {exc.name}", fix="pip install 'edge-ad[train,build,tensorrt]'"
        ) from exc
    _say("2/6 training SimpleNet on PDN-S features")
    run = train("simplenet", folder, output / "run", SimpleNetOptions(steps=STEPS, seed=seed))
    _say("3/6 exporting the one graph")
    return export(run, output / "flange.bundle")


def _calibrate(bundle: Bundle, folder: Path, seed: int) -> dict[str, Any]:
    from calibration import CalibrationOptions, calibrate

    return calibrate(bundle, CalibrationOptions(images=folder, test=folder, seed=seed))


def _inspect(bundle: Bundle, dataset: Dataset) -> tuple[tuple[InspectedPart, ...], str]:
    parts = []
    with Inspector(bundle) as inspector, Progress("inspecting", len(dataset.test)) as progress:
        for item in dataset.test:
            image = read_image(item.path)
            inspection = inspector.inspect(image)
            parts.append(
                InspectedPart(
                    name=f"{item.defect}/{item.path.name}",
                    truth=item.defect,
                    image=image,
                    overlay=draw_heat(image, inspection),
                    inspection=inspection,
                )
            )
            progress.step()
        return tuple(parts), inspector.backend


def _precision_row(precision: str, row: dict[str, Any]) -> PrecisionRow:
    return PrecisionRow(
        precision=precision,
        image_auroc=row["image_auroc"],
        pixel_auroc=row["pixel_auroc"],
        score_shift=row["score_shift"],
        map_error=row["map_error"],
        threshold=row["threshold"],
        graph_bytes=row["bytes"],
        latency_ms=row["latency_ms"],
    )


def _engine_row(built: BuiltEngine) -> EngineRow:
    entry = built.entry
    return EngineRow(
        precision=entry.precision,
        target=entry.target,
        flavour=entry.flavour,
        version=entry.version,
        engine_bytes=built.size_bytes,
        build_s=None if built.cached else built.seconds,
    )


def _provenance(bundle: Bundle, costs: dict[str, Any], seed: int, seconds: float) -> dict[str, str]:
    manifest = bundle.manifest
    options = manifest.provenance["options"]
    return {
        "Method": f"{manifest.method}, backbone {options['backbone']}, {options['steps']} steps, seed {seed}",
        "Data": f"{TRAIN} parts to learn from, {VALIDATION} more to calibrate, all drawn by the program",
        "Frames": f"{manifest.input.height} x {manifest.input.width}, uint8 BGR",
        "Thresholds": costs["threshold_images"],
        "Left in float16": ", ".join(costs["int8"]["float_layers"]) or "no convolution",
        "Bundle": bundle.path.name,
        "Graph (float32)": f"sha256 {manifest.files['model.onnx'][:16]}…",
        "Machine": f"{platform.system()} {platform.machine()}, {platform.processor() or 'CPU'}",
        "Versions": ", ".join(f"{name} {version}" for name, version in manifest.provenance["versions"].items()),
        "edge_ad": __version__,
        "Whole demo": f"{seconds:.0f} s",
    }
