"""Proof of a bundle on this machine: every file's hash, then the golden vectors through every precision and engine."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from edge_ad.backends import open_backend
from edge_ad.backends.cuda import compute_capability
from edge_ad.backends.engine_choice import Machine, choose_engine
from edge_ad.backends.flavours import installed_flavours, load_flavour
from edge_ad.bundle import Bundle
from edge_ad.errors import EdgeAdError, MissingDependency
from edge_ad.golden import compare_golden, golden_mismatch
from edge_ad.manifest import EngineEntry

__all__ = ["Proof", "verify"]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The outcome for one precision on one backend.

    Attributes:
        engine: The engine's file in the bundle; None on the CPU, and where the bundle has no engine of the precision.
        ok: None where it cannot run here; `reason` says why.
        max_error: The larger of the next two.
        max_map_error: Largest error of a map, in spreads of normal scores; None where nothing ran, and where the answer
            held NaN or Inf.
        max_score_error: Likewise of a score.
        map_tolerance, score_tolerance: What they may be.
        reason: Why it was not run, or what differs, where and by how much.
    """

    precision: str
    backend: str
    engine: str | None = None
    ok: bool | None
    max_error: float | None = None
    max_map_error: float | None = None
    max_score_error: float | None = None
    map_tolerance: float | None = None
    score_tolerance: float | None = None
    reason: str = ""

    @property
    def errors(self) -> str:
        """How near the limits score and map come, in words; empty where nothing ran."""
        pairs = {
            "score": (self.max_score_error, self.score_tolerance),
            "map": (self.max_map_error, self.map_tolerance),
        }
        told = [
            f"{name} {error:.2g} of {most:.2g}" for name, (error, most) in pairs.items() if error is not None and most
        ]
        return f"off by at most {', '.join(told)} spreads" if told else ""


def verify(bundle: str | Path) -> list[Proof]:
    """Prove a bundle: each precision on the CPU, and each of its engines on this machine's GPU.

    Raises:
        BundleCorrupt: A file is missing, truncated or altered; nothing was run.
    """
    opened = Bundle(bundle)
    opened.verify()
    machine = _this_machine() if opened.manifest.engines else ""
    proofs = []
    for precision in opened.manifest.precisions:
        engines = [engine for engine in opened.manifest.engines if engine.precision == precision]
        proofs += [_prove_engine(opened, engine, machine) for engine in engines]
        if not engines:
            proofs.append(_not_run(precision, None, f"The bundle has no {precision} engine."))
        proofs += [_prove_openvino(opened, precision), _prove(opened, precision, "onnxruntime")]
    return proofs


def _this_machine() -> Machine | str:
    """What decides whether an engine can run here, or why none can."""
    try:
        capability = compute_capability()
        flavours = [load_flavour(name) for name in installed_flavours() or (None,)]
    except EdgeAdError as error:
        return error.what
    return Machine(versions={flavour.name: flavour.version for flavour in flavours}, capability=capability)


def _prove_engine(bundle: Bundle, engine: EngineEntry, machine: Machine | str) -> Proof:
    if isinstance(machine, str):
        return _not_run(engine.precision, engine.file, machine)
    alone = Bundle(bundle.path)  # with this engine alone, so that no other one is chosen
    alone.manifest = dataclasses.replace(bundle.manifest, engines=(engine,))
    try:
        choose_engine(alone, engine.precision, machine)
    except EdgeAdError as error:
        return _not_run(engine.precision, engine.file, f"{error.what} Expected: {error.expected}; got: {error.got}.")
    return dataclasses.replace(_prove(alone, engine.precision, "tensorrt"), engine=engine.file)


def _not_run(precision: str, engine: str | None, reason: str) -> Proof:
    return Proof(precision=precision, backend="tensorrt", engine=engine, ok=None, reason=reason)


def _prove_openvino(bundle: Bundle, precision: str) -> Proof:
    """No failure of the bundle: what OpenVINO does not reproduce, "auto" leaves to ONNX Runtime."""
    proof = _prove(bundle, precision, "openvino")
    return proof if proof.ok else dataclasses.replace(proof, ok=None)


def _prove(bundle: Bundle, precision: str, backend: str) -> Proof:
    try:
        running = open_backend(bundle, precision, backend)
        try:
            found = compare_golden(bundle, precision, running.name, running.run)
        finally:
            running.close()
    except MissingDependency as error:
        return Proof(precision=precision, backend=backend, ok=None, reason=error.what)
    except EdgeAdError as error:
        return Proof(precision=precision, backend=backend, ok=False, reason=str(error))
    return Proof(
        precision=precision,
        backend=backend,
        ok=found.holds,
        max_error=_finite(max(found.map.error, found.score.error)),
        max_map_error=_finite(found.map.error),
        max_score_error=_finite(found.score.error),
        map_tolerance=found.map_tolerance,
        score_tolerance=found.score_tolerance,
        reason="" if found.holds else str(golden_mismatch(bundle, precision, running.name, found)),
    )


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None
