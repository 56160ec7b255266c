"""Where training runs and in which precision."""

from __future__ import annotations

import contextlib

import torch

__all__ = ["half_precision", "training_device"]


def training_device() -> torch.device:
    """The GPU if torch can use one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 convolutions where the hardware has them (GPUs, CPUs with AVX-512 BF16 or AMX), else float32."""
    if device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
