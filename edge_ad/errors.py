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
    │   ├── NoGpu
    │   └── TargetsInvalid      targets.toml is wrong
    ├── CameraError             a camera that cannot be found, set or read
    │   ├── OptionRefused       an option that this source cannot honour
    │   ├── CameraLost          it cannot be reached, or has gone
    │   ├── NoFrame             nothing came within the wait; no trigger is concerned
    │   ├── EndOfFrames         a recorded source has told all it holds
    │   └── FrameFault          one trigger, or one frame, that ended without an image to judge
    │       ├── FrameTimeout    no frame came in time, or the trigger could not be sent in time
    │       ├── FrameIncomplete part of the image is missing
    │       ├── FrameGap        the camera made it, and it never arrived
    │       ├── FrameOverrun    it came faster than frames are read, or than the camera can be triggered
    │       ├── FrameLost       the camera was lost meanwhile
    │       └── ImageFault      frozen, black or overexposed
    ├── FrameError              a frame that does not meet the bundle's input contract
    ├── StationError            what a station cannot do as asked
    │   ├── SettingsError       station.toml is wrong
    │   ├── RecordError         the record of verdicts cannot be read or written
    │   ├── TriggerRefused      a trigger that was not accepted: it ends here, in no verdict
    │   └── DeliveryFailed      verdicts that the other side did not accept; they are sent again
    └── InspectionFault         no verdict can be given: NaN, Inf or a broken backend

Each message says what happened, what was expected, what came, and the line that fixes it.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BundleCorrupt",
    "BundleError",
    "BundleMismatch",
    "CalibrationError",
    "CameraError",
    "CameraLost",
    "DataError",
    "DatasetLayoutError",
    "DeliveryFailed",
    "EdgeAdError",
    "EndOfFrames",
    "EngineBuildFailed",
    "EngineError",
    "EngineMismatch",
    "ExportError",
    "FrameError",
    "FrameFault",
    "FrameGap",
    "FrameIncomplete",
    "FrameLost",
    "FrameOverrun",
    "FrameTimeout",
    "ImageFault",
    "InspectionFault",
    "MissingDependency",
    "NoFrame",
    "NoGpu",
    "OptionRefused",
    "RecordError",
    "SettingsError",
    "SourceError",
    "StationError",
    "TargetsInvalid",
    "TooFewImages",
    "TrainingError",
    "TriggerRefused",
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


class CameraError(EdgeAdError):
    """A camera could not be found, set or read."""


class OptionRefused(CameraError):
    """An option that this source cannot honour. Nothing is ignored in silence."""


class CameraLost(CameraError):
    """The camera cannot be reached, or has gone."""


class NoFrame(CameraError):
    """Nothing came within the wait. No trigger is concerned: one that is due still ends in a frame or a fault."""


class EndOfFrames(CameraError):
    """A recorded source has told all it holds."""


class FrameFault(CameraError):
    """One trigger, or one frame, that ended without an image to judge. A fault is never "good".

    Attributes:
        camera: The camera's name.
        sequence: The trigger's or frame's number, which no frame and no other fault of this camera carries.
        timestamp_ns: When the fault was established, nanoseconds since the epoch.
    """

    def __init__(
        self,
        what: str,
        *,
        camera: str,
        sequence: int,
        timestamp_ns: int,
        expected: object = None,
        got: object = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(what, expected=expected, got=got, fix=fix)
        self.camera, self.sequence, self.timestamp_ns = camera, sequence, timestamp_ns


class FrameTimeout(FrameFault):
    """No frame came in time, or the trigger could not be sent in time."""


class FrameIncomplete(FrameFault):
    """Part of the image is missing."""


class FrameGap(FrameFault):
    """The camera made the frame, and it never arrived."""


class FrameOverrun(FrameFault):
    """It came faster than frames are read, or than the camera can be triggered."""


class FrameLost(FrameFault):
    """The camera was lost before the frame came."""


class ImageFault(FrameFault):
    """The image is frozen, black or overexposed.

    Attributes:
        frame: The edge_ad.frame.Frame that came, to be recorded; not to be judged.
    """

    def __init__(self, what: str, *, frame: Any, expected: object, got: object, fix: str) -> None:
        super().__init__(
            what,
            camera=frame.camera,
            sequence=frame.sequence,
            timestamp_ns=frame.timestamp_ns,
            expected=expected,
            got=got,
            fix=fix,
        )
        self.frame = frame


class TargetsInvalid(EngineError):
    """A file of targets for a fleet cannot be read as one, or names what is not there."""


class FrameError(EdgeAdError):
    """A frame does not meet the bundle's input contract."""


class StationError(EdgeAdError):
    """A station cannot do what was asked of it."""


class SettingsError(StationError):
    """station.toml cannot be used as it is."""


class RecordError(StationError):
    """The record of verdicts cannot be read or written."""


class TriggerRefused(StationError):
    """A trigger that was not accepted. It has no number, and no verdict will come of it."""


class DeliveryFailed(StationError):
    """Verdicts that the other side did not accept. They stay in the record and are sent again."""


class InspectionFault(EdgeAdError):
    """No verdict can be given. A fault is never "good"."""
