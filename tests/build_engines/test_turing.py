"""Matrix products as convolutions: the same answers, and no float32 MatMul left for the compiler that has none."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from build_engines.turing import convolutions_from_matmuls, lacks_float32_matmul
from edge_ad.backends.flavours import load_flavour
from edge_ad.backends.onnxruntime import open_session
from edge_ad.manifest import EngineEntry

# Every length differs, so that a swapped axis cannot fit.
CASES = {
    "right of two": ((2, 7), (7, 3), False),
    "left of three": ((2, 5, 7), (3, 5), True),
    "right of three": ((2, 5, 7), (7, 3), False),
    "left of four": ((2, 4, 5, 7), (3, 5), True),
    "right of four": ((2, 4, 5, 7), (7, 3), False),
}


def product(shape: tuple[int, ...], matrix: tuple[int, int], left: bool) -> tuple[bytes, np.ndarray]:
    """A graph of one MatMul with a constant, and the constant."""
    values = np.random.default_rng(0).standard_normal(matrix).astype(np.float32)
    operands = ["matrix", "x"] if left else ["x", "matrix"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", operands, ["y"], "product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(values, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString(), values


@pytest.mark.parametrize("case", CASES)
def test_the_product_is_the_same(case: str) -> None:
    shape, matrix, left = CASES[case]
    content, values = product(shape, matrix, left)
    changed = convolutions_from_matmuls(content)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    (y,) = open_session(changed, case).run(None, {"x": x})
    np.testing.assert_allclose(y, values @ x if left else x @ values, atol=1e-5)
    operators = [node.op_type for node in onnx.load_model_from_string(changed).graph.node]
    assert "Conv" in operators and "MatMul" not in operators


def test_a_product_of_two_computed_tensors_is_left_alone() -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"], "square")], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    changed = onnx.load_model_from_string(convolutions_from_matmuls(model.SerializeToString()))
    assert [node.op_type for node in changed.graph.node] == ["MatMul"]


@pytest.mark.parametrize(("target", "lacks"), [("sm75", True), ("sm86", False), ("portable", False)])
def test_only_turing_lacks_it(target: str, lacks: bool) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed here")
    entry = EngineEntry(
        file="engines/a.engine",
        flavour="rtx",
        version="1.7",
        target=target,
        precision="fp32",
        graph_sha256="0" * 64,
        max_batch=1,
    )
    assert lacks_float32_matmul(load_flavour("rtx"), entry) is lacks
