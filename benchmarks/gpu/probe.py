"""What this machine has to measure with: GPU, driver, clocks, and the modules that reach them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
from typing import Any

from edge_ad.backends import vendor
from edge_ad.backends.cuda import BINDINGS, open_device
from edge_ad.backends.flavours import MODULES, installed_flavours
from edge_ad.errors import EdgeAdError, NoGpu
from edge_ad.report.machine import describe_machine

COMMAND = "python -m benchmarks gpu"

_DISTRIBUTIONS = {"cuda.bindings.runtime": "cuda-python", "pycuda.driver": "pycuda"}
_CLOCKS = ("clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw", "power.limit", "temperature.gpu")


def probe() -> dict[str, Any]:
    """The machine, nothing that names a host: processor, modules with versions or why they do not load, the GPU."""
    return describe_machine() | {
        "modules": {name: _state(name) for name in (*MODULES.values(), *BINDINGS.values())} | {"torch": _torch()},
        "gpu": _gpu(),
        "clocks": read_clocks(),
    }


def _state(module: str) -> str:
    if not vendor.is_installed(module):
        return "not installed"
    try:
        version = getattr(vendor.load(module), "__version__", None)
        return str(version or importlib.metadata.version(_DISTRIBUTIONS[module]))
    except Exception as exc:  # whatever an installation that is broken does on import
        return f"does not load: {exc}"


def _torch() -> str:
    if importlib.util.find_spec("torch") is None:
        return "not installed"
    import torch

    return f"{torch.__version__}, {'with' if torch.cuda.is_available() else 'without'} a GPU"


def _gpu() -> dict[str, Any] | None:
    try:
        device = open_device()
        with device.active():
            free, everything = device.memory_bytes()
    except EdgeAdError:
        return None
    return {
        "name": device.name,
        "compute_capability": "{}.{}".format(*device.capability),
        "cuda_driver": "{}.{}".format(*device.driver),
        "memory_mib": everything >> 20,
        "free_mib": free >> 20,
        "integrated": device.integrated,
        "cuda_graphs": device.captures,
    }


def read_clocks() -> dict[str, str] | None:
    """MHz, watts and degrees by nvidia-smi; None where it cannot tell (Jetson)."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(_CLOCKS)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    values = [value.strip() for value in done.stdout.split(",")]
    return dict(zip(_CLOCKS, values, strict=True)) if len(values) == len(_CLOCKS) else None


def require_gpu() -> None:
    """Everything the measurement needs is here.

    Raises:
        NoGpu: Naming all that is missing, and the command to run where it is not.
    """
    missing = []
    if not installed_flavours():
        missing.append(f"TensorRT ({' or '.join(MODULES.values())})")
    try:
        open_device()
    except EdgeAdError as error:
        missing.append(f"{error.what.rstrip('.')} ({error.got})")
    if missing:
        raise NoGpu(
            "There is no GPU to measure on.",
            expected="an NVIDIA GPU with its driver, cuda-python or pycuda, and TensorRT or TensorRT-RTX",
            got="; ".join(missing),
            fix=f"run `{COMMAND}` on a machine that has them; `{COMMAND} --dry-run` shows here what it prints",
        )
