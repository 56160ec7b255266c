"""The whole comparison: every method trained, deployed and judged; one that fails does not stop the others."""

from __future__ import annotations

import json
import platform
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from edge_ad import __version__
from edge_ad.bundle import REPORT_FILE, Bundle
from edge_ad.compare.contenders import Contender, changed_options
from edge_ad.compare.deploy import deploy
from edge_ad.compare.examples import examples
from edge_ad.compare.findings import Comparison, Failure, Row
from edge_ad.compare.judge import LATENCY_FRAMES, Judged, judge, latencies_ms
from edge_ad.compare.memory import fingerprint
from edge_ad.errors import DatasetLayoutError, EdgeAdError
from edge_ad.report.machine import describe_machine
from edge_ad.training.dataset import Dataset, open_dataset
from edge_ad.training.run import read_run

__all__ = ["compare"]

SHOWN = "int8"  # what a station runs


def compare(
    folder: Path,
    contenders: Sequence[Contender],
    *,
    fp16: bool = False,
    budget: float | None = None,
    slim: bool = False,
    region: Path | None = None,
    normal_class: str | None = None,
) -> Comparison:
    """Judge all contenders on the test images of a data set.

    Args:
        folder: A data set with good and defective test images.
        contenders: Each with a run of its own, whose bundle and measurements are kept beside it.
        fp16: Judge FP16 as well as float32 and INT8.
        budget: Points of image AUROC that INT8 and FP16 may lose on these test images, whose labels calibration then
            sees; None: it sees normal images and synthetic defects alone.
        slim: Lower ranks before fewer bits, within half the budget.
        region: An image that is black where nothing matters, as `export` takes it. Methods whose score describes the
            whole image fail.
        normal_class: As open_dataset takes it.

    Raises:
        DatasetLayoutError: The data set has no good or no defective test images.
    """
    dataset = open_dataset(folder, normal_class)
    _check_labels(dataset)
    data = fingerprint({name: value for name, value in vars(dataset).items() if name != "root"})
    precisions = ("fp32", "fp16", "int8") if fp16 else ("fp32", "int8")
    judged: list[Judged] = []
    failures = []
    for number, contender in enumerate(contenders, 1):
        print(f"{number} of {len(contenders)} methods: {contender.method}", file=sys.stderr, flush=True)
        try:
            bundle = deploy(
                contender,
                dataset,
                data,
                precisions[1:],
                budget=budget,
                slim=slim,
                region=region,
                normal_class=normal_class,
            )
            judged += [judge(contender, bundle, precision, dataset, data) for precision in precisions]
        except Exception as error:  # whatever it is, the other methods' hours are not lost
            failures.append(Failure(method=contender.method, error=_explained(error)))
            print(f"{contender.method} failed: {failures[-1].error}", file=sys.stderr, flush=True)
    judged = _by_accuracy(judged)
    times = latencies_ms(judged, dataset)
    return Comparison(
        dataset=dataset.name,
        rows=tuple(_row(one, dataset, ms) for one, ms in zip(judged, times, strict=True)),
        failures=tuple(failures),
        examples=examples([one for one in judged if one.precision == SHOWN], dataset) if judged else (),
        shown=SHOWN,
        machine=describe_machine(),
        facts=_facts(dataset, judged),
    )


def _check_labels(dataset: Dataset) -> None:
    defective = sum(item.is_defective for item in dataset.test)
    if not 0 < defective < len(dataset.test):
        raise DatasetLayoutError(
            f"{dataset.root} cannot tell methods apart.",
            expected="good and defective test images: test/good and test/DEFECT",
            got=f"{len(dataset.test) - defective} good, {defective} defective",
            fix="add labelled test images",
        )


def _explained(error: Exception) -> str:
    if not isinstance(error, EdgeAdError):
        traceback.print_exc(file=sys.stderr)
    return f"{type(error).__name__}: {error}"


