"""Every asked precision and target of a bundle, compiled only where something changed."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

from build_engines.engine import engine_from_onnx
from build_engines.targets import default_target, resolve_targets
from build_engines.turing import convolutions_from_matmuls, lacks_float32_matmul
from edge_ad.backends.flavours import Flavour, load_flavour
from edge_ad.bundle import Bundle
from edge_ad.errors import BundleError
from edge_ad.manifest import EngineEntry

__all__ = ["BuildOptions", "BuiltEngine", "build"]


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to compile.

    Attributes:
        targets: "sm89" and its like, "portable", "this-gpu"; none: portable with TensorRT-RTX, else this GPU.
        precisions: Of the bundle's; none: all it has.
        flavour: "rtx" or "trt"; None: the preferred one that is installed.
        max_batch: Engines take 1 to this many frames at once.
        force: Compile even what is current.
    """

    targets: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    flavour: str | None = None
    max_batch: int = 1
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class BuiltEngine:
    """An engine that is now in the bundle.

    Attributes:
        seconds: Time to compile; 0.0 if it was current.
        cached: It was current and nothing was compiled.
    """

    entry: EngineEntry
    size_bytes: int
    seconds: float
    cached: bool


def build(bundle: Bundle, options: BuildOptions | None = None) -> list[BuiltEngine]:
    """Compile the bundle's graphs into its `engines/` folder.

    Each engine is in the bundle, whole, as soon as it is compiled: a failure keeps those before it. An engine
    is compiled again when its graph, flavour, version, target, precision or largest batch changed, or its file is
    no longer the one the manifest describes.

    Raises:
        MissingDependency, NoGpu, EngineBuildFailed: It cannot be compiled here.
        BundleError: A precision is not in the bundle, a graph is damaged, or the engine cannot be written.
    """
    options = options or BuildOptions()
    flavour = load_flavour(options.flavour)
    targets = resolve_targets(options.targets or (default_target(flavour),), flavour)
    precisions = dict.fromkeys(options.precisions or bundle.manifest.precisions)
    entries = [
        _entry(bundle, precision, target, flavour, options.max_batch) for precision in precisions for target in targets
    ]
    return [_current(bundle, entry, options.force) or _compile(bundle, entry, flavour) for entry in entries]


def _entry(bundle: Bundle, precision: str, target: str, flavour: Flavour, max_batch: int) -> EngineEntry:
    return EngineEntry(
        file=f"engines/{precision}-{flavour.name}-{flavour.version}-{target}.engine",
        flavour=flavour.name,
        version=flavour.version,
        target=target,
        precision=precision,
        graph_sha256=bundle.manifest.files[bundle.precision(precision).graph],
        max_batch=max_batch,
    )


def _current(bundle: Bundle, entry: EngineEntry, force: bool) -> BuiltEngine | None:
    if force or entry not in bundle.manifest.engines:
        return None
    try:
        content = bundle.read(entry.file)
    except BundleError:  # lost or damaged: compiling it again is the cure
        return None
    return BuiltEngine(entry=entry, size_bytes=len(content), seconds=0.0, cached=True)


def _compile(bundle: Bundle, entry: EngineEntry, flavour: Flavour) -> BuiltEngine:
    graph = bundle.precision(entry.precision).graph
    content = bundle.read(graph)
    started = time.monotonic()
    if lacks_float32_matmul(flavour, entry):
        content = convolutions_from_matmuls(content)
    engine = engine_from_onnx(content, entry, source=str(bundle.path / graph), flavour=flavour)
    seconds = time.monotonic() - started
    _store(bundle, entry, engine)
    return BuiltEngine(entry=entry, size_bytes=len(engine), seconds=seconds, cached=False)


def _store(bundle: Bundle, entry: EngineEntry, engine: bytes) -> None:
    with bundle.edit() as edit:
        edit.write(entry.file, engine)
        others = (other for other in edit.manifest.engines if other.file != entry.file)
        edit.manifest = dataclasses.replace(edit.manifest, engines=(*others, entry))
