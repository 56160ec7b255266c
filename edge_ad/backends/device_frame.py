"""Frames that lie on the GPU already: arrays of cupy, torch, pycuda, numba, read where they are.

Two protocols tell where an array lies. `__cuda_array_interface__` names, since its version 3, the stream that has to
be waited for. DLPack is told ours, and the array's own library lets it wait. Where an array has neither (pycuda), what
is queued on the default stream is waited for; work on another stream must be synchronised by whoever queued it.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from edge_ad.errors import FrameError

__all__ = ["DeviceArray", "DeviceFrames", "check_on_host", "device_frames", "is_on_device"]

DeviceArray: TypeAlias = Any
"""An array in a GPU's memory, of any library that speaks one of the protocols."""

_DLPACK_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged
_LEGACY_STREAM = 1


@dataclass(frozen=True, kw_only=True)
class DeviceFrames:
    """Frames in the GPU's memory, C-contiguous uint8.

    Attributes:
        shape: (N, H, W, 3).
        pointer: Address of the first byte.
        follow: The stream that writes them; None: nothing has to be waited for.
        owner: What keeps the memory, to be kept until they are read.
    """

    shape: tuple[int, ...]
    pointer: int
    follow: int | None
    owner: Any = field(repr=False)


def is_on_device(frames: object) -> bool:
    """Whether it is an array in a GPU's memory, by one of the protocols."""
    if hasattr(frames, "__dlpack_device__"):
        kind, _ = frames.__dlpack_device__()
        return int(kind) in _DLPACK_CUDA
    return hasattr(frames, "__cuda_array_interface__")


def check_on_host(frames: object) -> None:
    """For backends that run on the CPU.

    Raises:
        FrameError: It is no numpy array.
    """
    if not isinstance(frames, np.ndarray):
        raise FrameError(
            "The frame lies on a GPU, and this bundle runs on the CPU.",
            expected="a numpy array",
            got=type(frames).__name__,
            fix='cupy.asnumpy(frame) or tensor.cpu().numpy(), or Inspector(..., backend="tensorrt")',
        )


def device_frames(frames: DeviceArray, size: tuple[int, int], *, stream: int) -> DeviceFrames:
    """Find an array on the GPU; where DLPack does it, `stream` waits for the array from here on.

    Args:
        frames: (H, W, 3) or (N, H, W, 3) uint8, C-contiguous.
        size: (H, W) that is expected.

    Raises:
        FrameError: Another dtype, shape, layout or no array that can be shared.
    """
    expected = f"uint8 array of shape {(*size, 3)} or {('N', *size, 3)}, C-contiguous, on the GPU"
    try:
        found = _by_interface(frames) or _by_dlpack(frames, stream)
    except Exception as exc:  # every library refuses in its own way
        raise FrameError("The array on the GPU cannot be shared.", expected=expected, got=exc) from exc
    if found.dtype != "|u1" or found.shape[-3:] != (*size, 3) or len(found.shape) not in (3, 4):
        raise FrameError(
            "The array on the GPU does not fit the input contract.",
            expected=expected,
            got=f"{found.dtype} array of shape {found.shape}",
            fix=f"set the camera to {size[0]}x{size[1]} with 8 bits per channel, or export the bundle for this camera",
        )
    if not found.is_contiguous():
        raise FrameError(
            "The array on the GPU is not contiguous.",
            expected=expected,
            got=f"strides {found.strides} of shape {found.shape}",
            fix="make it so: cupy.ascontiguousarray(frame), or tensor.contiguous()",
        )
    shape = found.shape if len(found.shape) == 4 else (1, *found.shape)
    return DeviceFrames(shape=shape, pointer=found.pointer, follow=found.follow, owner=found.owner)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """An array as a protocol tells it: `dtype` by the array interface's code, `strides` in bytes."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    pointer: int
    follow: int | None
    owner: Any

    def is_contiguous(self) -> bool:
        if self.strides is None:
            return True
        step = 1
        for extent, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if extent > 1 and stride != step:
                return False
            step *= extent
        return True


def _by_interface(frames: Any) -> _Found | None:
    """__cuda_array_interface__; None where DLPack knows more: version 2, which torch has, names no stream."""
    has_dlpack = hasattr(frames, "__dlpack__")
    if not hasattr(frames, "__cuda_array_interface__"):
        return None
    interface = frames.__cuda_array_interface__
    if interface["version"] < 3 and has_dlpack:
        return None
    if interface.get("mask") is not None:
        raise ValueError("a masked array")
    stream = interface.get("stream", None if interface["version"] >= 3 else _LEGACY_STREAM)
    if stream == 0:
        raise ValueError("stream 0, which the interface forbids")
    return _Found(
        dtype=interface["typestr"],
        shape=tuple(interface["shape"]),
        strides=interface.get("strides"),
        pointer=interface["data"][0],
        follow=stream,
        owner=frames,
    )


class _Tensor(ctypes.Structure):
    """DLTensor of DLPack's C header."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_KINDS = {0: "i", 1: "u", 2: "f", 4: "bf", 5: "c", 6: "b"}  # DLDataTypeCode


def _by_dlpack(frames: Any, stream: int) -> _Found:
    """DLPack. The capsule is never marked as used, so that it releases the array when it is dropped."""
    capsule = frames.__dlpack__(stream=stream)
    tensor = _Tensor.from_address(_pointer_of(capsule, b"dltensor"))
    size_bytes = tensor.bits * tensor.lanes // 8
    code = f"{_KINDS.get(tensor.code, '?')}{size_bytes}"
    return _Found(
        dtype=f"|{code}" if size_bytes == 1 else f"<{code}",
        shape=tuple(tensor.shape[: tensor.ndim]),
        strides=tuple(step * size_bytes for step in tensor.strides[: tensor.ndim]) if tensor.strides else None,
        pointer=(tensor.data or 0) + tensor.byte_offset,
        follow=None,
        owner=(frames, capsule),
    )
