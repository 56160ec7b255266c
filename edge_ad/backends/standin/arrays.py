"""Arrays on the stand-in's GPU, as a camera's or a decoder's library would hand them over."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_ad.backends.standin.machine import Machine, Work

__all__ = ["StandInArray", "StandInDlpackArray"]

_DEVICE_TYPE_OFFSET = ctypes.sizeof(ctypes.c_void_p)  # in DLTensor, behind the address of the data
_DLPACK_CUDA = 2


class StandInArray:
    """Speaks `__cuda_array_interface__` version 3, as cupy does. Its values arrive once its stream is waited for."""

    def __init__(self, machine: Machine, values: npt.NDArray[Any], stream: int) -> None:
        values = np.ascontiguousarray(values)
        self._machine, self.stream = machine, stream
        self.shape, self.dtype = values.shape, values.dtype
        self.pointer = machine.allocate("gpu", values.nbytes)
        place = (self.pointer, values.nbytes)

        def run() -> None:
            machine.bytes_at(place)[:] = values.view(np.uint8).ravel()

        self.filled = machine.queue(stream, Work(what="the filling of an array", run=run, writes=(place,)))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "stream": self.stream,
        }

    def free(self) -> None:
        """Release its memory."""
        self._machine.drain(self.stream)
        self._machine.release(self.pointer, "gpu")


class StandInDlpackArray:
    """Speaks DLPack alone: it lets the consumer's stream wait for its own, as torch does."""

    def __init__(self, array: StandInArray, machine: Machine) -> None:
        self._array, self._machine = array, machine

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DLPACK_CUDA, 0

    def __dlpack__(self, *, stream: int) -> Any:
        array, machine = self._array, self._machine
        machine.queue(stream, Work(what="a wait", run=lambda: machine.drain(array.stream, until=array.filled)))
        size_bytes = int(np.prod(array.shape)) * array.dtype.itemsize
        on_host = machine.bytes_at((array.pointer, size_bytes)).view(array.dtype).reshape(array.shape)
        capsule = on_host.__dlpack__()
        pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
            ("PyCapsule_GetPointer", ctypes.pythonapi)
        )
        tensor = pointer_of(capsule, b"dltensor")
        ctypes.c_int32.from_address(tensor + _DEVICE_TYPE_OFFSET).value = _DLPACK_CUDA
        return capsule
