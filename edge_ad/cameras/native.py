"""C libraries of the GLib family through ctypes: no Python package has to be built against them."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_void_p
from functools import cache
from typing import Any

from edge_ad.errors import MissingDependency

__all__ = ["GErrorPointer", "GLibError", "Library", "glib", "taken"]


class GLibError(Exception):
    """A GError: its number within its domain, and its message."""

    def __init__(self, domain: str, code: int, message: str) -> None:
        super().__init__(message)
        self.domain, self.code = domain, code


class _GError(ctypes.Structure):
    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


GErrorPointer = POINTER(_GError)


class Library:
    """A C library with the signatures of the functions that are used.

    Args:
        soname: What the dynamic linker looks for.
        package: The Debian package that brings it.
        signatures: Function to "result(argument, ...)", see `_TYPES`. A last argument "error" is not given by the
            caller: the function raises GLibError instead.

    Raises:
        MissingDependency: It is not installed.
    """

    def __init__(self, soname: str, package: str, signatures: Mapping[str, str]) -> None:
        try:
            self._library = ctypes.CDLL(soname)
        except OSError as exc:
            raise MissingDependency(
                f"{soname} is not installed.",
                expected=f"the Debian package {package}",
                got=exc,
                fix=f"apt install {package}",
            ) from exc
        self._takes_error = {}
        for name, signature in signatures.items():
            function = getattr(self._library, name)
            result, arguments = _parse(signature)
            function.restype = result
            function.argtypes = arguments
            self._takes_error[name] = signature.endswith("error)")

    def has(self, name: str) -> bool:
        """Whether this version of the library has a function."""
        return hasattr(self._library, name)

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Call a function by its name.

        Raises:
            GLibError: It reports one.
        """
        function = getattr(self._library, name)
        if not self._takes_error[name]:
            return function(*arguments)
        error = GErrorPointer()
        result = function(*arguments, ctypes.byref(error))
        if error:
            raise taken(error)
        return result


_TYPES: Mapping[str, Any] = {
    "void": None,
    "int": ctypes.c_int,
    "uint": ctypes.c_uint,
    "int64": ctypes.c_int64,
    "uint64": ctypes.c_uint64,
    "size": ctypes.c_size_t,
    "double": ctypes.c_double,
    "text": c_char_p,
    "pointer": c_void_p,
    "int*": POINTER(ctypes.c_int),
    "uint*": POINTER(ctypes.c_uint),
    "int64*": POINTER(ctypes.c_int64),
    "double*": POINTER(ctypes.c_double),
    "size*": POINTER(ctypes.c_size_t),
    "texts": POINTER(c_char_p),
    "error": POINTER(GErrorPointer),
}


def _parse(signature: str) -> tuple[Any, Sequence[Any]]:
    found = re.fullmatch(r"(\S+)\((.*)\)", signature)
    assert found is not None, signature
    return _TYPES[found[1]], [_TYPES[word] for word in found[2].replace(",", " ").split()]


def taken(error: Any) -> GLibError:
    """A `GError *` that is not NULL, as an exception; it is freed."""
    content = error.contents
    domain = glib()("g_quark_to_string", content.domain) or b""
    raised = GLibError(domain.decode(), content.code, (content.message or b"").decode(errors="replace"))
    glib()("g_error_free", ctypes.cast(error, c_void_p))
    return raised


@cache
def glib() -> Library:
    """GLib and GObject themselves."""
    return Library(
        "libgobject-2.0.so.0",
        "libglib2.0-0",
        {
            "g_error_free": "void(pointer)",
            "g_free": "void(pointer)",
            "g_object_set": "void(pointer, text, int, pointer)",
            "g_object_unref": "void(pointer)",
            "g_quark_to_string": "text(uint)",
        },
    )
