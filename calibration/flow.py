"""The flow: images in; graphs, thresholds, golden answers and an honest report into the bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from calibration.budget import DEFAULT_BUDGET, Budget, Judge, image_auroc
from calibration.cost import Reference, answers_of, measure_cost, scores_of
from calibration.eight_bits import eight_bits_from_fp32
from calibration.fp16 import fp16_from_fp32, trunk_tensors
from calibration.observe import Observation, evenly, observe, with_defects
from calibration.qdq import FP8, INT8
from calibration.report import of_search
from calibration.rounding import golden_tolerances
from calibration.search import Journal
from calibration.slim import slim
from calibration.trunk import load_named
from edge_ad.backends.onnxruntime import answer_frames, open_session
from edge_ad.backends.openvino import OpenVinoSession
from edge_ad.bundle import REPORT_FILE, Bundle
from edge_ad.errors import FrameError, TooFewImages
from edge_ad.frame import check_image, read_image
from edge_ad.golden import GOLDEN_FILE, Golden, read_golden
from edge_ad.manifest import PrecisionEntry
from edge_ad.threshold import DEFAULT_FALSE_REJECT_RATE, FittedThreshold, fit_threshold
from edge_ad.training.dataset import Dataset, open_dataset
from edge_ad.training.evaluate import evaluate
from edge_ad.training.region import Box, defect_within, inspected_box
from edge_ad.training.run import image_hash

__all__ = ["CalibrationOptions", "calibrate"]

MIN_IMAGES = 10
RANGE_IMAGES = 16  # activations' ranges settle before; each counts twice, with and without a defect
BIAS_IMAGES = 4  # likewise; means over a whole frame settle sooner still
COST_IMAGES = 16  # and as many with a synthetic defect
FORMATS = {"int8": INT8, "fp8": FP8}


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """What to make and from what.

    Attributes:
        images: Normal images of the camera's size: a plain folder, or a data set's train/good (and validation/good).
        test: A data set with labelled test images, for the AUROC of each precision and for the budget.
        normal_class: The class of good parts, as open_dataset takes it.
        precisions: Of "fp16", "int8", "fp8". float32's threshold is refitted as well.
        budget: Points of image AUROC that a precision may lose; see calibration.budget.
        slim: Fewer multiplications first, within half the budget; see calibration.slim.
        false_reject_rate: Share of normal parts that may be rejected.
    """

    images: Path
    test: Path | None = None
    precisions: tuple[str, ...] = ("fp16", "int8")
    budget: float = DEFAULT_BUDGET
    slim: bool = False
    normal_class: str | None = None
    false_reject_rate: float = DEFAULT_FALSE_REJECT_RATE
    seed: int = 0


def calibrate(bundle: Bundle, options: CalibrationOptions) -> dict[str, Any]:
    """Add the precisions to the bundle, refit every threshold; returns the report (also `report.json`).

    Raises:
        TooFewImages: Fewer than 10 images.
        FrameError: An image is not of the camera's size.
        CalibrationError: A precision cannot be made.
        BundleError: The bundle cannot be read or written; then it is as it was before.
    """
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    paths = _normal_images(options, size)
    unseen, note = _unseen(paths, bundle)
    labelled = open_dataset(options.test, options.normal_class) if options.test else None
    content = bundle.read(bundle.precision("fp32").graph)
    published = open_session(content, "the float32 graph")
    baseline = fit_threshold(scores_of(published, unseen, "fp32 threshold"), options.false_reject_rate)
    box = inspected_box(bundle.manifest.provenance)
    reference = _reference(published, evenly(unseen, COST_IMAGES), baseline, box, options.seed)
    judge = Judge(
        budget=Budget(points=options.budget),
        reference=reference,
        labelled=labelled,
        auroc=image_auroc(published, labelled) if labelled else None,
    )
    journals = {
        precision: Journal(
            _journal_path(bundle, content, judge, f"{precision} {options.budget} {_runtimes(precision)}"),
            _judge_in(judge, precision, size),
        )
        for precision in (*(["slim"] if options.slim else []), *options.precisions)
    }
    graphs, report = _make(content, paths, journals, options)

    golden = read_golden(bundle)
    entries, answers = dict(bundle.manifest.precisions), dict(golden.answers)
    for precision, graph in graphs.items():
        session, fitted = published, baseline
        if precision != "fp32":
            session = open_session(graph, f"the {precision} graph", integer_kernels=precision != "fp8")
            fitted = fit_threshold(scores_of(session, unseen, f"{precision} threshold"), options.false_reject_rate)
        cost = measure_cost(session, reference)
        report[precision] |= {"threshold": fitted.threshold, "bytes": len(graph), **dataclasses.asdict(cost)}
        if labelled is not None:
            report[precision] |= _accuracy(session, labelled, size, precision, fitted.threshold)
        answers[precision] = answer_frames(session, golden.image)
        tolerances = golden_tolerances(graph, precision, reference.frames, fitted.score_spread)
        entries[precision] = _entry(precision, entries.get(precision), fitted, tolerances)
    for precision in set(entries) - set(graphs):
        report[precision] = {"threshold": entries[precision].threshold, "note": "from an earlier calibration"}
    report["threshold_images"] = note
    _store(bundle, graphs, entries, Golden(image=golden.image, answers=answers), report)
    for journal in journals.values():
        journal.close()
    return report


def _runtimes(precision: str) -> list[str]:
    """What the budget has to hold in: INT8 also in OpenVINO, which "auto" serves it with where that is installed."""
    in_openvino = precision == "int8" and importlib.util.find_spec("openvino") is not None
    return ["onnxruntime", *(["openvino"] if in_openvino else [])]


def _judge_in(judge: Judge, precision: str, size: tuple[int, int]) -> Judge:
    def open_elsewhere(graph: bytes) -> Any:
        return OpenVinoSession(graph, (1, *size, 3), precision)

    elsewhere = open_elsewhere if "openvino" in _runtimes(precision) else None
    return dataclasses.replace(judge, integer_kernels=precision != "fp8", elsewhere=elsewhere)


def _journal_path(bundle: Bundle, content: bytes, judge: Judge, what: str) -> Path:
    """Beside the bundle; another one for other frames, labels or another budget."""
    digest = hashlib.sha256(content)
    for frame, defective in zip(judge.reference.frames, judge.reference.defective, strict=True):
        digest.update(frame.tobytes() + bytes([defective]))
    for item in judge.labelled.test if judge.labelled else ():
        digest.update(f"{item.path} {item.is_defective}".encode())
    digest.update(what.encode())
    return bundle.path.with_name(f".{bundle.path.name}.{digest.hexdigest()[:16]}.calibration")


def _make(
    content: bytes, paths: list[Path], journals: dict[str, Journal], options: CalibrationOptions
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The graphs by precision, float32 first, and what is to be said of how they were made."""
    graphs = {"fp32": content}
    report: dict[str, Any] = {"fp32": {}}
    model = load_named(content)
    less_work: dict[str, Any] = {}
    if options.slim:
        slimmed = slim(model, paths, journals["slim"], options.seed)
        model, less_work = slimmed.model, {"slim": slimmed.facts()}
        base = journals["slim"].judge.reference.answered_by(open_session(model.SerializeToString(), "the slim graph"))
        for journal in journals.values():
            journal.judge = dataclasses.replace(journal.judge, base=base)

    def observe_in(graph: ModelProto) -> dict[str, Observation]:
        return observe(graph, trunk_tensors(graph), evenly(paths, RANGE_IMAGES), options.seed)

    observations = observe_in(model)
    bias_frames = [*with_defects(evenly(paths, BIAS_IMAGES), options.seed)]
    for precision in options.precisions:
        journal = journals[precision]
        if precision == "fp16":
            half = fp16_from_fp32(model, observations, journal)
            graphs[precision] = half.content
            report[precision] = of_search(half.search, model) | {"overflowing": half.overflowing}
        else:
            made = eight_bits_from_fp32(model, FORMATS[precision], observations, observe_in, bias_frames, journal)
            graphs[precision] = made.content
            report[precision] = of_search(made.search, model) | {
                "in_float32": made.in_float32,
                "ranges": made.ranges,
                "ranges_tried": {name: dataclasses.asdict(trial) for name, trial in made.tried.items()},
            }
        report[precision] |= {"budget": options.budget, "judged_on": _runtimes(precision), **less_work}
    return graphs, report


