"""Writing bundles: all of a change or none of it, nothing outside, and never over what somebody else wrote."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from edge_ad.bundle import Bundle, create_bundle
from edge_ad.errors import BundleCorrupt, BundleError
from edge_ad.manifest import EngineEntry
from tests.golden_bundle import contents, snapshot


def add_engine(bundle: Bundle, *, file: str = "engines/a.engine", graph_sha256: str | None = None) -> EngineEntry:
    entry = EngineEntry(
        file=file,
        flavour="rtx",
        version="1.7",
        target="sm89",
        precision="fp32",
        graph_sha256=graph_sha256 or bundle.manifest.files["model.onnx"],
        max_batch=1,
    )
    with bundle.edit() as edit:
        edit.write(entry.file, b"engine")
        edit.manifest = dataclasses.replace(edit.manifest, engines=(entry,))
    return entry


def test_an_edit_changes_files_and_manifest_together(tiny_bundle: Bundle) -> None:
    with tiny_bundle.edit() as edit:
        edit.write("report.json", b"{}")
        edit.write("golden.npz", b"new")
        edit.manifest = dataclasses.replace(edit.manifest, name="renamed")
        assert Bundle(tiny_bundle.path).manifest.name == "tiny", "nothing shows before the end"
    again = Bundle(tiny_bundle.path)
    assert again.manifest == tiny_bundle.manifest
    assert (again.manifest.name, again.read("report.json"), again.read("golden.npz")) == ("renamed", b"{}", b"new")
    assert not list(again.path.rglob("*.partial"))


def test_an_edit_that_raises_changes_nothing(tiny_bundle: Bundle) -> None:
    before = snapshot(tiny_bundle.path)
    with pytest.raises(ZeroDivisionError), tiny_bundle.edit() as edit:
        edit.write("model.onnx", b"other")
        edit.write("engines/new.engine", b"other")
        edit.remove("golden.npz")
        raise ZeroDivisionError
    assert snapshot(tiny_bundle.path) == before
    tiny_bundle.verify()


def test_a_removed_file_goes_with_the_commit(tiny_bundle: Bundle) -> None:
    with tiny_bundle.edit() as edit:
        edit.remove("golden.npz")
        assert (tiny_bundle.path / "golden.npz").exists()
    assert set(Bundle(tiny_bundle.path).manifest.files) == {"model.onnx"}
    assert not (tiny_bundle.path / "golden.npz").exists()


def test_a_file_removed_and_written_again_stays(tiny_bundle: Bundle) -> None:
    with tiny_bundle.edit() as edit:
        edit.remove("golden.npz")
        edit.write("golden.npz", b"new")
    assert Bundle(tiny_bundle.path).read("golden.npz") == b"new"


def test_a_file_written_and_removed_again_is_not_there(tiny_bundle: Bundle) -> None:
    before = snapshot(tiny_bundle.path)
    with tiny_bundle.edit() as edit:
        edit.write("report.json", b"{}")
        edit.remove("report.json")
    assert snapshot(tiny_bundle.path) == before


def test_engines_of_an_old_graph_are_dropped(tiny_bundle: Bundle) -> None:
    engine = add_engine(tiny_bundle)
    with tiny_bundle.edit() as edit:
        edit.write("report.json", b"{}")
    assert Bundle(tiny_bundle.path).manifest.engines == (engine,), "its graph did not change"
    with tiny_bundle.edit() as edit:
        edit.write("model.onnx", b"another graph")
    again = Bundle(tiny_bundle.path)
    assert again.manifest.engines == ()
    assert engine.file not in again.manifest.files
    assert not (again.path / engine.file).exists()


UNSAFE = ["../outside", "/tmp/outside", "a/b/c", "manifest.json", "model.onnx.partial"]


@pytest.mark.parametrize("name", UNSAFE)
def test_an_edit_writes_only_inside_the_bundle(tiny_bundle: Bundle, name: str) -> None:
    before = snapshot(tiny_bundle.path.parent)
    with pytest.raises(BundleCorrupt, match="unsafe"), tiny_bundle.edit() as edit:
        edit.write(name, b"x")
    assert snapshot(tiny_bundle.path.parent) == before


@pytest.mark.parametrize("name", UNSAFE)
def test_a_new_bundle_writes_only_inside_itself(tiny_bundle: Bundle, name: str, tmp_path: Path) -> None:
    with pytest.raises(BundleCorrupt, match="unsafe"):
        create_bundle(tmp_path / "new", tiny_bundle.manifest, {**contents(tiny_bundle), name: b"x"})
    assert sorted(tmp_path.iterdir()) == [tiny_bundle.path]


def test_planted_links_are_not_followed(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A hostile bundle may hold links where an edit will write."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    for name in ("report.json.partial", "manifest.json.partial"):
        (tiny_bundle.path / name).symlink_to(precious)
    with tiny_bundle.edit() as edit:
        edit.write("report.json", b"{}")
    assert precious.read_bytes() == b"mine"
    assert Bundle(tiny_bundle.path).read("report.json") == b"{}"

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tiny_bundle.path / "engines").symlink_to(elsewhere)
    with pytest.raises(BundleCorrupt, match="engines is a link"), tiny_bundle.edit() as edit:
        edit.write("engines/a.engine", b"engine")
    assert not any(elsewhere.iterdir())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"precisions": {}}, BundleCorrupt),
        ({"schema": 7}, BundleCorrupt),
        ({"provenance": {"loss": float("nan")}}, BundleError),
    ],
)
def test_an_edit_cannot_make_a_manifest_nobody_can_read(
    tiny_bundle: Bundle, change: dict[str, Any], error: type[BundleError]
) -> None:
    before = snapshot(tiny_bundle.path)
    with pytest.raises(error), tiny_bundle.edit() as edit:
        edit.write("report.json", b"{}")
        edit.manifest = dataclasses.replace(edit.manifest, **change)
    assert snapshot(tiny_bundle.path) == before


def test_a_threshold_that_is_no_number_is_not_written(tiny_bundle: Bundle, tmp_path: Path) -> None:
    entry = dataclasses.replace(tiny_bundle.precision("fp32"), threshold=float("nan"))
    manifest = dataclasses.replace(tiny_bundle.manifest, precisions={"fp32": entry})
    with pytest.raises(BundleError, match="cannot be written"):
        create_bundle(tmp_path / "new", manifest, contents(tiny_bundle))
    assert not (tmp_path / "new").exists()


def test_a_change_by_another_program_meanwhile_is_not_lost(tiny_bundle: Bundle) -> None:
    other = Bundle(tiny_bundle.path)
    with pytest.raises(BundleError, match="another program"), tiny_bundle.edit() as edit:
        edit.write("golden.npz", b"slow")
        with other.edit() as quick:
            quick.write("report.json", b"quick")
    again = Bundle(tiny_bundle.path)
    again.verify()
    assert again.manifest == other.manifest


def test_an_edit_starts_from_what_is_on_disk(tiny_bundle: Bundle) -> None:
    with Bundle(tiny_bundle.path).edit() as edit:
        edit.write("report.json", b"{}")
    with tiny_bundle.edit() as edit:
        edit.write("more.json", b"{}")
    Bundle(tiny_bundle.path).verify()
    assert set(tiny_bundle.manifest.files) == {"model.onnx", "golden.npz", "report.json", "more.json"}


def test_a_new_bundle_is_not_written_over_anything(tiny_bundle: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for place in (tiny_bundle.path, tmp_path, file):
        with pytest.raises(BundleError, match="already exists"):
            create_bundle(place, tiny_bundle.manifest, contents(tiny_bundle))


def test_force_replaces_bundles_only(tiny_bundle: Bundle, tmp_path: Path) -> None:
    other = dataclasses.replace(tiny_bundle.manifest, name="other")
    files = contents(tiny_bundle)
    (tiny_bundle.path / "stray").write_bytes(b"of the old bundle")
    created = create_bundle(tiny_bundle.path, other, files, force=True)
    assert created.manifest.name == "other"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.bundle"]
    assert sorted(snapshot(created.path)) == ["golden.npz", "manifest.json", "model.onnx"]

    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"precious")
    for place in (photos, photos / "a.jpg"):
        with pytest.raises(BundleError, match="will not delete"):
            create_bundle(place, other, files, force=True)
    assert (photos / "a.jpg").read_bytes() == b"precious"

    (tmp_path / "empty").mkdir()
    create_bundle(tmp_path / "empty", other, files, force=True).verify()


def test_force_through_a_link_replaces_the_bundle_and_keeps_the_link(tiny_bundle: Bundle, tmp_path: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to(tiny_bundle.path)
    create_bundle(current, dataclasses.replace(tiny_bundle.manifest, name="new"), contents(tiny_bundle), force=True)
    assert current.is_symlink()
    assert Bundle(tiny_bundle.path).manifest.name == "new"


def test_a_bundle_can_be_created_where_the_folders_are_missing(tiny_bundle: Bundle, tmp_path: Path) -> None:
    create_bundle(tmp_path / "a" / "b", tiny_bundle.manifest, contents(tiny_bundle)).verify()
