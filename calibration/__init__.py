"""Normal images to FP16 and INT8 graphs that keep their promise, with the thresholds that belong to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.cli import add_arguments, main, run

if TYPE_CHECKING:
    from calibration.flow import CalibrationOptions, calibrate

__all__ = ["CalibrationOptions", "add_arguments", "calibrate", "main", "run"]


def __getattr__(name: str) -> object:
    """onnx and scipy load when calibration starts, not when its help is asked for."""
    if name in ("CalibrationOptions", "calibrate"):
        from calibration import flow

        return getattr(flow, name)
    raise AttributeError(name)
