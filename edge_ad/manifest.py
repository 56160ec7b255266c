"""`manifest.json`: what a bundle says of itself. Read strictly, since bundles come from elsewhere.

schema        1
name, method  strings
input         {height, width}: frames are uint8, N x height x width x 3, BGR
map           {height, width} of anomaly_map
precisions    {"fp32" | "fp16" | "int8" | "fp8": {graph, threshold, threshold_version, false_reject_rate,
               normal_images, score_spread, score_mean, map_tolerance, score_tolerance}}; the last three
               may be absent
engines       [{file, flavour, version, target, precision, graph_sha256, max_batch, settings, precision_confirmed}];
              the last two are absent from bundles of before they were known
provenance    free-form: how it was made
files         {name: sha256} of every other file; a name is `file` or `folder/file`, nothing else
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edge_ad.errors import BundleCorrupt, BundleError

__all__ = [
    "MANIFEST",
    "MOST_FRAMES",
    "PRECISIONS",
    "SCHEMA",
    "EngineEntry",
    "EngineSettings",
    "Manifest",
    "PrecisionEntry",
    "Size",
    "check_file_name",
]

MANIFEST = "manifest.json"
SCHEMA = 1
PRECISIONS = ("fp32", "fp16", "int8", "fp8")
MOST_FRAMES = 4096
"""Largest batch of an engine."""
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_SIDE = 32768
_MAX_DEPTH = 32

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Size:
    """Pixels."""

    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class PrecisionEntry:
    """One precision of the graph and what belongs to it.

    Attributes:
        graph: The ONNX file.
        threshold: Scores above it are anomalous; refitted per precision.
        threshold_version: Counts refits.
        false_reject_rate: The rate the threshold was fitted for on normal images.
        normal_images: How many normal images the threshold comes from.
        score_spread: Standard deviation of the scores of those images; errors are judged relative to it.
        score_mean: Mean of the scores of those images; None: the bundle does not tell it.
        map_tolerance, score_tolerance: What maps and scores may differ by from the golden ones, in `score_spread`;
            None: what golden.TOLERANCE says of the precision.
    """

    graph: str
    threshold: float
    threshold_version: int
    false_reject_rate: float
    normal_images: int
    score_spread: float
    score_mean: float | None = None
    map_tolerance: float | None = None
    score_tolerance: float | None = None


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What was asked of the compiler beside graph, precision and target. With other settings it is another engine.

    Attributes:
        min_batch: The fewest frames the engine takes at once.
        opt_batch: The number of frames it is fastest at; None: the largest.
        optimization_level: 0 (builds fast) to 5 (runs fast); None: TensorRT's own choice.
        workspace_mib: Limit of the memory that a layer may use while it runs; None: all there is.
        sparsity: 2:4 sparse weights are used as such.
        version_compatible: Newer versions of the same major TensorRT can load it.
        hardware_compatible: Every GPU from Ampere on can run it.
        dla_core: It runs on this deep learning accelerator of a Jetson, with the GPU for what that cannot do.
    """

    min_batch: int = 1
    opt_batch: int | None = None
    optimization_level: int | None = None
    workspace_mib: int | None = None
    sparsity: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    dla_core: int | None = None


