"""ONNX graphs of a bundle to TensorRT engines, for named GPUs. `python -m build_engines BUNDLE --target sm89`.

With TensorRT-RTX no GPU is needed. Importing this package imports neither TensorRT nor torch.
"""

from build_engines.builder import BuildOptions, BuiltEngine, build
from build_engines.cli import add_arguments, main, run
from build_engines.trtexec import TrtexecLine, trtexec_lines

__all__ = [
    "BuildOptions",
    "BuiltEngine",
    "TrtexecLine",
    "add_arguments",
    "build",
    "main",
    "run",
    "trtexec_lines",
]
