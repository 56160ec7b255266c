"""One contender in a process of its own: `python -m benchmarks.speed.worker SPECIFICATION`.

SPECIFICATION is JSON: {"opener": "module:function", "arguments": {...}, "size": [height, width]}. The function gives
one that takes a frame, (height, width, 3) uint8, and returns once there is a verdict. Answers are lines of JSON on
standard output: {"ready": true} after the first verdict; then, for every number N on standard input, the milliseconds
of N verdicts; at its end the peak of the resident memory. Needs numpy and what the opener needs.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

FRAMES = 4  # shown in turn


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    given = json.loads(sys.argv[1])
    module, _, name = given["opener"].partition(":")
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, *given["size"], 3), dtype=np.uint8)
    verdict = getattr(importlib.import_module(module), name)(**given["arguments"])
    verdict(frames[0])
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        milliseconds = []
        for index in range(int(line)):
            start = time.perf_counter_ns()
            verdict(frames[index % FRAMES])
            milliseconds.append((time.perf_counter_ns() - start) / 1e6)
        print(json.dumps(milliseconds), file=answers)
    print(json.dumps({"peak_mb": _peak_mb()}), file=answers)
    answers.flush()
    os._exit(0)  # some runtimes take seconds to clean up, or crash


def _peak_mb() -> float:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return round(int(line.split()[1]) / 1024, 1)


if __name__ == "__main__":
    main()
