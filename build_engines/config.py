"""A builder's configuration from what is asked of an engine. What is set is read back: nothing is lost in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from build_engines.targets import PORTABLE, compiles_for_others
from build_engines.tensorrt8 import pin_types
from edge_ad.backends.flavours import INPUT, explain
from edge_ad.errors import EngineBuildFailed
from edge_ad.manifest import EngineEntry

if TYPE_CHECKING:
    from build_engines.engine import Network

__all__ = ["config_from_entry"]


def config_from_entry(network: Network, entry: EngineEntry, timing_cache: bytes | None = None) -> Any:
    """A trt.IBuilderConfig: the graph's precision, one target, one batch profile, and the entry's settings.

    Args:
        timing_cache: The measurements of earlier builds; empty to begin with; None: keep none.

    Raises:
        EngineBuildFailed: TensorRT does not take a setting.
    """
    trt, config = network.flavour.trt, network.builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the engine inspector tells only names
    if network.graph8 is not None:
        _type_weakly(network, config)
    if entry.target != PORTABLE and compiles_for_others(network.flavour):
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, entry.target.upper()), 0)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # else TensorRT-RTX may not let a CUDA graph capture it
        _set_flag(network, config, trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    config.add_optimization_profile(_batch_profile(network, entry))
    _apply_settings(network, config, entry)
    if timing_cache is not None:
        _set_timing_cache(network, config, timing_cache)
    if network.errors():
        raise _not_taken(network, "a setting", "no error", explain(network.errors()))
    return config


def _type_weakly(network: Network, config: Any) -> None:
    """What types weakly uses a graph's FP16 or Q/DQ only where the builder may, and then wherever it likes."""
    flags, graph = network.flavour.trt.BuilderFlag, network.graph8
    assert graph is not None
    if graph.quantised:
        _set_flag(network, config, flags.INT8)
    if "fp16" in graph.types.values():
        _set_flag(network, config, flags.FP16)
        _set_flag(network, config, flags.OBEY_PRECISION_CONSTRAINTS)
        pin_types(network.definition, network.flavour.trt, graph.types)


def _batch_profile(network: Network, entry: EngineEntry) -> Any:
    profile = network.builder.create_optimization_profile()
    frame = tuple(network.definition.get_input(0).shape)[1:]
    best = entry.settings.opt_batch or entry.max_batch
    least, best_shape, most = ((count, *frame) for count in (entry.settings.min_batch, best, entry.max_batch))
    profile.set_shape(INPUT, least, best_shape, most)
    return profile


def _apply_settings(network: Network, config: Any, entry: EngineEntry) -> None:
    trt, settings = network.flavour.trt, entry.settings
    if settings.optimization_level is not None:
        _set(network, config, "builder_optimization_level", settings.optimization_level)
    if settings.workspace_mib is not None:
        pool, size = trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20
        config.set_memory_pool_limit(pool, size)
        if config.get_memory_pool_limit(pool) != size:
            raise _not_taken(network, "the workspace limit", size, config.get_memory_pool_limit(pool))
    if settings.sparsity:
        _set_flag(network, config, trt.BuilderFlag.SPARSE_WEIGHTS)
    if settings.version_compatible:
        _set_flag(network, config, trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.hardware_compatible:
        _set(network, config, "hardware_compatibility_level", trt.HardwareCompatibilityLevel.AMPERE_PLUS)
    if settings.dla_core is not None:
        _use_dla(network, config, settings.dla_core)


def _use_dla(network: Network, config: Any, core: int) -> None:
    trt, cores = network.flavour.trt, network.builder.num_DLA_cores
    if core >= cores:
        raise EngineBuildFailed(
            f"{network.flavour.title} {network.flavour.version} sees no DLA core {core} here.",
            expected=f"a core below {cores}" if cores else "a Jetson with a DLA, and a TensorRT that serves it",
            got=f"--dla {core}, {cores} cores",
            fix="leave out --dla; TensorRT 10.8 to 11.3 serve no DLA",
        )
    _set(network, config, "default_device_type", trt.DeviceType.DLA)
    _set(network, config, "DLA_core", core)
    _set_flag(network, config, trt.BuilderFlag.GPU_FALLBACK)


def _set(network: Network, config: Any, name: str, value: Any) -> None:
    setattr(config, name, value)
    if getattr(config, name) != value:
        raise _not_taken(network, name, value, getattr(config, name))


def _set_flag(network: Network, config: Any, flag: Any) -> None:
    config.set_flag(flag)
    if not config.get_flag(flag):
        raise _not_taken(network, f"the flag {flag.name}", "set", "not set")


def _set_timing_cache(network: Network, config: Any, content: bytes) -> None:
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        raise EngineBuildFailed(
            f"The timing cache does not fit {network.flavour.title} {network.flavour.version} on this GPU.",
            expected="a file that this version wrote on this kind of GPU",
            got=explain(network.errors()),
            fix="choose another file for --timing-cache: one per version and kind of GPU",
        )


def _not_taken(network: Network, what: str, expected: object, got: object) -> EngineBuildFailed:
    return EngineBuildFailed(
        f"{network.source}: {network.flavour.title} {network.flavour.version} does not take {what}.",
        expected=expected,
        got=got,
        fix="leave out the option, or use another TensorRT",
    )