@dataclass(frozen=True, kw_only=True)
class EngineEntry:
    """A compiled engine: executable code, valid for one flavour, version, target and graph.

    Attributes:
        flavour: "trt" (TensorRT) or "rtx" (TensorRT-RTX).
        version: Of the library that built it, for example "1.7.1".
        target: "sm89", or "portable".
        graph_sha256: Hash of the ONNX file it was compiled from.
        max_batch: The largest batch its profile takes.
        precision_confirmed: TensorRT's engine inspector said that the convolutions run in the graph's precision; None:
            it could not be asked, or did not say. Entries that differ in nothing else are equal.
    """

    file: str
    flavour: str
    version: str
    target: str
    precision: str
    graph_sha256: str
    max_batch: int
    settings: EngineSettings = field(default_factory=EngineSettings)
    precision_confirmed: bool | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole of `manifest.json`; see the module's text."""

    name: str
    method: str
    input: Size
    map: Size
    precisions: dict[str, PrecisionEntry]
    engines: tuple[EngineEntry, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        """The file's content.

        Raises:
            BundleError: A number is NaN or infinite, or the provenance holds what JSON cannot.
        """
        try:
            return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as exc:
            raise BundleError(f"The manifest of {self.name} cannot be written as JSON.", got=exc) from exc

    @staticmethod
    def from_json(content: bytes, source: str) -> Manifest:
        """Parse and check every field.

        Raises:
            BundleCorrupt: Naming the first field that is wrong.
        """
        try:
            tree = json.loads(content, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as exc:
            raise BundleCorrupt(f"{source} is not JSON.", got=exc, fix="export the bundle again") from exc
        _check_depth(tree, source)
        return _manifest(_Reader(tree, source))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_depth(tree: object, source: str) -> None:
    level = [tree]
    for _ in range(_MAX_DEPTH):
        children = (
            node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)
        )
        level = [child for values in children for child in values]
        if not level:
            return
    raise BundleCorrupt(f"{source} is nested too deeply.", expected=f"at most {_MAX_DEPTH} levels")


def check_file_name(name: str, source: str) -> str:
    """Return `name` if a bundle may hold a file of that name.

    Raises:
        BundleCorrupt: It leads out of the bundle, or is taken by the manifest or by unfinished files.
    """
    reserved = name == MANIFEST or name.endswith(".partial")
    if not _FILE_NAME.fullmatch(name) or ".." in name or reserved:
        raise BundleCorrupt(
            f"{source}: a file name is unsafe.",
            expected=f"`file` or `folder/file`, not {MANIFEST}, not ending in .partial",
            got=repr(name)[:200],
        )
    return name


class _Reader:
    """Reads typed fields of a JSON object; every complaint names the file and the field."""

    def __init__(self, tree: object, source: str, where: str = "") -> None:
        self.source, self.where = source, where
        if not isinstance(tree, dict):
            raise self.wrong("", "an object", tree)
        self.tree: dict[str, Any] = tree

    def wrong(self, key: str, expected: object, got: object) -> BundleCorrupt:
        place = f"{self.where}.{key}".strip(".") or "the file"
        return BundleCorrupt(f"{self.source}: {place} is wrong.", expected=expected, got=repr(got)[:200])

    def get(self, key: str, kind: type[T]) -> T:
        value = self.tree.get(key)
        if kind is float and type(value) is int and abs(value) <= 2**53:
            value = float(value)
        if type(value) is not kind:
            raise self.wrong(key, kind.__name__, value)
        if kind is float and not math.isfinite(value):  # type: ignore[arg-type]
            raise self.wrong(key, "a finite number", value)
        return value

    def count(self, key: str, least: int, most: int = 2**53) -> int:
        value = self.get(key, int)
        if not least <= value <= most:
            raise self.wrong(key, f"{least} to {most}", value)
        return value

    def number(self, key: str, expected: str, fits: Callable[[float], bool]) -> float:
        value = self.get(key, float)
        if not fits(value):
            raise self.wrong(key, expected, value)
        return value

    def matching(self, key: str, pattern: re.Pattern[str], expected: str) -> str:
        value = self.get(key, str)
        if not pattern.fullmatch(value):
            raise self.wrong(key, expected, value)
        return value

    def one_of(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.get(key, str)
        if value not in choices:
            raise self.wrong(key, " or ".join(choices), value)
        return value

    def optional(self, key: str, read: Callable[[], T]) -> T | None:
        return None if self.tree.get(key) is None else read()

    def child(self, key: str) -> _Reader:
        return _Reader(self.tree.get(key), self.source, f"{self.where}.{key}".strip("."))


def _manifest(reader: _Reader) -> Manifest:
    schema = reader.get("schema", int)
    if schema != SCHEMA:
        raise BundleCorrupt(
            f"{reader.source} has another schema.",
            expected=SCHEMA,
            got=schema,
            fix="install the edge_ad version that wrote it, or export the bundle again",
        )
    files = _files(reader.child("files"))
    precisions = reader.child("precisions")
    if not precisions.tree or set(precisions.tree) - set(PRECISIONS):
        raise reader.wrong("precisions", " or ".join(PRECISIONS), list(precisions.tree))
    manifest = Manifest(
        name=reader.get("name", str),
        method=reader.get("method", str),
        input=_size(reader.child("input")),
        map=_size(reader.child("map")),
        precisions={key: _precision(precisions.child(key), files) for key in precisions.tree},
        engines=tuple(
            _engine(_Reader(entry, reader.source, f"engines[{index}]"), files)
            for index, entry in enumerate(reader.get("engines", list))
        ),
        provenance=reader.get("provenance", dict),
        files=files,
    )
    _check_roles(manifest, reader)
    return manifest


def _check_roles(manifest: Manifest, reader: _Reader) -> None:
    """Each file has one role, and one engine answers to each flavour, version, target and precision."""
    files = [entry.graph for entry in manifest.precisions.values()] + [engine.file for engine in manifest.engines]
    engines = [(e.flavour, e.version, e.target, e.precision) for e in manifest.engines]
    for role, names in (("precisions or engines", files), ("engines", engines)):
        twice = [name for index, name in enumerate(names) if name in names[:index]]
        if twice:
            raise reader.wrong(role, "each file and each engine once", twice[0])


def _size(reader: _Reader) -> Size:
    return Size(height=reader.count("height", 1, _MAX_SIDE), width=reader.count("width", 1, _MAX_SIDE))


def _files(reader: _Reader) -> dict[str, str]:
    for name in reader.tree:
        check_file_name(name, reader.source)
        reader.matching(name, _SHA256, "a sha256 in hexadecimal")
    return dict(reader.tree)


def _listed(reader: _Reader, key: str, files: dict[str, str]) -> str:
    name = reader.get(key, str)
    if name not in files:
        raise reader.wrong(key, "a name listed in files", name)
    return name


def _precision(reader: _Reader, files: dict[str, str]) -> PrecisionEntry:
    return PrecisionEntry(
        graph=_listed(reader, "graph", files),
        threshold=reader.get("threshold", float),
        threshold_version=reader.count("threshold_version", 1),
        false_reject_rate=reader.number("false_reject_rate", "0 to 1", lambda rate: 0 <= rate <= 1),
        normal_images=reader.count("normal_images", 1),
        score_spread=reader.number("score_spread", "a number above 0", lambda spread: spread > 0),
        score_mean=reader.optional("score_mean", lambda: reader.get("score_mean", float)),
        map_tolerance=_tolerance(reader, "map_tolerance"),
        score_tolerance=_tolerance(reader, "score_tolerance"),
    )


def _tolerance(reader: _Reader, name: str) -> float | None:
    return reader.optional(name, lambda: reader.number(name, "a number above 0", lambda tolerance: tolerance > 0))


def _engine(reader: _Reader, files: dict[str, str]) -> EngineEntry:
    entry = EngineEntry(
        file=_listed(reader, "file", files),
        flavour=reader.one_of("flavour", ("trt", "rtx")),
        version=reader.matching("version", re.compile(r"[0-9.]{1,32}"), "digits and dots"),
        target=reader.matching("target", re.compile(r"sm[0-9]{2,3}|portable"), "sm89 or portable"),
        precision=reader.one_of("precision", PRECISIONS),
        graph_sha256=reader.matching("graph_sha256", _SHA256, "a sha256 in hexadecimal"),
        max_batch=reader.count("max_batch", 1, MOST_FRAMES),
        settings=_settings(reader.child("settings")) if "settings" in reader.tree else EngineSettings(),
        precision_confirmed=reader.optional("precision_confirmed", lambda: reader.get("precision_confirmed", bool)),
    )
    batches = [entry.settings.min_batch, entry.settings.opt_batch or entry.max_batch, entry.max_batch]
    if batches != sorted(batches):
        raise reader.wrong("settings", "min_batch <= opt_batch <= max_batch", batches)
    return entry


def _settings(reader: _Reader) -> EngineSettings:
    def count(key: str, least: int, most: int) -> int | None:
        return reader.optional(key, lambda: reader.count(key, least, most))

    return EngineSettings(
        min_batch=reader.count("min_batch", 1, MOST_FRAMES),
        opt_batch=count("opt_batch", 1, MOST_FRAMES),
        optimization_level=count("optimization_level", 0, 5),
        workspace_mib=count("workspace_mib", 1, 1 << 20),
        sparsity=reader.get("sparsity", bool),
        version_compatible=reader.get("version_compatible", bool),
        hardware_compatible=reader.get("hardware_compatible", bool),
        dla_core=count("dla_core", 0, 15),
    )
