"""From a training run to a bundle with the one graph in float32."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch

from edge_ad.algebra import PassRow, optimise, total_macs
from edge_ad.algebra.keep_region import keep_region
from edge_ad.backends.onnxruntime import OUTPUTS, answer_frames, open_session
from edge_ad.bundle import REPORT_FILE, Bundle, create_bundle
from edge_ad.errors import ExportError
from edge_ad.frame import Image, read_image
from edge_ad.golden import GOLDEN_FILE, Answer, Golden, golden_error
from edge_ad.manifest import Manifest, PrecisionEntry, Size
from edge_ad.methods.graph import InspectionGraph
from edge_ad.progress import Progress
from edge_ad.threshold import FittedThreshold, fit_threshold
from edge_ad.training.region import Box, RegionOfInterest, defect_within
from edge_ad.training.run import RunRecord
from edge_ad.training.train import load_run

__all__ = ["PARITY_TOLERANCE", "at_camera_size", "export", "onnx_from_graph"]

GRAPH_FILE = "model.onnx"
OPSET = 18
PARITY_TOLERANCE = 1e-3  # largest score difference torch - ONNX Runtime, in spreads of normal scores
PARITY_BATCHES = (1, 2, 5)
OF_PLACES = ("efficientad-s", "efficientad-m", "simplenet", "uninformed-students")  # their scores are maxima of maps
FILES_OF_OPTIONS = ("weights", "teacher", "teachers", "penalty_images")  # paths of the training machine


def export(
    run: Path,
    output: Path,
    *,
    camera: tuple[int, int] | None = None,
    region: Path | None = None,
    force: bool = False,
) -> Bundle:
    """Write a bundle for frames of `camera` (height, width), by default the size of the training images.

    The graph goes through the exact passes of edge_ad.algebra. The threshold comes from the run's validation images.
    Torch and ONNX Runtime are compared on them.

    Args:
        region: An image of the camera's size, black where nothing matters: the score is that of the rest alone.

    Raises:
        TrainingError: `run` is not a finished run.
        ExportError: Torch and ONNX Runtime disagree, the validation images are gone, or the method's score cannot be
            limited to a region.
        DataError: `region` is of another size, or black all over.
        BundleError: The bundle cannot be written.
    """
    network, record, options = load_run(run)
    camera = camera or record.camera
    graph = InspectionGraph(network, camera, options["image_size"]).eval()
    model, passes = optimise(onnx.load_model_from_string(onnx_from_graph(graph)))
    session = open_session(model.SerializeToString(), f"the graph of {run}")
    frames = _validation_frames(record, camera)
    fitted = fit_threshold(_scores(session, frames))
    parity = _check_parity(graph, session, frames, fitted.score_spread)
    provenance = {"macs": {"as_written": passes[0].macs_before, "exported": passes[-1].macs_after}}
    box = None
    if region is not None:
        of_interest = RegionOfInterest.read(region, camera)
        box = of_interest.box
        session = _limit(model, session, of_interest, frames, record.method)
        fitted = fit_threshold(_scores(session, frames))
        provenance["macs"]["exported"] = total_macs(model)
        provenance["region_of_interest"] = of_interest.facts()
    images = _golden_frames(frames, box)
    golden = Golden(image=images, answers={"fp32": answer_frames(session, images)})
    manifest = _manifest(record, options, camera, golden.answers["fp32"], fitted, passes)
    manifest.provenance.update(provenance)
    report = {"fp32": {"threshold": fitted.threshold, "torch_parity_spreads": parity}}
    files = {
        GRAPH_FILE: model.SerializeToString(),
        GOLDEN_FILE: golden.to_bytes(),
        REPORT_FILE: json.dumps(report, indent=2).encode() + b"\n",
    }
    return create_bundle(output, manifest, files, force=force)


def onnx_from_graph(graph: InspectionGraph) -> bytes:
    """The graph as ONNX with a dynamic batch, constants folded and batch norms merged into convolutions."""
    height, width = graph.camera
    image = torch.zeros(2, height, width, 3, dtype=torch.uint8)  # a batch of 1 would be baked in
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (image,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=list(OUTPUTS),
                dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
                verbose=False,
            )
    except Exception as exc:  # the exporter raises many types
        raise ExportError("The network could not be exported to ONNX.", got=exc) from exc
    buffer = io.BytesIO()
    onnx.save(_stripped(program.model_proto), buffer)
    return _folded(buffer.getvalue())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own deprecations, and its regret that torchvision is absent, which is not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the exporter's stack traces: they hold paths of the machine that exported."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    return model


def _folded(content: bytes) -> bytes:
    """Semantics-preserving clean-up by ONNX Runtime: constant folding, batch norm into convolution."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    foreign = {node.op_type for node in model.graph.node if node.domain not in ("", "ai.onnx")}
    if foreign:
        raise ExportError("The graph holds operators outside standard ONNX.", got=sorted(foreign))
    standard = [opset for opset in model.opset_import if opset.domain == ""]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _scores(session: Any, frames: Sequence[Image]) -> np.ndarray:
    scores = []
    with Progress("validation scores", len(frames)) as progress:
        for frame in frames:
            scores.append(session.run(["score"], {"image": frame[None]})[0][0])
            progress.step()
    return np.array(scores)


