"""Every error edge_ad raises on purpose.

    EdgeAdError
    ├── MissingDependency       an optional package is not installed
    ├── DataError               images or folders that cannot be used as given
    │   ├── UnreadableImage
    │   ├── DatasetLayoutError
    │   ├── SourceError         a source of frames that is missing, empty or breaks off
    │   └── TooFewImages
    ├── WeightsNotFound         a pretrained file that is never downloaded silently
    ├── TrainingError           a run that cannot start, resume or be used
    ├── ExportError             a network that cannot become the one graph
    ├── CalibrationError
    ├── BundleError             a deployment bundle that cannot be read, trusted or written
    │   ├── BundleCorrupt
    │   └── BundleMismatch      the bundle lacks what was asked of it
    ├── EngineError             an engine that cannot be built, loaded or run
    │   ├── EngineBuildFailed
    │   ├── EngineMismatch      built for another version, GPU or graph
    │   └── NoGpu
    ├── FrameError              a frame that does not meet the bundle's input contract
    └── InspectionFault         no verdict can be given: NaN, Inf or a broken backend

Each message says what happened, what was expected, what came, and the line that fixes it.
"""

from __future__ import annotations

__all__ = [
    "BundleCorrupt",
    "BundleError",
    "BundleMismatch",
    "CalibrationError",
    "DataError",
    "DatasetLayoutError",
    "EdgeAdError",
    "EngineBuildFailed",
    "EngineError",
    "EngineMismatch",
    "ExportError",
    "FrameError",
    "InspectionFault",
    "MissingDependency",
    "NoGpu",
    "SourceError",
    "TooFewImages",
    "TrainingError",
    "UnreadableImage",
    "WeightsNotFound",
]


class EdgeAdError(Exception):
    """Base of all errors of this package.

    Args:
        what: One sentence: what happened, naming the file or value.
        expected: What would have been right.
        got: What came instead.
        fix: The command or change that mends it.
    """

    def __init__(
        self,
        what: str,
        *,
        expected: object = None,
        got: object = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.expected, self.got, self.fix = what, expected, got, fix
        rows = [("expected", expected), ("got", got), ("fix", fix)]
        lines = [f"  {name + ':':<9} {value}" for name, value in rows if value is not None]
        super().__init__("\n".join([what, *lines]))


class MissingDependency(EdgeAdError):
    """A package of an optional extra is needed and not installed."""


class DataError(EdgeAdError):
    """Images or folders that cannot be used as given."""


class UnreadableImage(DataError):
    """A file that should be an image could not be decoded."""


class DatasetLayoutError(DataError):
    """A data set folder does not have a layout we know."""


class SourceError(DataError):
    """A source of frames is missing, empty, closed or breaks off."""


class TooFewImages(DataError):
    """Fewer images than the step needs to be meaningful."""


class WeightsNotFound(EdgeAdError):
    """A pretrained weight file is missing. Nothing is ever downloaded silently."""


class TrainingError(EdgeAdError):
    """A training run that cannot start, resume or be used."""


class ExportError(EdgeAdError):
    """A trained network could not be turned into the one graph."""


class CalibrationError(EdgeAdError):
    """A precision could not be made trustworthy."""


class BundleError(EdgeAdError):
    """A bundle could not be read, trusted or written."""


class BundleCorrupt(BundleError):
    """A file of the bundle is missing, truncated, altered or unsafe."""


class BundleMismatch(BundleError):
    """The bundle is sound, but lacks what was asked of it."""


class EngineError(EdgeAdError):
    """A TensorRT engine could not be built, loaded or run."""


class EngineBuildFailed(EngineError):
    """TensorRT's parser or builder refused the graph."""


class EngineMismatch(EngineError):
    """An engine was built for another TensorRT version, GPU or graph."""


class NoGpu(EngineError):
    """A GPU is needed here and none can be used."""


class FrameError(EdgeAdError):
    """A frame does not meet the bundle's input contract."""


class InspectionFault(EdgeAdError):
    """No verdict can be given. A fault is never "good"."""
