"""What the engine inspector's JSON says of precision, in the layouts of five TensorRT versions.

The reports are cut down to the fields that are read. Unless it says otherwise, a report is what a real TensorRT wrote
on a real GPU, as others published it; none is from a machine of ours.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from build_engines.precision import realised

# NVIDIA/TensorRT, tools/experimental/trt-engine-explorer, examples/pytorch/resnet/A100/qat: TensorRT 8, A100.
# The second is a kernel of int8 that writes float16; the third reads int8 and writes float32 by an older kernel.
INT8_OF_8 = [
    {
        "Name": "QuantizeLinear_40",
        "LayerType": "Reformat",
        "Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major FP16 format"}],
        "ParameterType": "Reformat",
        "Origin": "QDQ",
    },
    {
        "Name": "layer1.0.conv2.weight + QuantizeLinear_32 + Conv_34 + Add_36 + Relu_37",
        "LayerType": "CaskConvolution",
        "Inputs": [
            {"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"},
            {"Format/Datatype": "Thirty-two wide channel vectorized row major FP16 format"},
        ],
        "ParameterType": "Convolution",
        "Weights": {"Type": "Int8", "Count": 36864},
        "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8f16_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_nchw_vect"
        "_c_32_tilesize256x64x64_stage4_warpsize4x1x1_g1_tensor16x8x32_t1r3s3",
    },
    {
        "Name": "conv1.weight + QuantizeLinear_7 + Conv_9",
        "LayerType": "CaskConvolution",
        "Inputs": [{"Format/Datatype": "Four wide channel vectorized row major Int8 format"}],
        "ParameterType": "Convolution",
        "Weights": {"Type": "Int8", "Count": 9408},
        "TacticName": "ampere_fp32_icudnn_int8x4_128x64_relu_medium_nn_v1",
    },
]
# NVIDIA/TensorRT issue 3583: TensorRT 9.1, A800. A float32 graph, run in TF32.
TF32_OF_9 = {
    "Name": "p2o.Conv.11 + p2o.BatchNormalization.11 + p2o.Relu.10",
    "LayerType": "CaskGemmConvolution",
    "Inputs": [{"Format/Datatype": "Channel major FP32 format where channel % 4 == 0"}],
    "ParameterType": "Convolution",
    "Weights": {"Type": "Float", "Count": 32768},
    "TacticName": "sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize128x128x16_stage4_warpsize2x2x1_tensor16x8x8",
}
# NVIDIA/TensorRT issue 3876, of May 2024; it does not say the version.
FP16_OF_2024 = {
    "Name": "/model.2/cv1/conv/Conv + /model.2/cv1/act/Relu",
    "LayerType": "CaskConvolution",
    "Inputs": [{"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
    "ParameterType": "Convolution",
    "Weights": {"Type": "Half", "Count": 1250},
}
# NVIDIA/TensorRT issue 4020: TensorRT 10.1, with metadata.
INT8_OF_10 = {
    "Name": "resnetv15_stage2_conv1_fwd + resnetv15_stage2_batchnorm1_fwd",
    "LayerType": "CaskConvolution",
    "Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
    "ParameterType": "Convolution",
    "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_nchw_vect_c_32"
    "_tilesize32x64x64_stage6_warpsize2x2x1_g1_tensor16x8x32_t1r3s3",
    "Metadata": "[ONNX Layer: resnetv15_stage2_conv1_fwd]\x1e[ONNX Layer: resnetv15_stage2_batchnorm1_fwd]",
}
# NVIDIA/TensorRT issue 4397: TensorRT 10.10, A100, layers of the compiler (Myelin). The graph's names stand in the
# metadata alone, or in the name with another spelling.
COMPILED_OF_10 = [
    {
        "Name": "__myl_AddCastMeanSubMulMeanAddSqrtDivMulCastMulAdd_myl0_68",
        "LayerType": "kgen",
        "Inputs": [{"Format/Datatype": "Half"}, {"Format/Datatype": "Half"}],
        "TacticName": "__myl_AddCastMeanSubMulMeanAddSqrtDivMulCastMulAdd_0xf2543c36ff9f104bbb1655b0183afb47",
        "Metadata": "[ONNX Layer: /encoder/layers.9/mha/output/Add]"
        "[ONNX Layer: /encoder/layers.9/mha/output/layernorm/LayerNormalization]",
    },
    {
        "Name": "__myl_Fc_myl0_69",
        "LayerType": "fusion",
        "Inputs": [{"Format/Datatype": "Half"}],
        "TacticName": "sm80_xmma_gemm_f16f16_f16f16_f16_nn_n_tilesize32x32x64_stage6_warpsize2x2x1_tensor16x8x16_by_"
        "fusion_tactic",
        "Metadata": "[ONNX Layer: /encoder/layers.9/pos_ff/dense/MatMul][ONNX Layer: /encoder/layers.9/pos_ff/Mul]",
    },
]
# Made from NVIDIA's "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x" alone: format and type stand apart.
FP16_OF_11 = {
    "Name": "conv1 + relu1",
    "LayerType": "CaskConvolution",
    "Inputs": [{"Name": "x", "Format": "Channel major format where channel % 8 == 0", "DataType": "Half"}],
    "ParameterType": "Convolution",
}


def report(*layers: Any) -> str:
    return json.dumps({"Layers": layers, "Bindings": []})


@pytest.mark.parametrize(
    ("layers", "name", "precision"),
    [
        pytest.param(INT8_OF_8, "Conv_34", "int8", id="int8-of-8"),
        pytest.param(INT8_OF_8, "Conv_9", "int8", id="int8-of-8-by-an-older-kernel"),
        pytest.param([TF32_OF_9], "p2o.Conv.11", "tf32", id="tf32-of-9"),
        pytest.param([FP16_OF_2024], "/model.2/cv1/conv/Conv", "fp16", id="fp16-of-2024"),
        pytest.param([INT8_OF_10], "resnetv15_stage2_conv1_fwd", "int8", id="int8-of-10"),
        pytest.param(COMPILED_OF_10, "/encoder/layers.9/pos_ff/dense/MatMul", "fp16", id="compiled-of-10"),
        pytest.param([FP16_OF_11], "conv1", "fp16", id="fp16-of-11"),
    ],
)
def test_the_precision_is_found_wherever_a_version_keeps_it(
    layers: list[dict[str, Any]], name: str, precision: str
) -> None:
    told = report(*layers)
    agreed = realised(told, {name: precision})
    assert (agreed.wrong, agreed.silent) == ({}, ())
    for other in {"fp32", "fp16", "int8", "fp8"} - {precision}:
        assert realised(told, {name: other}).wrong == {name: (other, precision)}


@pytest.mark.parametrize("field", ["Weights", "TacticName", "Inputs"])
def test_each_field_says_it_alone(field: str) -> None:
    layer = {key: value for key, value in INT8_OF_8[1].items() if key in ("Name", "LayerType", "ParameterType", field)}
    assert realised(report(layer), {"Conv_34": "fp16"}).wrong == {"Conv_34": ("fp16", "int8")}


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param(["conv1 + relu1"], id="names-alone"),
        pytest.param([{**FP16_OF_11, "Name": "another"}], id="another-layer"),
        pytest.param([{**FP16_OF_11, "Inputs": []}], id="no-precision"),
        pytest.param([INT8_OF_8[0] | {"Name": "conv1"}], id="a-layer-that-only-converts"),
        pytest.param([COMPILED_OF_10[0] | {"Metadata": "[ONNX Layer: conv1]"}], id="what-surrounds-it"),
        pytest.param([], id="nothing"),
    ],
)
def test_what_the_inspector_does_not_say_is_said_to_be_unsaid(layers: list[Any]) -> None:
    found = realised(report(*layers), {"conv1": "fp16"})
    assert (found.wrong, found.silent) == ({}, ("conv1",))


def test_two_convolutions_merged_into_one_are_both_found() -> None:
    merged = {**FP16_OF_11, "Name": "conv1 || conv2"}
    assert realised(report(merged), {"conv1": "fp16", "conv2": "fp32"}).wrong == {"conv2": ("fp32", "fp16")}


def test_a_layer_split_in_two_is_right_only_if_both_parts_are() -> None:
    parts = [FP16_OF_11, {**FP16_OF_11, "Inputs": [{"DataType": "Float"}]}]
    assert realised(report(*parts), {"conv1": "fp16"}).wrong == {"conv1": ("fp16", "fp16 and fp32")}
