"""Proof of a bundle on this machine: every file's hash, then the golden vectors through every precision and backend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_ad.backends import BACKENDS, open_backend
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleMismatch, EdgeAdError, EngineError, InspectionFault, MissingDependency
from edge_ad.golden import check_golden

__all__ = ["Proof", "verify"]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The outcome for one precision on one backend.

    Attributes:
        ok: None where the backend cannot run here; `reason` says why.
        max_error: Largest error of map or score, in spreads of normal scores.
    """

    precision: str
    backend: str
    ok: bool | None
    max_error: float | None
    reason: str


def verify(bundle: str | Path) -> list[Proof]:
    """Prove a bundle.

    Raises:
        BundleCorrupt: A file is missing, truncated or altered; nothing was run.
    """
    opened = Bundle(bundle)
    opened.verify()
    return [_prove(opened, precision, backend) for precision in opened.manifest.precisions for backend in BACKENDS]


def _prove(bundle: Bundle, precision: str, backend: str) -> Proof:
    try:
        running = open_backend(bundle, precision, backend)
    except (EngineError, MissingDependency) as error:
        return Proof(precision=precision, backend=backend, ok=None, max_error=None, reason=error.what)
    except EdgeAdError as error:
        return Proof(precision=precision, backend=backend, ok=False, max_error=None, reason=str(error))
    try:
        worst = check_golden(bundle, precision, backend, running.run)
        return Proof(precision=precision, backend=backend, ok=True, max_error=worst, reason="")
    except (BundleMismatch, EngineError, InspectionFault) as error:
        return Proof(precision=precision, backend=backend, ok=False, max_error=None, reason=str(error))
    finally:
        running.close()