def _by_accuracy(judged: list[Judged]) -> list[Judged]:
    """The methods by image AUROC of the shown precision; their precisions stay together and in order."""
    auroc = {one.contender.method: one.evaluation.image_auroc or 0.0 for one in judged if one.precision == SHOWN}
    return sorted(judged, key=lambda one: -auroc[one.contender.method])


def _row(one: Judged, dataset: Dataset, ms: Any) -> Row:
    record, options = read_run(one.contender.run)
    evaluation = one.evaluation
    rejected = np.array(evaluation.scores) > one.threshold
    defective = np.array([item.is_defective for item in dataset.test])
    low, median, high = (float(value) for value in np.percentile(ms, (25, 50, 75)))
    return Row(
        method=one.contender.method,
        precision=one.precision,
        backend=one.backend,
        images=evaluation.images,
        good_images=int((~defective).sum()),
        defective_images=int(defective.sum()),
        image_auroc=evaluation.image_auroc,
        image_average_precision=evaluation.image_average_precision,
        image_f1max=evaluation.image_f1max,
        pixel_auroc=evaluation.pixel_auroc,
        aupro=evaluation.aupro,
        spro=evaluation.spro,
        intervals=evaluation.intervals,
        per_defect=evaluation.per_defect,
        threshold=one.threshold,
        false_rejects=int((rejected & ~defective).sum()),
        missed_defects=int((~rejected & defective).sum()),
        latency_p50_ms=median,
        latency_quartiles_ms=(low, high),
        graph_bytes=len(one.bundle.read(one.bundle.precision(one.precision).graph)),
        parameters=_parameters(one.contender.run / "model.safetensors"),
        training_seconds=record.seconds,
        training_images=len(record.training_hashes),
        changed_options=changed_options(record.method, options),
        **(_quantised(_report(one.bundle)["int8"]) if one.precision == "int8" else {}),
    )


def _parameters(file: Path) -> int:
    with safe_open(file, framework="numpy") as tensors:
        return sum(int(np.prod(tensors.get_slice(name).get_shape())) for name in tensors.keys())  # noqa: SIM118


def _report(bundle: Bundle) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(bundle.read(REPORT_FILE))
    return report


def _quantised(report: dict[str, Any]) -> dict[str, Any]:
    slim = report.get("slim")
    return {
        "float_layers": len(report["float_layers"]),
        "convolutions": len(report["work_share"]),
        "within_limits": report["within_limits"],
        "plain_image_auroc": report["plain"]["image_auroc"],
        "work": slim["macs_after"] / slim["macs_before"] if slim else None,
    }


def _facts(dataset: Dataset, judged: Sequence[Judged]) -> dict[str, str]:
    defective = sum(item.is_defective for item in dataset.test)
    machine = describe_machine()
    bases = dict.fromkeys(_report(one.bundle)["threshold_images"] for one in judged)
    regions = [shown for one in judged if (shown := one.bundle.manifest.provenance.get("region_of_interest"))]
    facts = {
        "Data": f"{dataset.name}: {len(dataset.train)} good images to learn from, "
        f"{len(dataset.validation)} to validate; {len(dataset.test) - defective} good, {defective} defective to test",
        "Thresholds": "; ".join(bases),
        "Region of interest": f"{regions[0]['share']:.0%} of the frame" if regions else "",
        "Intervals": "95 %, over the test images; a method's luck in training is not in them",
        "Latency": f"median of up to {LATENCY_FRAMES} test frames, one at a time; every method answers a frame before "
        "the next frame, in an order drawn anew",
        "Backend": ", ".join(dict.fromkeys(one.backend for one in judged)),
        "Machine": f"{machine['processor']}, {machine['cores']} cores, {machine['system']}",
        "Versions": f"edge_ad {__version__}, ONNX Runtime {machine['onnxruntime']}, Python {platform.python_version()}",
    }
    return {label: text for label, text in facts.items() if text}
