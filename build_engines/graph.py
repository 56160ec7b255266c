"""Reading the graph where it has to be looked at, or changed, before a compiler gets it."""

from __future__ import annotations

from typing import Any

from edge_ad.errors import EngineBuildFailed, MissingDependency

__all__ = ["model_from"]


def model_from(content: bytes, purpose: str) -> Any:
    """The onnx.ModelProto; `purpose` starts the sentence that says what onnx is missing for.

    Raises:
        MissingDependency: onnx is not installed.
        EngineBuildFailed: It is no ONNX graph.
    """
    try:
        import onnx
    except ImportError as exc:
        raise MissingDependency(f"{purpose} needs onnx.", fix="pip install 'edge-ad[build]'") from exc
    try:
        model = onnx.load_model_from_string(content)
    except Exception as exc:  # protobuf's DecodeError, which has no stubs
        raise EngineBuildFailed(
            f"{purpose} reads the graph, and it is damaged.",
            expected="an ONNX graph",
            got=f"{len(content)} bytes: {exc}",
            fix="export and calibrate the bundle again",
        ) from exc
    return model
