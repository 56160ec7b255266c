"""Golden vectors: hostile archives are refused, and a backend that answers otherwise is caught and named."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_ad.bundle import Bundle
from edge_ad.errors import BundleCorrupt, BundleMismatch
from edge_ad.golden import GOLDEN_FILE, TOLERANCE, Golden, check_golden, golden_error, read_golden
from tests.golden_bundle import golden_bundle, swap_file

Arrays = dict[str, npt.NDArray[np.generic]]


def packed(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def arrays_of(bundle: Bundle) -> Arrays:
    with np.load(bundle.path / GOLDEN_FILE) as arrays:
        return dict(arrays)


def refused(bundle: Bundle, content: bytes, complaint: str) -> str:
    """Even with the right hash the archive is not taken; returns what came instead."""
    swap_file(bundle.path, GOLDEN_FILE, content)
    with pytest.raises(BundleCorrupt, match=complaint) as caught:
        read_golden(Bundle(bundle.path))
    assert GOLDEN_FILE in caught.value.what
    return str(caught.value.got)


def test_what_is_packed_is_read(tmp_path: Path) -> None:
    bundle = golden_bundle(tmp_path / "all", "fp32", "int8")
    golden = read_golden(bundle)
    again = np.load(io.BytesIO(golden.to_bytes()))
    assert set(again) == {"image", "anomaly_map_fp32", "score_fp32", "anomaly_map_int8", "score_int8"}
    np.testing.assert_array_equal(golden.answers["int8"][0], again["anomaly_map_int8"])
    np.testing.assert_array_equal(golden.image, again["image"])


def entry(header: str, body: bytes) -> bytes:
    """A version 1 .npy file with any header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def array(shape: str, body: bytes) -> bytes:
    return entry(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}", body)


def archive(image: bytes) -> bytes:
    """Everything a fp32 bundle needs is there, the image first."""
    others = {"anomaly_map_fp32.npy": array("(1,)", b"x"), "score_fp32.npy": array("(1,)", b"x")}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in {"image.npy": image, **others}.items():
            file.writestr(name, content)
    return buffer.getvalue()


def patched(content: bytes, in_file: int, in_directory: int, value: bytes) -> bytes:
    """Overwrite a field of the first entry, in the header before it and in the directory at the end."""
    spoiled = bytearray(content)
    directory = content.index(b"PK\x01\x02")
    spoiled[in_file : in_file + len(value)] = value
    spoiled[directory + in_directory : directory + in_directory + len(value)] = value
    return bytes(spoiled)


def with_unpacked_size(content: bytes, size: int) -> bytes:
    return patched(content, 22, 24, struct.pack("<I", size))


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_pickles_are_not_run(tiny_bundle: Bundle, tmp_path: Path) -> None:
    trap = tmp_path / "trapped"
    payload = pickle.dumps(np.array([Payload(trap)], object))
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"
    for content in (archive(entry(header, payload)), archive(payload), payload):
        refused(tiny_bundle, content, r"cannot be read|image is wrong")
        assert not trap.exists()
    pickle.loads(payload)
    assert trap.exists(), "the payload works, so it was really not run"


