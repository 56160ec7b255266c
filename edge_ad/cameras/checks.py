"""Is this an image to judge at all? A frozen, black or overexposed one is a fault, never a verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_ad.errors import ImageFault
from edge_ad.frame import Frame, Image

__all__ = ["ImageChecks", "ImageWatch"]

_SAMPLES = 65_536  # pixels looked at for brightness, on a regular grid: 0.1 % of them is still 65


@dataclass(frozen=True, kw_only=True)
class ImageChecks:
    """What makes an image unfit to judge. None switches a check off.

    The defaults stop what no part can look like, and let dark field and back light pass.

    Attributes:
        frozen_after: So many images in a row with the same bytes are a fault, from the last of them on. A sensor's
            noise makes no two alike; a compressed stream of a still scene may repeat itself, so raise it there.
            Recorded sources are never frozen.
        black_level: An image is black if `black_share` of its pixels have no channel above this grey level: no light,
            a covered lens.
        black_share: See black_level.
        overexposed_level: An image is overexposed if `overexposed_share` of its pixels have a channel at or above this
            grey level.
        overexposed_share: See overexposed_level.
    """

    frozen_after: int | None = 5
    black_level: int | None = 12
    black_share: float = 0.999
    overexposed_level: int | None = 250
    overexposed_share: float = 0.95


class ImageWatch:
    """Applies the checks to one camera's frames, one after another.

    Args:
        checks: What to check.
        may_repeat: Whether images of the same bytes in a row mean nothing.
    """

    def __init__(self, checks: ImageChecks, *, may_repeat: bool) -> None:
        self.checks = checks
        self._frozen_after = None if may_repeat else checks.frozen_after
        self._previous: Image | None = None
        self._alike = 1

    def check(self, frame: Frame) -> None:
        """Raise ImageFault if the frame is unfit to judge. Its image must not change until the next check."""
        self._check_frozen(frame)
        self._check_brightness(frame)

    def _check_frozen(self, frame: Frame) -> None:
        if self._frozen_after is None:
            return
        self._alike = self._alike + 1 if _same(self._previous, frame.image) else 1
        self._previous = frame.image
        if self._alike >= self._frozen_after:
            raise ImageFault(
                f"The image of {frame.camera} is frozen.",
                frame=frame,
                expected="images that differ at least in their noise",
                got=f"{self._alike} images in a row with the same bytes",
                fix="restart the camera; for a compressed stream of a still scene raise checks.frozen_after",
            )

    def _check_brightness(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        step = max(1, int((height * width / _SAMPLES) ** 0.5))
        brightest = frame.image[::step, ::step].max(axis=2)
        checks = self.checks
        if checks.black_level is not None:
            share = np.count_nonzero(brightest <= checks.black_level) / brightest.size
            if share >= checks.black_share:
                raise ImageFault(
                    f"The image of {frame.camera} is black.",
                    frame=frame,
                    expected=f"less than {checks.black_share:.1%} of the pixels at or below {checks.black_level}",
                    got=f"{share:.1%}",
                    fix="check the light, the lens cap and the exposure",
                )
        if checks.overexposed_level is not None:
            share = np.count_nonzero(brightest >= checks.overexposed_level) / brightest.size
            if share >= checks.overexposed_share:
                raise ImageFault(
                    f"The image of {frame.camera} is overexposed.",
                    frame=frame,
                    expected=f"less than {checks.overexposed_share:.0%} of the pixels at {checks.overexposed_level} "
                    "or above",
                    got=f"{share:.1%}",
                    fix="shorten the exposure or lower the gain; check for stray light",
                )


def _same(previous: Image | None, image: Image) -> bool:
    """Whether the bytes are equal. The first row tells nearly always."""
    return (
        previous is not None
        and previous.shape == image.shape
        and np.array_equal(previous[0], image[0])
        and np.array_equal(previous, image)
    )
