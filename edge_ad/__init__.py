"""edge_ad: visual anomaly detection at the edge. Bytes in, verdict out.

The runtime needs numpy, OpenCV and ONNX Runtime (or TensorRT); torch and onnx are for training and building.
"""

import os

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

# From 1.31 on, ONNX Runtime's builds tell their makers over the network what they run, unless this is set before they
# are imported. A station tells nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
