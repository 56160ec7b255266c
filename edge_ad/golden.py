"""Golden vectors: frames with the answers every precision must reproduce wherever the bundle runs."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_ad.bundle import Bundle
from edge_ad.errors import BundleCorrupt, BundleMismatch

__all__ = [
    "GOLDEN_FILE",
    "TOLERANCE",
    "Answer",
    "Comparison",
    "Difference",
    "Golden",
    "Run",
    "check_golden",
    "compare_golden",
    "golden_error",
    "golden_mismatch",
    "read_golden",
]

GOLDEN_FILE = "golden.npz"
_MAX_UNPACKED_BYTES = 1 << 30

# Largest allowed |difference| of score and map between a backend and the same precision's graph in ONNX Runtime on
# the machine that made the bundle, in units of the spread (standard deviation) of normal scores. Different kernels
# sum in another order (fp32), round intermediate sums differently (fp16) or flip single quantisation steps (int8, fp8).
# How far such steps move a graph's answers differs: calibration measures it, and the manifest may say more.
TOLERANCE = {"fp32": 0.01, "fp16": 0.1, "int8": 0.3, "fp8": 0.3}

Answer = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""(anomaly_map (N, h, w), score (N,)), both float32."""

Run = Callable[[npt.NDArray[np.uint8]], Answer]
"""(N, H, W, 3) uint8 BGR to an Answer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Golden:
    """Frames (N, H, W, 3) uint8 and the expected answers by precision."""

    image: npt.NDArray[np.uint8]
    answers: dict[str, Answer]

    def to_bytes(self) -> bytes:
        arrays: dict[str, npt.NDArray[np.generic]] = {"image": self.image}
        for precision, (anomaly_map, score) in self.answers.items():
            arrays[f"anomaly_map_{precision}"], arrays[f"score_{precision}"] = anomaly_map, score
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()


def read_golden(bundle: Bundle) -> Golden:
    """The bundle's golden vectors.

    Raises:
        BundleCorrupt: Damaged, or not of the manifest's shapes.
    """
    where = str(bundle.path / GOLDEN_FILE)
    packed = bundle.read(GOLDEN_FILE)
    try:
        golden = _unpack(packed, tuple(bundle.manifest.precisions))
    except Exception as exc:  # zipfile, zlib and numpy answer damage with a dozen kinds of error
        raise BundleCorrupt(f"{where} cannot be read.", got=exc, fix="export the bundle again") from exc
    _check_shapes(golden, bundle, where)
    return golden


def _unpack(packed: bytes, precisions: tuple[str, ...]) -> Golden:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
    if unpacked_bytes > _MAX_UNPACKED_BYTES:
        raise ValueError(f"it unpacks to {unpacked_bytes} bytes, more than {_MAX_UNPACKED_BYTES}")
    with np.load(io.BytesIO(packed), allow_pickle=False) as entries:
        arrays = {name: np.asarray(entries[name]) for name in entries.files}  # what is no array becomes one of bytes
        answers = {name: (arrays[f"anomaly_map_{name}"], arrays[f"score_{name}"]) for name in precisions}
        return Golden(image=arrays["image"], answers=answers)


def _check_shapes(golden: Golden, bundle: Bundle, where: str) -> None:
    size, of_map = bundle.manifest.input, bundle.manifest.map
    count = max(golden.image.shape[:1], default=1) or 1  # at least one frame
    expected: dict[str, tuple[tuple[int, ...], object]] = {"image": ((count, size.height, size.width, 3), np.uint8)}
    got: dict[str, tuple[tuple[int, ...], object]] = {"image": (golden.image.shape, golden.image.dtype)}
    for name, (anomaly_map, score) in golden.answers.items():
        expected[f"anomaly_map_{name}"] = ((count, of_map.height, of_map.width), np.float32)
        expected[f"score_{name}"] = ((count,), np.float32)
        got[f"anomaly_map_{name}"] = (anomaly_map.shape, anomaly_map.dtype)
        got[f"score_{name}"] = (score.shape, score.dtype)
    for name, wanted in expected.items():
        if got[name] != wanted:
            raise BundleCorrupt(f"{where}: {name} is wrong.", expected=_describe(*wanted), got=_describe(*got[name]))


def _describe(shape: tuple[int, ...], kind: object) -> str:
    return f"{np.dtype(kind).name} of shape {shape}"  # type: ignore[call-overload]


def golden_error(expected: Answer, got: Answer, spread: float) -> tuple[float, float]:
    """Largest |difference| of map and score, in units of `spread`; NaN or Inf count as infinite."""
    map_error, score_error = (
        _difference(wanted, came, spread).error for wanted, came in zip(expected, got, strict=True)
    )
    return map_error, score_error


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where one output differs most from its golden vector.

    Attributes:
        frame: Of the golden frames.
        place: (y, x) in the map; () for a score.
        error: |difference| in spreads of normal scores; infinite for NaN and Inf.
    """

    frame: int
    place: tuple[int, ...]
    error: float
    expected: float
    got: float


