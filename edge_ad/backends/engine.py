"""Engines in memory: deserialised once per process however many inspectors use them, and their execution contexts.

TensorRT lets threads share an engine as long as each has an execution context of its own, and lets contexts be made
from it at any time (developer guide, "Threading"). So an engine is loaded once for all inspectors of a bundle, and
released with the last of them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from edge_ad.backends.cuda import Device, out_of_memory
from edge_ad.backends.flavours import Flavour, capturing_logger, explain
from edge_ad.bundle import Bundle
from edge_ad.errors import EngineError, EngineMismatch
from edge_ad.manifest import EngineEntry, EngineSettings

__all__ = ["LoadedEngine", "engine_from_bytes", "release_engine", "share_engine"]

_REBUILD = "build the engine again on or for this machine: python -m build_engines BUNDLE --force"

# What TensorRT-RTX says of an engine (EngineInvalidityDiagnostics), in the words of who has to mend it.
_DIAGNOSES = {
    "VERSION_MISMATCH": ("an engine of this version", _REBUILD),
    "UNSUPPORTED_CC": ("an engine for this GPU's compute capability", _REBUILD),
    "MALFORMED_ENGINE": ("a whole engine", _REBUILD),
    "OLD_CUDA_DRIVER": ("a newer GPU driver", "update the GPU driver"),
    "OLD_CUDA_RUNTIME": ("a newer CUDA", "update the GPU driver and TensorRT"),
    "INSUFFICIENT_GPU_MEMORY": ("enough free GPU memory", "end what else uses the GPU (nvidia-smi lists it)"),
}
_UNKNOWN = (
    "an engine of this version on a machine with a working GPU",
    f"see that `nvidia-smi` works; then {_REBUILD}",
)


@dataclass(kw_only=True, eq=False)
class LoadedEngine:
    """A deserialised engine with what it needs to live; empty once its last user has released it.

    Attributes:
        source: The engine's file, for messages.
        engine: trt.ICudaEngine.
        runtime: trt.Runtime that made it.
        logger: See `capturing_logger`; shared by everything made from this engine.
    """

    source: str
    flavour: Flavour
    engine: Any
    runtime: Any
    logger: Any

    def made(self, thing: Any, what: str) -> Any:
        """`thing`, unless it is None or False: TensorRT's way to report failure.

        Raises:
            EngineError: With what TensorRT logged.
        """
        if not thing:
            told = explain(self.logger.problems)
            self.logger.problems.clear()
            raise EngineError(f"{self.source}: TensorRT refuses {what}.", got=told)
        return thing

    def context(self, config: Any, device: Device) -> Any:
        """A new trt.IExecutionContext, by a trt.IRuntimeConfig where one is given.

        Raises:
            EngineError: TensorRT refuses, for want of memory most often; with the sizes.
        """
        context = self.engine.create_execution_context(*([] if config is None else [config]))
        if context:
            return context
        told = explain(self.logger.problems)
        self.logger.problems.clear()
        wants = out_of_memory(f"an execution context of {self.source}", self._activations_bytes(), device)
        raise EngineError(
            f"{self.source}: TensorRT refuses an execution context.",
            expected=f"{wants.expected} of GPU memory for activations",
            got=f"{wants.got}; {told}",
            fix=wants.fix,
        )

    def _activations_bytes(self) -> int:
        name = "device_memory_size_v2" if hasattr(self.engine, "device_memory_size_v2") else "device_memory_size"
        return int(getattr(self.engine, name))


def engine_from_bytes(
    flavour: Flavour, content: bytes, source: str, settings: EngineSettings | None = None
) -> LoadedEngine:
    """Deserialise an engine whose bytes are proven.

    Args:
        source: The engine's file, for messages.
        settings: What it was built with; None: with none.

    Raises:
        EngineError: TensorRT refuses it, with the reason from its log.
    """
    settings = settings or EngineSettings()
    logger = capturing_logger(flavour.trt)
    try:
        runtime = flavour.trt.Runtime(logger)
    except TypeError as exc:  # pybind11's way to say that TensorRT gave none
        raise EngineError(f"{flavour.title} cannot start.", got=explain(logger.problems), fix=_UNKNOWN[1]) from exc
    if settings.version_compatible:
        runtime.engine_host_code_allowed = True  # it carries the lean runtime it was built with; its hash holds
    if settings.dla_core is not None:
        runtime.DLA_core = settings.dla_core
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:  # TensorRT reports failure by returning None
        told = explain(logger.problems)
        expected, fix = _diagnosis(flavour.trt, runtime, content)
        kind = EngineMismatch if (expected, fix) != _UNKNOWN else EngineError
        raise kind(
            f"{source} cannot be loaded by {flavour.title} {flavour.version}.", expected=expected, got=told, fix=fix
        )
    return LoadedEngine(source=source, flavour=flavour, engine=engine, runtime=runtime, logger=logger)


def _diagnosis(trt: Any, runtime: Any, content: bytes) -> tuple[str, str]:
    if hasattr(runtime, "get_engine_validity"):
        _, diagnostics = runtime.get_engine_validity(content)
        members = trt.EngineInvalidityDiagnostics.__members__
        for name, meaning in _DIAGNOSES.items():
            if name in members and int(members[name]) & int(diagnostics):
                return meaning
    return _UNKNOWN


@dataclass(kw_only=True)
class _Share:
    loaded: LoadedEngine
    users: int = 0


_shares: dict[tuple[Any, str], _Share] = {}  # by TensorRT's module and the engine's hash
_lock = threading.Lock()


def share_engine(bundle: Bundle, entry: EngineEntry, flavour: Flavour) -> LoadedEngine:
    """An engine of a bundle, deserialised unless this process has it already; give it back with `release_engine`.

    Raises:
        BundleCorrupt: The file is not the one the manifest describes; nothing was deserialised.
        EngineError: TensorRT refuses it.
    """
    content = bundle.read(entry.file)
    key = (flavour.trt, bundle.manifest.files[entry.file])
    with _lock:
        if key not in _shares:
            loaded = engine_from_bytes(flavour, content, str(bundle.path / entry.file), entry.settings)
            _shares[key] = _Share(loaded=loaded)
        _shares[key].users += 1
        return _shares[key].loaded


def release_engine(loaded: LoadedEngine) -> None:
    """One user fewer; with the last one TensorRT releases it, so the GPU's context must be current."""
    with _lock:
        key = next(key for key, share in _shares.items() if share.loaded is loaded)
        _shares[key].users -= 1
        if _shares[key].users == 0:
            del _shares[key]
            loaded.engine = None  # before the runtime that made it
            loaded.runtime = None
