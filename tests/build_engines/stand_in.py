"""A TensorRT of any recorded version, made of Python: it has the names that version has, and no other.

Whatever it is asked for beyond them is an AttributeError, as with the real one. It reads ONNX graphs with onnx, refuses
what that TensorRT is known to refuse, and writes down what it is told. What is known of each version stands where it is
done, with where it is known from.
"""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any

import onnx

from tests.habits.repository import tomllib

APIS = Path(__file__).parent / "apis"
VERSIONS = ("8.5", "8.6", "10.3", "10.13", "11.4")

KINDS = {1: "FLOAT", 10: "HALF", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT32", 17: "FP8"}  # of onnx.TensorProto
LAYERS = {
    "Conv": "CONVOLUTION",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "Relu": "ACTIVATION",
    "ReduceMax": "REDUCE",
}


def stand_in(version: str) -> Any:
    """The module `tensorrt` of a recorded version.

    Its attributes for tests: `told`, what builder configurations were told; `cores`, of its DLA; `log`, errors to log
    while it builds; `makes`, whether an engine then comes; `runs`, the precision in which layers run otherwise.
    """
    recording = tomllib.loads((APIS / f"{version}.toml").read_text(encoding="utf-8"))
    return _Module(recording)


class _Module:
    def __init__(self, recording: dict[str, Any]) -> None:
        self.__version__ = recording["version"]
        self.told: list[tuple[Any, ...]] = []
        self.cores, self.makes = 0, True
        self.log: list[str] = []
        self.runs: dict[str, str] = {}
        self.given: list[onnx.ModelProto] = []
        for name, members in recording["enums"].items():
            setattr(self, name, enum.IntEnum(name, {member: number for number, member in enumerate(members)}))
        for name in recording["enums"]["DataType"]:
            alias = {"FLOAT": "float32", "HALF": "float16"}.get(name, name.lower())
            setattr(self, alias, self.DataType[name])  # type: ignore[attr-defined]
        for name, members in recording["classes"].items():
            if name == "IProgressMonitor":  # to be inherited from
                self.IProgressMonitor = type(name, (), {})
                continue
            behaviour = _BEHAVIOURS.get(name, object)
            setattr(self, name, _Surface(name, (behaviour,), {"names": frozenset(members), "trt": self}))
        self.ILogger = type("ILogger", (), {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "__init__": lambda s: None})

    @property
    def strong(self) -> bool:
        return hasattr(self.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")  # type: ignore[attr-defined]


class _Surface(type):
    """A class of which only the recorded names can be seen, on itself and on its instances."""

    def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> Any:
        def check(self: Any, attribute: str) -> None:
            if not attribute.startswith("_") and attribute not in space["names"]:
                raise AttributeError(f"{name} of TensorRT {space['trt'].__version__} has no {attribute}")

        def get(self: Any, attribute: str) -> Any:
            check(self, attribute)
            return object.__getattribute__(self, attribute)

        def put(self: Any, attribute: str, value: Any) -> None:
            check(self, attribute)
            if name == "IBuilderConfig" and not attribute.startswith("_"):
                space["trt"].told.append((attribute, value))
            object.__setattr__(self, attribute, value)

        made = super().__new__(cls, name, bases, {"_trt": space["trt"], "__getattribute__": get, "__setattr__": put})
        made._names = space["names"]
        return made

    def __getattribute__(cls, attribute: str) -> Any:
        if attribute.startswith("_"):
            return super().__getattribute__(attribute)
        if attribute not in super().__getattribute__("_names"):
            raise AttributeError(f"{cls.__name__} has no {attribute}")
        return getattr(super().__getattribute__("__mro__")[1], attribute, object())


class _Tensor:
    is_shape_tensor = False

    def __init__(self, name: str, kind: int, shape: tuple[int, ...] = ()) -> None:
        self.__dict__.update(name=name, dtype=self._trt.DataType[KINDS[kind]], shape=shape)


class _Layer:
    def __init__(self, node: Any, inputs: list[Any], outputs: list[Any]) -> None:
        kind = getattr(self._trt.LayerType, LAYERS.get(node.op_type, "SHUFFLE"))
        self.__dict__.update(_in=inputs, _out=outputs, _pinned={}, name=node.name, type=kind)

    num_inputs = property(lambda self: len(self._in))
    num_outputs = property(lambda self: len(self._out))

    def get_input(self, index: int) -> Any:
        return self._in[index]

    def get_output(self, index: int) -> Any:
        return self._out[index]

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._pinned[index] = dtype


class _Network:
    def __init__(self, flags: int) -> None:
        self.__dict__.update(_flags=flags, _layers=[], _inputs=[], _outputs=[])

    num_layers = property(lambda self: len(self._layers))
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_layer(self, index: int) -> Any:
        return self._layers[index]

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]

    def _has(self, flag: str) -> bool:
        known = getattr(self._trt.NetworkDefinitionCreationFlag, flag, None)
        return known is not None and bool(self._flags >> int(known) & 1)


class _Parser:
    num_errors = 0

    def __init__(self, network: Any, logger: Any) -> None:
        self.__dict__["_network"] = network

    def parse(self, content: bytes) -> bool:
        model = onnx.load_model_from_string(content)
        self._trt.given.append(model)
        if not self._trt.strong:
            self._check_for_8(model)
        values = onnx.shape_inference.infer_shapes(model).graph
        kinds = {v.name: v.type.tensor_type for v in [*values.value_info, *values.input, *values.output]}
        tensors = {
            name: self._trt.ITensor(name, kind.elem_type, tuple(d.dim_value or -1 for d in kind.shape.dim))
            for name, kind in kinds.items()
        } | {tensor.name: self._trt.ITensor(tensor.name, tensor.data_type) for tensor in model.graph.initializer}
        network = self._network
        for node in model.graph.node:
            inputs, outputs = ([tensors[name] for name in names if name] for names in (node.input, node.output))
            network._layers.append(self._trt.ILayer(node, inputs, outputs))
        network._inputs += [tensors[value.name] for value in model.graph.input]
        network._outputs += [tensors[value.name] for value in model.graph.output]
        return True

    def _check_for_8(self, model: onnx.ModelProto) -> None:
        assert self._network._has("EXPLICIT_BATCH"), "TensorRT 8 parses ONNX into networks of explicit batch alone"
        assert model.opset_import[0].version <= 17, "ONNX-TensorRT 8.5 and 8.6 know opset 17"
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type.startswith("Reduce"):
                assert len(node.input) == 1, "silently reduces over every axis: NVIDIA/TensorRT issue 3467"
            if node.op_type == "DequantizeLinear" and node.input[0] in constants:
                raise AssertionError("invalid weights type of Int8: NVIDIA/TensorRT issue 2163")


class _Profile:
    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.__dict__["_shapes"] = shapes


class _Config:
    def __init__(self) -> None:
        trt = self._trt
        self.__dict__.update(_flags={trt.BuilderFlag.TF32}, _pools={}, _profiles=[], _cache=None)
        self.__dict__.update(profiling_verbosity=trt.ProfilingVerbosity.LAYER_NAMES_ONLY)

    def clear_flag(self, flag: Any) -> None:
        self._trt.told.append(("clear", flag.name))
        self._flags.discard(flag)

    def set_flag(self, flag: Any) -> None:
        self._trt.told.append(("set", flag.name))
        self._flags.add(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._trt.told.append((pool.name, size))
        self._pools[pool] = size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return int(self._pools[pool])

    def add_optimization_profile(self, profile: Any) -> int:
        self._trt.told.append(("profile", *(shape[0] for shape in profile._shapes)))
        self._profiles.append(profile)
        return 0

    def create_timing_cache(self, content: bytes) -> Any:
        cache = self._trt.ITimingCache()
        cache.__dict__["_content"] = content
        return cache

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self.__dict__["_cache"] = cache
        return not cache._content.startswith(b"of another GPU")

    def get_timing_cache(self) -> Any:
        return self._cache


class _TimingCache:
    def serialize(self) -> bytes:
        return bytes(self._content) + b" measured"


class _Builder:
    def __init__(self, logger: Any) -> None:
        self.__dict__["_logger"] = logger

    num_DLA_cores = property(lambda self: self._trt.cores)  # noqa: N815  # NVIDIA's own name

    def create_network(self, flags: int = 0) -> Any:
        return self._trt.INetworkDefinition(flags)

    def create_builder_config(self) -> Any:
        return self._trt.IBuilderConfig()

    def create_optimization_profile(self) -> Any:
        return self._trt.IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        for problem in [*self._trt.log, *self._refusals(network, config)]:
            self._logger.log(self._trt.ILogger.ERROR, problem)
        if self._refusals(network, config) or not self._trt.makes:
            return None
        return json.dumps({"Layers": [self._layer(layer, config) for layer in network._layers]}).encode()

    def _refusals(self, network: Any, config: Any) -> list[str]:
        flags = {flag.name for flag in config._flags}
        if network._has("STRONGLY_TYPED") or not hasattr(self._trt.BuilderFlag, "FP16"):
            # NVIDIA/TensorRT issue 4253, NVIDIA/TensorRT-RTX issue 2
            return [
                f"API Usage Error (Parameter check failed, condition: !config.getFlag(BuilderFlag::k{name}). )"
                for name in ("FP16", "INT8", "FP8")
                if name in flags
            ]
        quantises = any(layer.type == self._trt.LayerType.QUANTIZE for layer in network._layers)
        pinned = any("precision" in layer.__dict__ for layer in network._layers)
        missing = [("INT8", quantises), ("OBEY_PRECISION_CONSTRAINTS", pinned)]
        return [f"{name} is needed and not set" for name, needed in missing if needed and name not in flags]

    def _layer(self, layer: Any, config: Any) -> Any:
        """As the engine inspector tells it: where the types stand differs between versions, see precision.py."""
        if config.profiling_verbosity != self._trt.ProfilingVerbosity.DETAILED:
            return layer.name
        convolution = layer.type == self._trt.LayerType.CONVOLUTION
        said = self._trt.runs.get(layer.name) or layer._in[0].dtype.name
        if convolution and layer._in[0].name.endswith("_dq") and layer.name not in self._trt.runs:
            said = "INT8"
        words = {"FLOAT": "FP32", "HALF": "FP16", "INT8": "Int8"}.get(said, said)
        tensor = {"Name": layer._in[0].name, "Location": "Device", "Dimensions": [1, 3, 17, 24]}
        if self._trt.__version__.startswith("11"):
            tensor |= {"Format": "Row major linear", "DataType": words}
        else:
            tensor |= {"Format/Datatype": f"Row major linear {words}"}
        told = {
            "Name": f"{layer.name} + relu" if convolution else layer.name,
            "LayerType": "CaskConvolution" if convolution else "Reformat",
            "Inputs": [tensor],
            "TacticName": "",
        }
        if convolution:
            told |= {"ParameterType": "Convolution", "Weights": {"Type": words, "Count": 216}}
        if "metadata" in self._trt.ILayer._names:
            told["Metadata"] = f"[ONNX Layer: {layer.name}]\x1e[ONNX Layer: relu]"
        return told


class _Runtime:
    def __init__(self, logger: Any) -> None:
        pass

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        engine = self._trt.ICudaEngine()
        engine.__dict__["_content"] = content
        return engine


class _Engine:
    def create_engine_inspector(self) -> Any:
        inspector = self._trt.EngineInspector()
        inspector.__dict__["_content"] = self._content
        return inspector


class _Inspector:
    def get_engine_information(self, form: Any) -> str:
        assert form == self._trt.LayerInformationFormat.JSON
        return str(self._content.decode())


_BEHAVIOURS: dict[str, type] = {
    "Builder": _Builder,
    "IBuilderConfig": _Config,
    "INetworkDefinition": _Network,
    "OnnxParser": _Parser,
    "IOptimizationProfile": _Profile,
    "ILayer": _Layer,
    "ITensor": _Tensor,
    "ITimingCache": _TimingCache,
    "Runtime": _Runtime,
    "ICudaEngine": _Engine,
    "EngineInspector": _Inspector,
}