def _validation_frames(record: RunRecord, camera: tuple[int, int]) -> list[Image]:
    missing = [path for path in record.validation if not Path(path).is_file()]
    if missing:
        raise ExportError(
            "The run's validation images are gone, so no threshold can be fitted.",
            expected=missing[0],
            got="no such file",
            fix="put the data set back where it was when the run was trained, or train again",
        )
    return [at_camera_size(read_image(path), camera) for path in record.validation]


def at_camera_size(image: Image, camera: tuple[int, int]) -> Image:
    """The image itself, or resized where the exported camera is not the one the images came from."""
    if image.shape[:2] == camera:
        return image
    shrinking = image.shape[0] > camera[0] or image.shape[1] > camera[1]
    height, width = camera
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return resized  # type: ignore[return-value]


def _golden_frames(frames: Sequence[Image], box: Box | None) -> np.ndarray:
    """A normal frame and one with a synthetic defect: quiet and loud activations both count."""
    return np.stack([frames[0], defect_within(frames[-1], box, np.random.default_rng(0))])


def _limit(
    model: onnx.ModelProto, session: Any, of_interest: RegionOfInterest, frames: Sequence[Image], method: str
) -> Any:
    """Limit the model to the region; returns its session, which answers as `session` does inside.

    Outside the map says what is usual inside: the median over normal frames.
    """
    maps = [session.run(OUTPUTS[:1], {"image": frame[None]})[0][0] for frame in frames]
    inside = of_interest.on_map(maps[0].shape)
    if not keep_region(model, inside, float(np.median([one[inside] for one in maps]))):
        raise ExportError(
            f"The score of {method} cannot be limited to a region.",
            expected=f"a method whose score is the highest value of a map: {', '.join(OF_PLACES)}",
            got=f"{method}, whose score describes the whole image",
            fix="leave --region out and crop the images to the part, before training and at the camera",
        )
    limited = open_session(model.SerializeToString(), "the graph of the region")
    came = limited.run(OUTPUTS[:1], {"image": frames[0][None]})[0][0]
    if not np.allclose(came[inside], maps[0][inside], rtol=1e-4, atol=1e-5 * float(np.abs(maps[0]).max())):
        raise ExportError("The graph of the region answers otherwise than the whole one.", fix="report this, please")
    return limited


def _check_parity(graph: InspectionGraph, session: Any, frames: Sequence[Image], spread: float) -> float:
    """Largest score difference between torch and ONNX Runtime over batches of 1, 2 and 5, in spreads."""
    worst = 0.0
    for batch in PARITY_BATCHES:
        images = np.stack([frames[index % len(frames)] for index in range(batch)])
        with torch.inference_mode():
            expected = tuple(output.numpy() for output in graph(torch.from_numpy(images)))
        worst = max(worst, golden_error(expected, tuple(session.run(OUTPUTS, {"image": images})), spread)[1])
    if not worst <= PARITY_TOLERANCE:
        raise ExportError(
            "Torch and ONNX Runtime disagree on the score.",
            expected=f"at most {PARITY_TOLERANCE} spreads of normal scores",
            got=f"{worst:.2g} spreads",
        )
    return worst


def _manifest(
    record: RunRecord,
    options: dict[str, Any],
    camera: tuple[int, int],
    answer: Answer,
    fitted: FittedThreshold,
    passes: Sequence[PassRow],
) -> Manifest:
    entry = PrecisionEntry(
        graph=GRAPH_FILE,
        threshold_version=1,
        **dataclasses.asdict(fitted),
    )
    map_height, map_width = answer[0].shape[1:]
    return Manifest(
        name=record.name,
        method=record.method,
        input=Size(height=camera[0], width=camera[1]),
        map=Size(height=map_height, width=map_width),
        precisions={"fp32": entry},
        provenance={
            "options": {key: value for key, value in options.items() if key not in FILES_OF_OPTIONS},
            "trained_at": list(record.camera),
            "training_hashes": list(record.training_hashes),
            "training_seconds": record.seconds,
            "passes": {row.name: row.applied for row in passes if row.applied},
            "versions": {**record.versions, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        },
    )
