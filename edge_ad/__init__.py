"""edge_ad: visual anomaly detection at the edge. Bytes in, verdict out.

The runtime needs numpy, OpenCV and ONNX Runtime (or TensorRT); torch and onnx are for training and building.
"""

from edge_ad.bundle import Bundle
from edge_ad.errors import EdgeAdError
from edge_ad.frame import Frame
from edge_ad.inspection import Inspection, Region
from edge_ad.inspector import Inspector
from edge_ad.tiled import TiledInspection, TiledInspector

__all__ = [
    "Bundle",
    "EdgeAdError",
    "Frame",
    "Inspection",
    "Inspector",
    "Region",
    "TiledInspection",
    "TiledInspector",
    "__version__",
]

__version__ = "0.1.0"
