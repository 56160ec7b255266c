"""ONNX bytes to engine bytes in small steps: parse, check, configure, build, confirm. The same for every TensorRT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from build_engines.config import config_from_entry
from build_engines.confirm import Confirmation, confirm
from build_engines.monitor import TOTAL, Build, progress_monitor
from build_engines.precision import asked_precisions
from build_engines.problems import build_logger, fatal, telling
from build_engines.tensorrt8 import Graph8, graph_for_tensorrt8, types_weakly
from edge_ad.backends.flavours import INPUT, Flavour, explain
from edge_ad.backends.onnxruntime import OUTPUTS
from edge_ad.errors import EngineBuildFailed
from edge_ad.manifest import EngineEntry
from edge_ad.progress import Progress

__all__ = ["Compiled", "Network", "engine_from_network", "engine_from_onnx", "network_from_onnx"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A parsed graph. The definition lives only as long as its parser, builder and logger, so they stay together.

    Attributes:
        source: The ONNX file, for messages.
        graph8: What a TensorRT that types weakly was given instead of the graph; None for others.
    """

    flavour: Flavour
    source: str
    definition: Any
    parser: Any
    builder: Any
    logger: Any
    graph8: Graph8 | None

    def errors(self) -> list[str]:
        """What TensorRT complained of since the parser began."""
        return telling(self.logger.problems)


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """An engine that was built.

    Attributes:
        confirmation: Whether its convolutions run in the graph's precision.
        remarks: Errors TensorRT logged on candidates that it then did not use.
        timing_cache: With the measurements of this build; None where none was asked for.
    """

    content: bytes
    confirmation: Confirmation
    remarks: tuple[str, ...] = ()
    timing_cache: bytes | None = None


def engine_from_onnx(
    graph: bytes, entry: EngineEntry, *, source: str, flavour: Flavour, timing_cache: bytes | None = None
) -> Compiled:
    """Compile a graph.

    Args:
        graph: The ONNX file's bytes.
        entry: What to make of it. Plain TensorRT compiles for this machine's GPU whatever its target says.
        source: The ONNX file's path, for messages.
        timing_cache: The measurements of earlier builds; empty to begin with; None: keep none.

    Raises:
        EngineBuildFailed: Naming the node where TensorRT names it, or the layers that run in another precision.
    """
    network = network_from_onnx(graph, source=source, flavour=flavour)
    config = config_from_entry(network, entry, timing_cache)
    content, remarks = engine_from_network(network, config, entry)
    asked = asked_precisions(network.definition, flavour.trt, network.graph8.types if network.graph8 else {})
    return Compiled(
        content=content,
        confirmation=confirm(content, asked, entry, source=source, flavour=flavour),
        remarks=tuple(remarks),
        timing_cache=None if timing_cache is None else bytes(config.get_timing_cache().serialize()),
    )


def network_from_onnx(graph: bytes, *, source: str, flavour: Flavour) -> Network:
    """Parse and check a graph.

    Raises:
        EngineBuildFailed: The parser refuses a node, or the graph does not have a bundle's inputs and outputs.
    """
    graph8 = graph_for_tensorrt8(graph, source) if types_weakly(flavour.trt) else None
    logger = build_logger(flavour.trt)
    logger.problems.clear()
    builder = flavour.trt.Builder(logger)
    definition = builder.create_network(_network_flags(flavour.trt))
    parser = flavour.trt.OnnxParser(definition, logger)
    if not parser.parse(graph8.content if graph8 else graph):
        raise _refused(parser, source, flavour)
    network = Network(
        flavour=flavour,
        source=source,
        definition=definition,
        parser=parser,
        builder=builder,
        logger=logger,
        graph8=graph8,
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


def engine_from_network(network: Network, config: Any, entry: EngineEntry) -> tuple[bytes, list[str]]:
    """Build, showing progress; returns the engine and TensorRT's remarks on candidates it dropped.

    Raises:
        EngineBuildFailed: With the errors TensorRT logged, even if it made an engine all the same.
        KeyboardInterrupt: Ctrl-C; the build ended at its next step.
    """
    with Progress(f"{entry.precision} engine for {entry.target}", TOTAL) as progress:
        build = Build(progress)
        if hasattr(config, "progress_monitor"):
            config.progress_monitor = progress_monitor(network.flavour.trt, build)
        with build.interruptible():
            plan = network.builder.build_serialized_network(network.definition, config)
        build.raise_failure()
        errors = network.errors()
        if plan is None or fatal(errors):  # TensorRT reports failure by returning None
            raise _not_built(network, entry, errors if plan is None else fatal(errors), made=plan is not None)
        build.complete()
    return bytes(plan), errors


def _not_built(network: Network, entry: EngineEntry, errors: list[str], *, made: bool) -> EngineBuildFailed:
    title = f"{network.flavour.title} {network.flavour.version}"
    text = " ".join(errors).lower()
    if "memory" in text or "workspace" in text:
        fix = "free GPU memory; give more with --workspace where it was limited, or less where the GPU is small"
    else:
        fix = "try another --target or --precision, or a newer TensorRT"
    return EngineBuildFailed(
        f"{network.source}: {title} made an engine for {entry.target} and logged errors, so it is not used."
        if made
        else f"{network.source}: {title} cannot build it for {entry.target}.",
        expected="a build without errors" if made else "a graph it has kernels for",
        got=explain(errors),
        fix=fix,
    )
