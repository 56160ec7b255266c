"""Verdicts on images: python examples/inspect_parts.py parts.bundle new_parts/*.png"""

import sys

import cv2

from edge_ad import Inspector

bundle, *images = sys.argv[1:]
with Inspector(bundle) as inspector:
    for path in images:
        inspection = inspector.inspect(cv2.imread(path))
        print(path, "reject" if inspection.is_anomalous else "good", f"{inspection.score:.4g}")
