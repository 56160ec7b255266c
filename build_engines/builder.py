"""Every asked precision and target of a bundle, compiled only where something changed."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path

from build_engines.abilities import computes, refuse_unable
from build_engines.engine import Compiled, engine_from_onnx
from build_engines.rectified import quantised_after_relu
from build_engines.sparsity import check_sparsity
from build_engines.targets import default_target, resolve_targets
from build_engines.turing import convolutions_from_matmuls, lacks_float32_matmul
from edge_ad.backends.flavours import Flavour, load_flavour
from edge_ad.bundle import Bundle
from edge_ad.durable import own_errors, write_durably
from edge_ad.errors import BundleError, EngineBuildFailed
from edge_ad.manifest import EngineEntry, EngineSettings

__all__ = ["BuildOptions", "BuiltEngine", "build", "compile_engine", "current_engine", "engine_entries", "store_engine"]


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to compile.

    Attributes:
        targets: "sm89" and its like, "portable", "this-gpu"; none: portable with TensorRT-RTX, else this GPU.
        precisions: Of the bundle's; none: all that a target computes.
        flavour: "rtx" or "trt"; None: the preferred one that is installed.
        max_batch: The most frames at once; the fewest and the best number are settings.
        timing_cache: File of measurements to reuse and to add to.
        force: Compile even what is current.
    """

    targets: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    flavour: str | None = None
    max_batch: int = 1
    settings: EngineSettings = field(default_factory=EngineSettings)
    timing_cache: Path | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class BuiltEngine:
    """An engine that is now in the bundle.

    Attributes:
        seconds: Time to compile; 0.0 if it was current.
        cached: It was current and nothing was compiled.
        notes: What whoever built it should know: why its precision is not confirmed, what TensorRT remarked.
    """

    entry: EngineEntry
    size_bytes: int
    seconds: float
    cached: bool
    notes: tuple[str, ...] = ()


def build(bundle: Bundle, options: BuildOptions | None = None) -> list[BuiltEngine]:
    """Compile the bundle's graphs into its `engines/` folder.

    Each engine is in the bundle, whole, as soon as it is compiled: a failure keeps those before it. An engine
    is compiled again when its graph, flavour, version, target, precision, batches or settings changed, or its file is
    no longer the one the manifest describes.

    Raises:
        MissingDependency, NoGpu, EngineBuildFailed: It cannot be compiled here, or not as asked.
        BundleError: A precision is not in the bundle, a graph is damaged, or the engine cannot be written.
    """
    options = options or BuildOptions()
    flavour = load_flavour(options.flavour)
    entries = engine_entries(bundle, options, flavour)
    built = []
    for entry in entries:
        engine = None if options.force else current_engine(bundle, entry)
        if engine is None:
            started = time.monotonic()
            compiled = compile_engine(bundle, entry, flavour, options.timing_cache)
            engine = store_engine(bundle, entry, compiled, time.monotonic() - started)
        built.append(engine)
    return built


def engine_entries(bundle: Bundle, options: BuildOptions, flavour: Flavour) -> list[EngineEntry]:
    """What the options ask of a bundle, checked against what the flavour can do."""
    if options.settings.hardware_compatible and flavour.name == "trt":
        targets: tuple[str, ...] = (_portable_from_here(options, flavour),)
    else:
        targets = resolve_targets(options.targets or (default_target(flavour),), flavour)
    precisions = dict.fromkeys(options.precisions or bundle.manifest.precisions)
    pairs = [(precision, target) for precision in precisions for target in targets]
    if not options.precisions:
        pairs = [(precision, target) for precision, target in pairs if computes(target, precision)]
    for precision, target in pairs:
        refuse_unable(flavour, precision, target, options.max_batch, options.settings, options.timing_cache)
    return [
        EngineEntry(
            file=f"engines/{precision}-{flavour.name}-{flavour.version}-{target}.engine",
            flavour=flavour.name,
            version=flavour.version,
            target=target,
            precision=precision,
            graph_sha256=bundle.manifest.files[bundle.precision(precision).graph],
            max_batch=options.max_batch,
            settings=options.settings,
        )
        for precision, target in pairs
    ]


def _portable_from_here(options: BuildOptions, flavour: Flavour) -> str:
    """Plain TensorRT measures on this GPU and then makes an engine for every GPU from Ampere on."""
    (here,) = resolve_targets(("this-gpu",), flavour)
    asked = set(options.targets) - {"this-gpu", "portable", here}
    if asked or int(here[2:]) < 80:
        raise EngineBuildFailed(
            f"{flavour.title} {flavour.version} makes hardware-compatible engines on, and for, GPUs from sm80 on.",
            expected="such a GPU, and no --target or portable",
            got=", ".join(sorted(asked)) or f"{here} (this GPU)",
            fix="leave out --target, or --hardware-compatible",
        )
    return "portable"


def current_engine(bundle: Bundle, entry: EngineEntry) -> BuiltEngine | None:
    """The bundle's engine if it is just what is asked for."""
    for known in bundle.manifest.engines:
        if known == entry:
            try:
                content = bundle.read(entry.file)
            except BundleError:  # lost or damaged: compiling it again is the cure
                return None
            return BuiltEngine(entry=known, size_bytes=len(content), seconds=0.0, cached=True)
    return None


def compile_engine(bundle: Bundle, entry: EngineEntry, flavour: Flavour, timing_cache: Path | None = None) -> Compiled:
    """Compile one engine and keep the measurements; the bundle stays as it is."""
    graph = bundle.precision(entry.precision).graph
    content, source = bundle.read(graph), str(bundle.path / graph)
    if lacks_float32_matmul(flavour, entry):
        content = convolutions_from_matmuls(content)
    content = quantised_after_relu(content)
    notes: tuple[str, ...] = ()
    if entry.settings.sparsity:
        found = check_sparsity(content, source)
        if found.dense:
            notes = (f"{len(found.dense)} of {len(found.dense) + len(found.sparse)} convolutions are not 2:4 sparse",)
    measured = _read_timing_cache(timing_cache)
    compiled = engine_from_onnx(content, entry, source=source, flavour=flavour, timing_cache=measured)
    if timing_cache is not None and compiled.timing_cache is not None:
        with own_errors(timing_cache, "the engine was not stored"):
            write_durably(timing_cache, compiled.timing_cache)
    return dataclasses.replace(compiled, remarks=(*notes, *compiled.remarks))


def _read_timing_cache(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes() if file.exists() else b""
    except OSError as exc:
        raise EngineBuildFailed(
            f"{file} cannot be read.", got=exc.strerror, fix="another file for --timing-cache"
        ) from exc


def store_engine(bundle: Bundle, entry: EngineEntry, compiled: Compiled, seconds: float) -> BuiltEngine:
    """Put a compiled engine into the bundle, in place of the one of the same name."""
    entry = dataclasses.replace(entry, precision_confirmed=compiled.confirmation.confirmed)
    with bundle.edit() as edit:
        edit.write(entry.file, compiled.content)
        others = (other for other in edit.manifest.engines if other.file != entry.file)
        edit.manifest = dataclasses.replace(edit.manifest, engines=(*others, entry))
    reason = compiled.confirmation.reason
    notes = (f"precision not confirmed: {reason}",) if reason else ()
    return BuiltEngine(
        entry=entry,
        size_bytes=len(compiled.content),
        seconds=seconds,
        cached=False,
        notes=(*notes, *compiled.remarks),
    )
