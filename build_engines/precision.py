"""In which precision the heavy layers shall run, by the parsed network, and in which they do, by the engine inspector.

The inspector's JSON (trtexec --exportLayerInfo writes the same) differs between versions, so each fact is looked for
where any of them keeps it:

weights   {"Type": "Int8"}, of a convolution by a precompiled kernel (8.x and later)
tactic    kernel names say their types: `..._i8i8_i8i32_f32_...`, `..._f16f16_f16f16_f16_...`, `..._tf32f32_...`
inputs    "Format/Datatype": "Channel major FP16 format ..." or "Half"; from 11 on "Format" and "DataType" apart
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Realised", "asked_precisions", "realised"]

# The first that fits: a kernel of int8 may name float as well, for what it writes.
_IN_TACTIC = (
    ("fp8", re.compile(r"e4m3|fp8")),
    ("int8", re.compile(r"(?<![a-z0-9])i8(i8|f16|f32|i32)|int8|imma")),
    ("tf32", re.compile(r"tf32")),
    ("fp16", re.compile(r"f16f16|fp16|h884|h1688|h16816|hmma")),
    ("fp32", re.compile(r"f32f32|fp32|scudnn|sgemm|ffma")),
)
_IN_WORDS = (
    ("fp8", re.compile(r"\bfp8|e4m3", re.IGNORECASE)),
    ("int8", re.compile(r"\bint8", re.IGNORECASE)),
    ("bf16", re.compile(r"\bbf16|bfloat16", re.IGNORECASE)),
    ("fp16", re.compile(r"\bfp16|\bhalf", re.IGNORECASE)),
    ("fp32", re.compile(r"\bfp32|\bfloat", re.IGNORECASE)),
)
_COMPUTES = re.compile(r"conv|gemm|matmul|matrix|correlation|fusion", re.IGNORECASE)
_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def asked_precisions(definition: Any, trt: Any, types: Mapping[str, str]) -> dict[str, str]:
    """The precision of every convolution of a parsed network, by layer name: "fp32", "fp16", "int8" or "fp8".

    Args:
        types: "fp16" or "fp32" by layer name, for a TensorRT whose network does not say; empty otherwise.
    """
    layers = [definition.get_layer(index) for index in range(definition.num_layers)]
    made_by = {layer.get_output(index).name: layer for layer in layers for index in range(layer.num_outputs)}
    asked = {}
    for layer in layers:
        if layer.type in (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION):
            image = layer.get_input(0)
            source = made_by.get(image.name)
            if source is not None and source.type == trt.LayerType.DEQUANTIZE:
                asked[layer.name] = _name_of(source.get_input(0).dtype)
            else:
                asked[layer.name] = types.get(layer.name) or _name_of(image.dtype)
    return asked


def _name_of(dtype: Any) -> str:
    return {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}[dtype.name]


@dataclass(frozen=True, kw_only=True)
class Realised:
    """What the inspector says of the asked layers.

    Attributes:
        wrong: (asked, got) by layer, where they differ.
        silent: Layers it does not name, or whose precision it does not tell.
    """

    wrong: dict[str, tuple[str, str]]
    silent: tuple[str, ...]


def realised(information: str, asked: Mapping[str, str]) -> Realised:
    """Compare the inspector's JSON of an engine with what was asked."""
    found: dict[str, set[str]] = {name: set() for name in asked}
    for layer in _computing_layers(information):
        precision = _precision(layer)
        if precision is not None:
            for name in _names(layer) & asked.keys():
                found[name].add(precision)
    wrong = {name: (asked[name], " and ".join(sorted(got))) for name, got in found.items() if got - {asked[name]}}
    return Realised(wrong=wrong, silent=tuple(name for name, got in found.items() if not got))


def _computing_layers(information: str) -> Iterator[dict[str, Any]]:
    """Layers that multiply by weights; not those that only move, pad or convert what such a layer reads."""
    for layer in json.loads(information).get("Layers", []):
        if isinstance(layer, dict):  # a string where the engine was built with names alone
            kind = f"{layer.get('ParameterType', '')} {layer.get('LayerType', '')}"
            if _COMPUTES.search(kind) and "reformat" not in kind.lower():
                yield layer


def _names(layer: dict[str, Any]) -> set[str]:
    """The graph's names for what is fused into a layer; `conv_myl0_7` is the compiler's `conv`."""
    fused = re.split(r" \+ | \|\| ", layer.get("Name", ""))
    return {*fused, *(re.sub(r"_myl\d+_\d+$", "", name) for name in fused)} | set(
        _ONNX_LAYER.findall(layer.get("Metadata", ""))
    )


def _precision(layer: dict[str, Any]) -> str | None:
    tactic = _first(_IN_TACTIC, layer.get("TacticName", ""))
    if tactic == "tf32":  # a float32 layer otherwise
        return tactic
    weights = layer.get("Weights")
    inputs = layer.get("Inputs") or [{}]
    words = " ".join(str(inputs[0].get(key, "")) for key in ("Format/Datatype", "DataType", "Datatype", "Format"))
    return (
        _first(_IN_WORDS, weights.get("Type", "") if isinstance(weights, dict) else "")
        or tactic
        or _first(_IN_WORDS, words)
    )


def _first(patterns: tuple[tuple[str, re.Pattern[str]], ...], text: str) -> str | None:
    return next((name for name, pattern in patterns if pattern.search(text)), None)
