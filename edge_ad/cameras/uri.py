"""The text that names a camera, taken apart once: scheme, place, and options after the question mark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from edge_ad.errors import CameraError

__all__ = ["CameraUri"]


@dataclass(frozen=True, kw_only=True)
class CameraUri:
    """`scheme://place?name=value&...`.

    Attributes:
        text: As it was given.
        scheme: In lower case; empty for a path.
        place: What stands between the scheme and the question mark.
        query: What stands after it.
    """

    text: str
    scheme: str
    place: str
    query: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def parse(text: str) -> CameraUri:
        """Take apart `text`; what has no scheme is a path."""
        if text.startswith("gst:"):  # a pipeline has question marks and slashes of its own
            return CameraUri(text=text, scheme="gst", place=text.removeprefix("gst:").removeprefix("//").strip())
        scheme, found, rest = text.partition("://")
        if not found:
            return CameraUri(text=text, scheme="", place=text)
        place, _, query = rest.partition("?")
        query_pairs = dict(parse_qsl(query, keep_blank_values=True))
        return CameraUri(text=text, scheme=scheme.lower(), place=unquote(place), query=query_pairs)

    @property
    def name(self) -> str:
        """The text without a password, as it may be shown and recorded; of a pipeline its first element."""
        if self.scheme == "gst":
            return f"gst:{self.place.partition(' ')[0]}"
        if not self.scheme:
            return self.text
        parts = urlsplit(self.text)
        if "@" not in parts.netloc:
            return self.text
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def numbers(self, **types: type) -> dict[str, int | float]:
        """The query's values as numbers.

        Args:
            types: Name to int or float, for each name that may be given.

        Raises:
            CameraError: There is another name, or a value that is no such number or below 0.
        """
        values: dict[str, int | float] = {}
        for name, text in self.query.items():
            try:
                values[name] = types[name](text)
                if not 0 <= values[name] < float("inf"):
                    raise ValueError(text)
            except (KeyError, ValueError):
                raise CameraError(
                    f"{self.name} has an option that {self.scheme}:// does not take.",
                    expected=", ".join(f"{known}={kind.__name__}" for known, kind in types.items()) or "no options",
                    got=f"{name}={text}",
                ) from None
        return values