def _difference(wanted: npt.NDArray[np.float32], came: npt.NDArray[np.float32], spread: float) -> Difference:
    distance = np.abs(came.astype(np.float64) - wanted)
    distance[~np.isfinite(distance)] = np.inf
    worst = np.unravel_index(np.argmax(distance), distance.shape)
    frame, *place = (int(index) for index in worst)
    return Difference(
        frame=frame,
        place=tuple(place),
        error=float(distance[worst]) / spread,
        expected=float(wanted[worst]),
        got=float(came[worst]),
    )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every golden frame, run: what differs most in each output.

    Attributes:
        map_tolerance, score_tolerance: What they may differ by, in spreads of normal scores.
    """

    map: Difference
    score: Difference
    spread: float
    map_tolerance: float
    score_tolerance: float

    @property
    def holds(self) -> bool:
        return self.map.error <= self.map_tolerance and self.score.error <= self.score_tolerance


def compare_golden(bundle: Bundle, precision: str, backend: str, run: Run) -> Comparison:
    """Run the golden frames, one by one, and compare all of them.

    Raises:
        BundleMismatch: An answer does not have the manifest's form.
    """
    golden = read_golden(bundle)
    entry = bundle.precision(precision)
    maps, scores = golden.answers[precision]
    of_maps, of_scores = [], []
    for index in range(len(golden.image)):
        window = slice(index, index + 1)
        expected = (maps[window], scores[window])
        got = run(golden.image[window])
        _check_answer(expected, got, f"{bundle.path} in {precision} on {backend}")
        of_map, of_score = (
            dataclasses.replace(_difference(wanted, came, entry.score_spread), frame=index)
            for wanted, came in zip(expected, got, strict=True)
        )
        of_maps.append(of_map)
        of_scores.append(of_score)
    return Comparison(
        map=max(of_maps, key=lambda difference: difference.error),
        score=max(of_scores, key=lambda difference: difference.error),
        spread=entry.score_spread,
        map_tolerance=entry.map_tolerance or TOLERANCE[precision],
        score_tolerance=entry.score_tolerance or TOLERANCE[precision],
    )


def check_golden(bundle: Bundle, precision: str, backend: str, run: Run) -> float:
    """Run the golden frames, one by one, and compare; returns the largest error in units of the score spread.

    Raises:
        BundleMismatch: Naming the output that differs most, the frame and the place where, and by how much.
    """
    comparison = compare_golden(bundle, precision, backend, run)
    if not comparison.holds:
        raise golden_mismatch(bundle, precision, backend, comparison)
    return max(comparison.map.error, comparison.score.error)


def golden_mismatch(bundle: Bundle, precision: str, backend: str, comparison: Comparison) -> BundleMismatch:
    """The error of a comparison that does not hold."""
    outputs = {
        "anomaly_map": (comparison.map, comparison.map_tolerance),
        "score": (comparison.score, comparison.score_tolerance),
    }
    output, (worst, tolerance) = max(outputs.items(), key=lambda item: item[1][0].error / item[1][1])
    where = f" at {worst.place}" if worst.place else ""
    return BundleMismatch(
        f"{bundle.path} is not reproduced by {backend} in {precision}: {output} of golden frame {worst.frame} "
        f"differs by {worst.error:.3g} spreads of normal scores{where}.",
        expected=f"{worst.expected:.6g} within {tolerance:.3g} spreads of {comparison.spread:.3g}",
        got=f"{worst.got:.6g}",
        fix="build the engines again on or for this machine, or choose another backend or precision",
    )


def _check_answer(expected: Answer, got: Answer, where: str) -> None:
    for output, wanted, came in zip(("anomaly_map", "score"), expected, got, strict=True):
        if came.shape != wanted.shape or came.dtype != wanted.dtype:
            raise BundleMismatch(
                f"{where}: {output} is not what the manifest says.",
                expected=_describe(wanted.shape, wanted.dtype),
                got=_describe(came.shape, came.dtype),
                fix="export the bundle again",
            )