def overlapping_archive() -> bytes:
    """10,000 directory entries for one file of 1 MiB: 10 GiB in all."""
    content = archive(bytes(1 << 20))
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    first = content[start : content.index(b"PK\x01\x02", start + 1)]
    tail = bytearray(content[end:])
    tail[8:12] = struct.pack("<HH", 10_000, 10_000)
    tail[12:16] = struct.pack("<I", len(first) * 10_000)
    return content[:start] + first * 10_000 + bytes(tail)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a zip file"),
    "not an archive": (b"golden", "not a zip file"),
    "an archive cut off": (archive(b"x" * 100)[:-30], "not a zip file"),
    "an array cut off": (archive(array("(100,)", b"x")), "expected 100 bytes got 1"),
    "a petabyte array of one byte": (archive(array("(1000000000000000,)", b"x")), "Unable to allocate"),
    "more elements than integers count": (archive(array("(10000000000, 10000000000)", b"x")), ""),
    "code for a header": (archive(entry("__import__('os').abort()", b"")), "malformed node"),
    "a bomb that says so": (with_unpacked_size(archive(b"x"), 3 << 30), "unpacks to 322122"),
    "a bomb that lies": (with_unpacked_size(archive(bytes(64 << 20)), 100), "Bad CRC-32"),
    "a bomb of one file many times": (overlapping_archive(), "unpacks to 10485760000 bytes"),
    "an unknown compression": (patched(archive(b"x"), 8, 10, b"\x63\0"), "compression method"),
    "encrypted": (patched(archive(b"x"), 6, 8, b"\x01\0"), "encrypted"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused(tiny_bundle: Bundle, case: str) -> None:
    content, reason = HOSTILE[case]
    assert reason in refused(tiny_bundle, content, "cannot be read")


def test_an_entry_that_is_no_array_is_refused(tiny_bundle: Bundle) -> None:
    refused(tiny_bundle, archive(b"hello"), "image is wrong")


WRONG_ARRAYS: dict[str, tuple[Callable[[Arrays], object], str]] = {
    "no image": (lambda arrays: arrays.pop("image"), "cannot be read"),
    "no answer": (lambda arrays: arrays.pop("score_fp32"), "cannot be read"),
    "a single number": (lambda arrays: arrays.update(image=np.array(1, np.uint8)), "image is wrong"),
    "no frames": (lambda arrays: arrays.update({key: value[:0] for key, value in arrays.items()}), "image is wrong"),
    "frames of another size": (lambda arrays: arrays.update(image=arrays["image"][:, :-1]), "image is wrong"),
    "float frames": (lambda arrays: arrays.update(image=arrays["image"].astype(np.float32)), "image is wrong"),
    "fewer scores": (lambda arrays: arrays.update(score_fp32=arrays["score_fp32"][:1]), "score_fp32 is wrong"),
    "double scores": (
        lambda arrays: arrays.update(score_fp32=arrays["score_fp32"].astype(np.float64)),
        "score_fp32 is wrong",
    ),
    "maps on their side": (
        lambda arrays: arrays.update(anomaly_map_fp32=arrays["anomaly_map_fp32"].transpose(0, 2, 1)),
        "anomaly_map_fp32 is wrong",
    ),
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_arrays_that_do_not_fit_the_manifest_are_refused(tiny_bundle: Bundle, case: str) -> None:
    change, complaint = WRONG_ARRAYS[case]
    arrays = arrays_of(tiny_bundle)
    change(arrays)
    refused(tiny_bundle, packed(arrays), complaint)


def test_a_bundle_without_golden_vectors_is_refused(tiny_bundle: Bundle) -> None:
    with tiny_bundle.edit() as edit:
        edit.remove(GOLDEN_FILE)
    with pytest.raises(BundleMismatch, match=r"no file golden\.npz"):
        read_golden(tiny_bundle)


def test_the_error_is_in_units_of_the_spread() -> None:
    zeros, one = np.zeros((1, 2, 2), np.float32), np.zeros(1, np.float32)
    came = zeros.copy()
    came[0, 1, 0] = -3.0
    assert golden_error((zeros, one), (came, one + 1), spread=2.0) == (1.5, 0.5)
    for fault in (np.nan, np.inf, -np.inf):
        came[0, 0, 0] = fault
        assert golden_error((zeros, one), (came, one), spread=2.0) == (np.inf, 0.0)


def test_a_faithful_backend_is_accepted_with_its_worst_error(tiny_bundle: Bundle) -> None:
    golden, spread = read_golden(tiny_bundle), tiny_bundle.precision("fp32").score_spread
    maps, scores = golden.answers["fp32"]
    calls = iter(range(len(golden.image)))

    def run(images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        index = next(calls)
        np.testing.assert_array_equal(images, golden.image[index : index + 1])
        shift = np.float32(0.5 * TOLERANCE["fp32"] * spread * index)
        return maps[index : index + 1], scores[index : index + 1] + shift

    assert check_golden(tiny_bundle, "fp32", "test", run) == pytest.approx(0.5 * TOLERANCE["fp32"], rel=0.01)
    assert next(calls, None) is None, "every golden frame was run"


@pytest.mark.parametrize("wrong_by", [2.0, -2.0, np.nan, np.inf])
def test_an_unfaithful_map_is_named_with_its_place(tiny_bundle: Bundle, wrong_by: float) -> None:
    golden = read_golden(tiny_bundle)
    maps, scores = golden.answers["fp32"]
    spread = tiny_bundle.precision("fp32").score_spread
    calls = iter(range(len(golden.image)))

    def run(_: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        index = next(calls)
        came = maps[index : index + 1].copy()
        if index == 1:
            came[0, 3, 5] += np.float32(wrong_by * TOLERANCE["fp32"] * spread)
        return came, scores[index : index + 1]

    with pytest.raises(BundleMismatch, match=r"by test in fp32: anomaly_map of golden frame 1 .* at \(3, 5\)"):
        check_golden(tiny_bundle, "fp32", "test", run)


@pytest.mark.parametrize(
    ("of_map", "of_score", "wrong"), [(1.5, None, None), (0.5, 1.5, "anomaly_map"), (1.5, 0.5, "score")]
)
def test_a_bundle_may_tell_its_own_tolerances(
    tiny_bundle: Bundle, of_map: float, of_score: float | None, wrong: str | None
) -> None:
    """The map is off by what float32 may be, the score by nearly as much."""
    usual = TOLERANCE["fp32"]
    entry = dataclasses.replace(
        tiny_bundle.precision("fp32"),
        map_tolerance=of_map * usual,
        score_tolerance=None if of_score is None else of_score * usual,
    )
    tiny_bundle.manifest = dataclasses.replace(tiny_bundle.manifest, precisions={"fp32": entry})
    golden = read_golden(tiny_bundle)
    calls = iter(range(len(golden.image)))

    def run(_: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        index = next(calls)
        maps, scores = (answer[index : index + 1] for answer in golden.answers["fp32"])
        return maps + np.float32(usual * entry.score_spread), scores + np.float32(0.9 * usual * entry.score_spread)

    if wrong is None:
        assert check_golden(tiny_bundle, "fp32", "test", run) == pytest.approx(usual, rel=0.01)
    else:
        with pytest.raises(BundleMismatch, match=f"in fp32: {wrong} of golden frame"):
            check_golden(tiny_bundle, "fp32", "test", run)


@pytest.mark.parametrize("spoil", ["half_map", "short_score", "double_score"])
def test_an_answer_of_another_form_is_refused(tiny_bundle: Bundle, spoil: str) -> None:
    maps, scores = read_golden(tiny_bundle).answers["fp32"]
    answers = {
        "half_map": (maps[:1, ::2], scores[:1]),
        "short_score": (maps[:1], scores[:0]),
        "double_score": (maps[:1], scores[:1].astype(np.float64)),
    }
    with pytest.raises(BundleMismatch, match=r"is not what the manifest says"):
        check_golden(tiny_bundle, "fp32", "test", lambda _: answers[spoil])


def test_golden_vectors_that_are_not_finite_are_never_reproduced(tiny_bundle: Bundle) -> None:
    arrays = arrays_of(tiny_bundle)
    arrays["score_fp32"] = np.full(2, np.nan, np.float32)
    golden = Golden(image=arrays["image"], answers={"fp32": (arrays["anomaly_map_fp32"], arrays["score_fp32"])})
    with tiny_bundle.edit() as edit:
        edit.write(GOLDEN_FILE, golden.to_bytes())
    with pytest.raises(BundleMismatch, match="score of golden frame 0"):
        check_golden(tiny_bundle, "fp32", "test", lambda _: (golden.answers["fp32"][0][:1], arrays["score_fp32"][:1]))