def _store(
    bundle: Bundle,
    graphs: dict[str, bytes],
    entries: dict[str, PrecisionEntry],
    golden: Golden,
    report: dict[str, Any],
) -> None:
    with bundle.edit() as edit:
        for precision, graph in graphs.items():
            if precision != "fp32":
                edit.write(entries[precision].graph, graph)
        edit.write(GOLDEN_FILE, golden.to_bytes())
        edit.write(REPORT_FILE, json.dumps(report, indent=2).encode() + b"\n")
        edit.manifest = dataclasses.replace(edit.manifest, precisions=entries)


def _normal_images(options: CalibrationOptions, size: tuple[int, int]) -> list[Path]:
    folder = options.images
    dataset = open_dataset(folder, options.normal_class)
    paths = [*dataset.train, *dataset.validation]
    if len(paths) < MIN_IMAGES:
        raise TooFewImages(
            f"{folder} holds too few normal images to calibrate with.",
            expected=f"at least {MIN_IMAGES} images of good parts from the camera",
            got=len(paths),
            fix="add images; random data is never used",
        )
    for path in paths:
        try:
            check_image(read_image(path), size)
        except FrameError as exc:
            raise FrameError(f"{path}: {exc.what}", expected=exc.expected, got=exc.got, fix=exc.fix) from exc
    return paths


