"""manifest.json is read strictly: whatever is not as written there is refused with the field's name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from edge_ad.errors import BundleCorrupt, BundleError
from edge_ad.manifest import EngineEntry, Manifest, PrecisionEntry, Size, check_file_name

HASH = "0" * 64


def whole_manifest() -> Manifest:
    entry = PrecisionEntry(
        graph="model.onnx",
        threshold=0.5,
        threshold_version=1,
        false_reject_rate=0.01,
        normal_images=50,
        score_spread=0.1,
        score_mean=0.25,
        map_tolerance=0.5,
        score_tolerance=0.4,
    )
    engine = EngineEntry(
        file="engines/a.engine",
        flavour="rtx",
        version="1.7.1",
        target="sm89",
        precision="fp32",
        graph_sha256=HASH,
        max_batch=8,
    )
    return Manifest(
        name="bottle",
        method="simplenet",
        input=Size(height=10, width=20),
        map=Size(height=5, width=6),
        precisions={"fp32": entry},
        engines=(engine,),
        provenance={"dataset": "cookie", "options": {"seed": 0}},
        files={"model.onnx": HASH, "golden.npz": HASH, "engines/a.engine": HASH, "engines/b.engine": HASH},
    )


def spoiled(change: Callable[[dict[str, Any]], object]) -> bytes:
    tree = json.loads(whole_manifest().to_json())
    change(tree)
    return json.dumps(tree).encode()


def test_what_is_written_is_read() -> None:
    manifest = whole_manifest()
    assert Manifest.from_json(manifest.to_json(), "m.json") == manifest


def test_an_engine_of_before_settings_were_known_has_the_settings_of_then() -> None:
    def drop(tree: dict[str, Any]) -> None:
        del tree["engines"][0]["settings"], tree["engines"][0]["precision_confirmed"]

    (then,) = Manifest.from_json(spoiled(drop), "m.json").engines
    assert then == whole_manifest().engines[0]
    assert (then.settings.min_batch, then.settings.opt_batch, then.precision_confirmed) == (1, None, None)


@pytest.mark.parametrize(
    "change", [lambda tree: entry(tree).pop("score_mean"), lambda tree: entry(tree).update(score_mean=None)]
)
def test_a_bundle_of_before_the_mean_was_known_has_none(change: Callable[[dict[str, Any]], object]) -> None:
    then = Manifest.from_json(spoiled(change), "m.json")
    assert then.precisions["fp32"] == dataclasses.replace(whole_manifest().precisions["fp32"], score_mean=None)
    assert Manifest.from_json(then.to_json(), "m.json") == then, "and goes on without when it is written again"


def test_settings_make_another_engine_and_a_confirmation_does_not() -> None:
    manifest = whole_manifest()
    (engine,) = manifest.engines
    faster = dataclasses.replace(engine.settings, optimization_level=5, dla_core=0)
    other = dataclasses.replace(engine, settings=faster, precision_confirmed=True)
    (again,) = Manifest.from_json(dataclasses.replace(manifest, engines=(other,)).to_json(), "m.json").engines
    assert again == other != engine
    assert again.precision_confirmed
    assert dataclasses.replace(engine, precision_confirmed=True) == engine


def entry(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = tree["precisions"]["fp32"]
    return found


def engine(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = tree["engines"][0]
    return found


def settings(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = engine(tree)["settings"]
    return found


WRONG_FIELDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no schema": (lambda tree: tree.pop("schema"), "schema"),
    "newer schema": (lambda tree: tree.update(schema=2), "another schema"),
    "true as schema": (lambda tree: tree.update(schema=True), "schema"),
    "name a number": (lambda tree: tree.update(name=3), "name"),
    "no method": (lambda tree: tree.pop("method"), "method"),
    "input a list": (lambda tree: tree.update(input=[10, 20]), "input"),
    "height zero": (lambda tree: tree["input"].update(height=0), "input.height"),
    "width a billion": (lambda tree: tree["map"].update(width=10**9), "map.width"),
    "height a fraction": (lambda tree: tree["input"].update(height=10.5), "input.height"),
    "no precisions": (lambda tree: tree.update(precisions={}), "precisions"),
    "precision unknown": (lambda tree: tree["precisions"].update(fp4=entry(tree)), "precisions"),
    "precision a number": (lambda tree: tree["precisions"].update(fp32=1), "precisions.fp32"),
    "graph not listed": (lambda tree: entry(tree).update(graph="other.onnx"), "precisions.fp32.graph"),
    "threshold a string": (lambda tree: entry(tree).update(threshold="0.5"), "precisions.fp32.threshold"),
    "threshold overflows": (lambda tree: entry(tree).update(threshold=10**400), "precisions.fp32.threshold"),
    "threshold version zero": (lambda tree: entry(tree).update(threshold_version=0), "threshold_version"),
    "rate above one": (lambda tree: entry(tree).update(false_reject_rate=1.5), "false_reject_rate"),
    "rate negative": (lambda tree: entry(tree).update(false_reject_rate=-0.1), "false_reject_rate"),
    "no normal images": (lambda tree: entry(tree).update(normal_images=0), "normal_images"),
    "spread zero": (lambda tree: entry(tree).update(score_spread=0), "score_spread"),
    "spread negative, which would accept any answer": (
        lambda tree: entry(tree).update(score_spread=-1.0),
        "score_spread",
    ),
    "mean a string": (lambda tree: entry(tree).update(score_mean="0.3"), "precisions.fp32.score_mean"),
    "mean overflows": (lambda tree: entry(tree).update(score_mean=10**400), "precisions.fp32.score_mean"),
    "map tolerance zero": (lambda tree: entry(tree).update(map_tolerance=0.0), "precisions.fp32.map_tolerance"),
    "score tolerance a string": (lambda tree: entry(tree).update(score_tolerance="0.3"), "score_tolerance"),
    "engines an object": (lambda tree: tree.update(engines={}), "engines"),
    "engine a string": (lambda tree: tree.update(engines=["a"]), "engines[0]"),
    "engine not listed": (lambda tree: engine(tree).update(file="engines/c.engine"), "engines[0].file"),
    "flavour unknown": (lambda tree: engine(tree).update(flavour="dla"), "engines[0].flavour"),
    "version with letters": (lambda tree: engine(tree).update(version="1.7-rc"), "engines[0].version"),
    "target unknown": (lambda tree: engine(tree).update(target="sm9"), "engines[0].target"),
    "engine precision unknown": (lambda tree: engine(tree).update(precision="fp4"), "engines[0].precision"),
    "engine hash short": (lambda tree: engine(tree).update(graph_sha256="ab"), "engines[0].graph_sha256"),
    "batch zero": (lambda tree: engine(tree).update(max_batch=0), "engines[0].max_batch"),
    "settings a list": (lambda tree: engine(tree).update(settings=[]), "engines[0].settings"),
    "level six": (lambda tree: settings(tree).update(optimization_level=6), "engines[0].settings.optimization_level"),
    "level true": (lambda tree: settings(tree).update(optimization_level=True), "settings.optimization_level"),
    "no workspace at all": (lambda tree: settings(tree).update(workspace_mib=0), "settings.workspace_mib"),
    "sparsity a number": (lambda tree: settings(tree).update(sparsity=1), "engines[0].settings.sparsity"),
    "sparsity left out": (lambda tree: settings(tree).pop("sparsity"), "engines[0].settings.sparsity"),
    "least batch above the largest": (lambda tree: settings(tree).update(min_batch=9), "engines[0].settings"),
    "best batch below the least": (lambda tree: settings(tree).update(min_batch=4, opt_batch=2), "engines[0].settings"),
    "confirmed maybe": (lambda tree: engine(tree).update(precision_confirmed="yes"), "precision_confirmed"),
    "engine twice": (lambda tree: tree["engines"].append(dict(engine(tree), file="engines/b.engine")), "engines"),
    "engine file is a graph": (lambda tree: engine(tree).update(file="model.onnx"), "precisions or engines"),
    "provenance a string": (lambda tree: tree.update(provenance="me"), "provenance"),
    "no files": (lambda tree: tree.pop("files"), "files"),
    "hash in capitals": (lambda tree: tree["files"].update({"golden.npz": "A" * 64}), "files.golden.npz"),
    "hash null": (lambda tree: tree["files"].update({"golden.npz": None}), "files.golden.npz"),
}


@pytest.mark.parametrize("case", WRONG_FIELDS)
def test_a_wrong_field_is_named(case: str) -> None:
    change, field = WRONG_FIELDS[case]
    with pytest.raises(BundleCorrupt) as caught:
        Manifest.from_json(spoiled(change), "m.json")
    assert caught.value.what.startswith("m.json")
    assert field in caught.value.what


UNSAFE_NAMES = [
    "",
    ".",
    "..",
    "../model.onnx",
    "engines/../../model.onnx",
    "engines/..",
    "/etc/passwd",
    "a/b/c",
    "C:model.onnx",
    "C:\\model.onnx",
    "..\\model.onnx",
    "a\\b",
    ".hidden",
    "engines/.hidden",
    "~",
    "-rf",
    "model.onnx\n",
    "model\0.onnx",
    "mödel.onnx",
    "manifest.json",
    "model.onnx.partial",
]


@pytest.mark.parametrize("name", UNSAFE_NAMES)
def test_a_name_that_leaves_the_bundle_or_is_taken_is_refused(name: str) -> None:
    with pytest.raises(BundleCorrupt, match="unsafe"):
        Manifest.from_json(spoiled(lambda tree: tree["files"].update({name: HASH})), "m.json")
    with pytest.raises(BundleCorrupt, match="unsafe"):
        check_file_name(name, "m.json")


@pytest.mark.parametrize("name", ["model.onnx", "engines/int8-rtx-1.7.1-sm89.engine", "A_b-c.d"])
def test_ordinary_names_are_taken(name: str) -> None:
    assert check_file_name(name, "m.json") == name


def nested(depth: int) -> list[Any]:
    tree: list[Any] = []
    for _ in range(depth):
        tree = [tree]
    return tree


NOT_MANIFESTS = {
    "empty": b"",
    "cut off": whole_manifest().to_json()[:100],
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "binary": bytes(range(256)),
    "text in latin-1": '{"name": "é"}'.encode("latin-1"),
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep provenance": spoiled(lambda tree: tree.update(provenance={"a": nested(100)})),
    "deep name": spoiled(lambda tree: tree.update(name=nested(500))),
    "NaN": whole_manifest().to_json().replace(b'"threshold": 0.5', b'"threshold": NaN'),
    "Infinity": whole_manifest().to_json().replace(b'"threshold": 0.5', b'"threshold": -Infinity'),
    "NaN in provenance": whole_manifest().to_json().replace(b'"seed": 0', b'"seed": NaN'),
    "overflowing number": whole_manifest().to_json().replace(b'"threshold": 0.5', b'"threshold": 1e999'),
    "a number of 5000 digits": whole_manifest().to_json().replace(b'"seed": 0', b'"seed": ' + b"9" * 5000),
}


@pytest.mark.parametrize("case", NOT_MANIFESTS)
def test_what_is_no_manifest_is_refused(case: str) -> None:
    with pytest.raises(BundleCorrupt, match=r"m\.json"):
        Manifest.from_json(NOT_MANIFESTS[case], "m.json")


@pytest.mark.parametrize("provenance", [{"loss": float("nan")}, {"options": object()}])
def test_what_json_cannot_hold_is_not_written(provenance: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="cannot be written as JSON"):
        dataclasses.replace(whole_manifest(), provenance=provenance).to_json()
