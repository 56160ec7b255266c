"""ONNX bytes to engine bytes in small steps: parse, check, configure, build. The same for both flavours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from build_engines.monitor import TOTAL, Build, progress_monitor
from build_engines.targets import PORTABLE, compiles_for_others
from edge_ad.backends.flavours import INPUT, Flavour, capturing_logger, explain
from edge_ad.backends.onnxruntime import OUTPUTS
from edge_ad.errors import EngineBuildFailed
from edge_ad.manifest import EngineEntry
from edge_ad.progress import Progress

__all__ = ["Network", "config_from_entry", "engine_from_network", "engine_from_onnx", "network_from_onnx"]

_LEGACY_FLAGS: dict[str, list[str]] = {"fp32": [], "fp16": ["FP16"], "int8": ["INT8"], "fp8": ["FP8"]}


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A parsed graph. The definition lives only as long as its parser, builder and logger, so they stay together.

    Attributes:
        source: The ONNX file, for messages.
    """

    flavour: Flavour
    source: str
    definition: Any
    parser: Any
    builder: Any
    logger: Any


def engine_from_onnx(graph: bytes, entry: EngineEntry, *, source: str, flavour: Flavour) -> bytes:
    """Compile a graph.

    Args:
        graph: The ONNX file's bytes.
        entry: What to make of it. Plain TensorRT compiles for this machine's GPU whatever its target says.
        source: The ONNX file's path, for messages.

    Raises:
        EngineBuildFailed: Naming the node where TensorRT names it.
    """
    network = network_from_onnx(graph, source=source, flavour=flavour)
    return engine_from_network(network, config_from_entry(network, entry), entry)


def network_from_onnx(graph: bytes, *, source: str, flavour: Flavour) -> Network:
    """Parse and check a graph.

    Raises:
        EngineBuildFailed: The parser refuses a node, or the graph does not have a bundle's inputs and outputs.
    """
    logger = capturing_logger(flavour.trt)
    builder = flavour.trt.Builder(logger)
    definition = builder.create_network(_network_flags(flavour.trt))
    parser = flavour.trt.OnnxParser(definition, logger)
    if not parser.parse(graph):
        raise _refused(parser, source, flavour)
    network = Network(
        flavour=flavour, source=source, definition=definition, parser=parser, builder=builder, logger=logger
    )
    _check_contract(network)
    return network


def _network_flags(trt: Any) -> int:
    """Strongly typed where it exists, so that precision is the graph's alone; before, explicit batch was a choice."""
    flags = trt.NetworkDefinitionCreationFlag
    for name in ("STRONGLY_TYPED", "EXPLICIT_BATCH"):
        if hasattr(flags, name):
            return 1 << int(getattr(flags, name))
    return 0


def _refused(parser: Any, source: str, flavour: Flavour) -> EngineBuildFailed:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    places = dict.fromkeys(_place(error) for error in errors)
    return EngineBuildFailed(
        f"{source}: {flavour.title} {flavour.version} cannot parse {' and '.join(places) or 'the file'}.",
        expected="an ONNX graph of operators and types that TensorRT supports",
        got=explain([error.desc() for error in errors]),
        fix="export the bundle again; uint8 may enter a Cast only" if errors else "export the bundle again",
    )


def _place(error: Any) -> str:
    if error.node() < 0:  # the file as a whole
        return "the file"
    if not hasattr(error, "node_name"):  # TensorRT before 10 gives only the number
        return f"node {error.node()}"
    return f"node {error.node()}, {error.node_operator()} {error.node_name()!r}"


def _check_contract(network: Network) -> None:
    trt, definition = network.flavour.trt, network.definition
    tensors = [definition.get_input(index) for index in range(definition.num_inputs)]
    tensors += [definition.get_output(index) for index in range(definition.num_outputs)]
    got = {tensor.name: tensor.dtype for tensor in tensors}
    expected = {INPUT: trt.uint8, **dict.fromkeys(OUTPUTS, trt.float32)}
    if got != expected:
        raise EngineBuildFailed(
            f"{network.source} does not have a bundle's inputs and outputs.",
            expected=_listing(expected),
            got=_listing(got) or "no inputs or outputs",
            fix="export the bundle again",
        )


def _listing(dtypes: dict[str, Any]) -> str:
    return ", ".join(f"{name} {dtype.name.lower()}" for name, dtype in dtypes.items())


def config_from_entry(network: Network, entry: EngineEntry) -> Any:
    """A trt.IBuilderConfig: the graph's precision, one target, batches of 1 to the entry's `max_batch`."""
    trt, config = network.flavour.trt, network.builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        # A weakly typed TensorRT ignores a graph's FP16 or Q/DQ unless the builder may use them.
        for name in _LEGACY_FLAGS[entry.precision]:
            config.set_flag(getattr(trt.BuilderFlag, name))
    if entry.target != PORTABLE and compiles_for_others(network.flavour):
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, entry.target.upper()), 0)
    config.add_optimization_profile(_batch_profile(network, entry.max_batch))
    return config


def _batch_profile(network: Network, max_batch: int) -> Any:
    profile = network.builder.create_optimization_profile()
    frame = tuple(network.definition.get_input(0).shape)[1:]
    profile.set_shape(INPUT, (1, *frame), (max_batch, *frame), (max_batch, *frame))
    return profile


def engine_from_network(network: Network, config: Any, entry: EngineEntry) -> bytes:
    """Build, showing progress.

    Raises:
        EngineBuildFailed: With the errors TensorRT logged.
        KeyboardInterrupt: Ctrl-C; the build ended at its next step.
    """
    with Progress(f"{entry.precision} engine for {entry.target}", TOTAL) as progress:
        build = Build(progress)
        if hasattr(config, "progress_monitor"):
            config.progress_monitor = progress_monitor(network.flavour.trt, build)
        with build.interruptible():
            plan = network.builder.build_serialized_network(network.definition, config)
        build.raise_failure()
        if plan is None:  # TensorRT reports failure by returning None
            raise _not_built(network, entry)
        build.complete()
    return bytes(plan)


def _not_built(network: Network, entry: EngineEntry) -> EngineBuildFailed:
    return EngineBuildFailed(
        f"{network.source}: {network.flavour.title} {network.flavour.version} cannot build it for {entry.target}.",
        expected="a graph it has kernels for",
        got=explain(network.logger.problems),
        fix="try another --target or --precision, or a newer TensorRT",
    )