def _unseen(paths: list[Path], bundle: Bundle) -> tuple[list[Path], str]:
    """Images the network was not trained on: on its own training images scores are too low for a threshold."""
    trained_on = set(bundle.manifest.provenance.get("training_hashes", ()))
    unseen = [path for path in paths if image_hash(path) not in trained_on]
    if len(unseen) >= MIN_IMAGES:
        return unseen, f"{len(unseen)} normal images, none of them trained on"
    return paths, (
        f"all {len(paths)} normal images, {len(paths) - len(unseen)} of them trained on: expect more false rejects; "
        f"with {MIN_IMAGES} or more images that were not trained on, only those are used"
    )


def _reference(session: Any, paths: Sequence[Path], baseline: FittedThreshold, box: Box | None, seed: int) -> Reference:
    """Good parts, and the same with a defect where the bundle looks for one."""
    rng = np.random.default_rng((seed, 1))
    good = [read_image(path) for path in paths]
    frames = [*good, *(defect_within(frame, box, rng) for frame in good)]
    return Reference(
        frames=frames,
        defective=[False] * len(good) + [True] * len(good),
        answers=answers_of(session, frames),
        spread=baseline.score_spread,
        threshold=baseline.threshold,
    )


def _accuracy(
    session: Any, dataset: Dataset, size: tuple[int, int], precision: str, threshold: float
) -> dict[str, Any]:
    evaluation = evaluate(lambda images: answer_frames(session, images), dataset, size, f"{precision} accuracy")
    metrics = {key: getattr(evaluation, key) for key in ("image_auroc", "image_f1max", "pixel_auroc", "aupro")}
    verdicts = [
        (item.is_defective, score > threshold) for item, score in zip(dataset.test, evaluation.scores, strict=True)
    ]
    good, defective = ([rejected for truth, rejected in verdicts if truth is kind] for kind in (False, True))
    return metrics | {
        "intervals": {key: evaluation.intervals[key] for key in metrics if key in evaluation.intervals},
        "false_rejects": f"{sum(good)} of {len(good)}",
        "missed_defects": f"{len(defective) - sum(defective)} of {len(defective)}",
    }


def _entry(
    precision: str, before: PrecisionEntry | None, fitted: FittedThreshold, tolerances: dict[str, Any]
) -> PrecisionEntry:
    return PrecisionEntry(
        graph=before.graph if before else f"model.{precision}.onnx",
        threshold_version=before.threshold_version + 1 if before else 1,
        **dataclasses.asdict(fitted),
        **tolerances,
    )
