"""The whole station on drawn cameras: every trigger ends exactly once, whatever fails, switches or stops meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_ad.bundle import Bundle
from edge_ad.errors import BundleMismatch, InspectionFault, StationError, TriggerRefused
from edge_ad.inspection import Inspection
from edge_ad.inspector import Inspector
from edge_ad.station.query import Query, Reader
from edge_ad.station.station import Station
from edge_ad.station.ticket import Ticket
from edge_ad.station.verdict import ANOMALOUS, FAULT, GOOD, Verdict
from tests.golden_bundle import brightness_bundle, spoil_manifest
from tests.station.conftest import CAMERA, MakeSettings, MakeStation
from tests.station.made import mounted, until


def recorded(station: Station) -> list[Verdict]:
    with Reader(station.settings.record.folder) as reader:
        return list(reader.verdicts(Query(oldest_first=True)))


def ends(tickets: list[Ticket]) -> list[Verdict]:
    """What the tickets ended in."""
    found = [ticket.wait(20) for ticket in tickets]
    assert None not in found
    return [verdict for verdict in found if verdict is not None]


def test_a_verdict_says_everything_about_its_part(station: MakeStation, tmp_path: Path) -> None:
    running = station()
    (ticket,) = running.trigger("4711")
    (verdict,) = ends([ticket])
    bundle = Bundle(tmp_path / "bright.bundle")
    assert (verdict.part_id, verdict.camera, verdict.recipe, verdict.sequence) == ("4711", "top", "bright", 0)
    assert verdict.model is not None
    assert (
        verdict.model.bundle_sha256 == bundle.sha256
        and verdict.model.model_sha256 == bundle.manifest.files["model.onnx"]
    )
    assert verdict.model.threshold == bundle.precision("fp32").threshold
    assert ticket.frame is not None
    brightest = ticket.frame.image.astype(np.float32).mean(axis=2).reshape(8, 2, 12, 2).mean(axis=(1, 3)).max()
    assert verdict.score == pytest.approx(
        brightest, abs=0.01
    )  # the frame that was triggered is the one that was judged
    assert verdict.verdict == (ANOMALOUS if brightest > verdict.model.threshold else GOOD)
    assert recorded(running) == [verdict]


def test_every_trigger_ends_once_however_the_camera_fails(station: MakeStation) -> None:
    faulty = CAMERA.replace("24x16", "24x16?gaps=0.1&incomplete=0.1&silent=0.05&lost_after=60")
    running = station(faulty.replace("timeout_ms = 5000", "timeout_ms = 100"))
    tickets = []
    for number in range(150):
        tickets += running.trigger(f"part-{number}")
        time.sleep(0.002)
    verdicts = ends(tickets)
    assert [verdict.part_id for verdict in verdicts] == [f"part-{number}" for number in range(150)]
    kinds = Counter(verdict.verdict for verdict in verdicts)
    assert kinds[FAULT] >= 10 and kinds[ANOMALOUS] + kinds[GOOD] >= 10
    assert all((verdict.score is None) == (verdict.verdict == FAULT) == bool(verdict.reason) for verdict in verdicts)
    assert sorted(v.number for v in recorded(running)) == list(range(1, 151))
    assert sorted(v.id for v in recorded(running)) == list(range(1, 151))


@pytest.mark.parametrize("part_id", ["", "x" * 257, "Geh\udce4use", 4711])
def test_a_part_id_that_cannot_be_kept_is_refused_and_the_next_part_is_judged(
    station: MakeStation, part_id: Any
) -> None:
    """Latin-1 that comes where UTF-8 is expected is no text."""
    running = station()
    with pytest.raises(TriggerRefused, match="part id cannot be kept"):
        running.trigger(part_id)
    (verdict,) = ends(running.trigger("Gehäuse \0"))
    assert recorded(running) == [verdict] and verdict.part_id == "Gehäuse \0"


def test_a_reason_that_is_no_text_is_recorded_all_the_same(station: MakeStation, tmp_path: Path) -> None:
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / os.fsdecode(b"G\xe4nge.png")).write_bytes(b"no picture")
    running = station(CAMERA.replace("synthetic://24x16", f"file://{tmp_path}/shown"))
    verdicts = ends(running.trigger() + running.trigger())
    assert {verdict.verdict for verdict in verdicts} == {FAULT}
    assert [v.reason for v in recorded(running)] == [verdict.reason for verdict in verdicts]
    assert any("G\\udce4nge.png" in verdict.reason for verdict in verdicts)


def test_a_black_image_is_a_fault_and_its_image_is_kept(station: MakeStation) -> None:
    running = station(CAMERA + "black_level = 255\nblack_share = 0.5\n")
    (verdict,) = ends(running.trigger())
    assert verdict.verdict == FAULT and "black" in verdict.reason and verdict.sequence == 0
    until(lambda: running.images.kept == 1)


def test_a_frame_of_another_size_is_a_fault_that_says_so(station: MakeStation) -> None:
    running = station(CAMERA.replace("24x16", "32x32"))
    (verdict,) = ends(running.trigger())
    assert verdict.verdict == FAULT and "(32, 32, 3)" in verdict.reason


def test_an_answer_that_is_no_number_is_a_fault_and_never_good(station: MakeStation, tmp_path: Path) -> None:
    brightness_bundle(tmp_path / "log.bundle", then="Log")
    other = '[recipes.log]\nbundle = "log.bundle"\n[station]\nrecipe = "log"\n'
    running = station(CAMERA + other)

    def black(frame: object) -> Inspection:
        return inspect(np.zeros((16, 24, 3), np.uint8))

    inspector = running.recipes.current.inspectors["top"]
    inspect = inspector.inspect
    inspector.inspect = black  # type: ignore[method-assign]
    (verdict,) = ends(running.trigger())
    assert verdict.verdict == FAULT and "NaN or Inf" in verdict.reason


def test_a_defect_in_the_inspection_costs_one_verdict_and_not_the_next(station: MakeStation) -> None:
    running = station()
    inspector = running.recipes.current.inspectors["top"]
    inspect = inspector.inspect
    inspector.inspect = lambda frame: 1 / 0  # type: ignore[method-assign]
    (verdict,) = ends(running.trigger())
    assert verdict.verdict == FAULT and verdict.reason == "ZeroDivisionError: division by zero"
    inspector.inspect = inspect  # type: ignore[method-assign]
    assert ends(running.trigger())[0].verdict != FAULT


# --- recipes -----------------------------------------------------------------------------------------------------

TWO = CAMERA + '[recipes.strict]\nbundle = "strict.bundle"\n'


@pytest.fixture
def strict(tmp_path: Path) -> Bundle:
    """Another bundle, which finds everything anomalous."""
    bundle = brightness_bundle(tmp_path / "strict.bundle")
    spoil_manifest(bundle.path, lambda tree: tree.update(name="strict"))
    spoil_manifest(bundle.path, lambda tree: tree["precisions"]["fp32"].update(threshold=0.5))
    return Bundle(bundle.path)


def is_closed(inspector: Inspector) -> bool:
    """Inspectors of the bundles here."""
    try:
        inspector.answer(np.zeros((1, 16, 24, 3), np.uint8))
    except InspectionFault:
        return True
    return False


def test_recipes_are_switched_without_a_missed_trigger_and_each_keeps_its_own(
    station: MakeStation, strict: Bundle
) -> None:
    running = station(TWO)
    tickets: list[Ticket] = []
    is_over = threading.Event()

    def line() -> None:
        while not is_over.is_set():
            tickets.extend(running.trigger())
            time.sleep(0.004)

    triggering = threading.Thread(target=line)
    triggering.start()
    for name in ("strict", "bright", "strict", "bright"):
        running.switch_recipe(name)
        before = len(tickets)
        until(lambda before=before: len(tickets) > before + 5)  # type: ignore[misc]
    is_over.set()
    triggering.join()
    verdicts = ends(tickets)
    names = [verdict.recipe for verdict in verdicts]
    switches = [(one, two) for one, two in pairwise(names) if one != two]
    assert switches == [("bright", "strict"), ("strict", "bright")] * 2
    for verdict in verdicts:
        assert verdict.verdict != FAULT and verdict.model is not None
        assert verdict.model.bundle == {"strict": "strict", "bright": "tiny"}[verdict.recipe]
    assert len(recorded(running)) == len(tickets)


def test_a_trigger_keeps_the_recipe_it_came_under_though_its_frame_comes_after_the_switch(
    station: MakeStation, strict: Bundle
) -> None:
    running = station(TWO.replace("24x16", "24x16?latency_ms=400"))
    (before,) = running.trigger()
    running.switch_recipe("strict")
    (after,) = running.trigger()
    verdicts = ends([before, after])
    assert [(v.recipe, v.model and v.model.bundle) for v in verdicts] == [("bright", "tiny"), ("strict", "strict")]


def test_a_bundle_that_does_not_prove_itself_is_not_switched_to(station: MakeStation, strict: Bundle) -> None:
    running = station(TWO)
    spoil_manifest(strict.path, lambda tree: tree["precisions"]["fp32"].update(score_spread=1e-12))
    (strict.path / "golden.npz").write_bytes(b"spoilt")
    with pytest.raises(Exception, match="not the file the manifest describes"):
        running.switch_recipe("strict")
    assert ends(running.trigger())[0].recipe == "bright"
    with pytest.raises(StationError, match="There is no recipe"):
        running.switch_recipe("no-such")


def test_inspectors_are_released_after_their_last_verdict(station: MakeStation, strict: Bundle) -> None:
    running = station(TWO.replace("24x16", "24x16?latency_ms=300") + "[station]\nopen_recipes = 1\n")
    old = running.recipes.current.inspectors["top"]
    (ticket,) = running.trigger()
    running.switch_recipe("strict")
    old.answer(np.zeros((1, 16, 24, 3), np.uint8))  # still open, for the trigger that is under way
    ends([ticket])

    until(lambda: is_closed(old))


def test_the_recipe_outlasts_a_restart(station: MakeStation, strict: Bundle) -> None:
    running = station(TWO)
    running.switch_recipe("strict")
    running.stop()
    again = station(TWO)
    assert again.recipes.current.name == "strict"
    again.stop()
    assert station(CAMERA).recipes.current.name == "bright"  # it is not in the settings any more


def test_a_first_recipe_that_cannot_be_used_leaves_nothing_open(settings: MakeSettings, tmp_path: Path) -> None:
    spoil_manifest(
        tmp_path / "bright.bundle", lambda tree: tree["precisions"].update(int8=tree["precisions"].pop("fp32"))
    )
    for _ in range(2):  # the lock on the record is free again
        with pytest.raises(Exception, match=r"golden\.npz cannot be read"):
            Station(settings(CAMERA))
    with pytest.raises(BundleMismatch):
        Inspector(tmp_path / "bright.bundle", precision="fp32")


# --- cameras -----------------------------------------------------------------------------------------------------

LIVE = '[cameras.top]\nuri = "synthetic://24x16?fps=200"\ntrigger = "free-run"\nchecks = { frozen_after = 0 }\n'


def slow_inspection(station: Station, seconds: float) -> None:
    for inspector in station.recipes.current.inspectors.values():
        inspect = inspector.inspect

        def slowly(frame: Any, inspect: Callable[[Any], Inspection] = inspect) -> Inspection:
            time.sleep(seconds)
            return inspect(frame)

        inspector.inspect = slowly  # type: ignore[method-assign]


def test_live_it_judges_the_latest_frame_and_passes_over_the_others(station: MakeStation) -> None:
    running = station(LIVE)
    until(lambda: len(recorded(running)) > 5)
    slow_inspection(running, 0.05)  # ten times as long as a frame
    start = len(recorded(running))
    until(lambda: len(recorded(running)) > start + 10)
    sequences = [verdict.sequence or 0 for verdict in recorded(running)][-8:]
    gaps = np.diff(sequences)
    assert (gaps > 3).all() and (gaps > 0).all()
    assert running.feeds["top"].state()["skipped"] > 0
    with pytest.raises(TriggerRefused, match="No camera of this station takes triggers"):
        running.trigger()
    with pytest.raises(TriggerRefused, match="runs free"):
        running.trigger(camera="top")


def test_a_lost_camera_ends_its_triggers_in_faults_and_the_other_goes_on(station: MakeStation) -> None:
    side = CAMERA.replace("cameras.top", "cameras.side").replace("24x16", "24x16?lost_after=3")
    running = station(CAMERA + side)
    tickets: list[Ticket] = []
    for _ in range(12):
        tickets += running.trigger()
        ends(tickets[-2:])
    by_camera = {name: [v.verdict for v in ends(tickets) if v.camera == name] for name in ("top", "side")}
    assert FAULT not in by_camera["top"] and by_camera["side"].count(FAULT) >= 1
    assert by_camera["side"][:3] != [FAULT] * 3
    until(lambda: running.feeds["side"].state()["reconnects"] >= 1, "the reconnection")
    until(lambda: ends(running.trigger(camera="side"))[0].verdict != FAULT, "a verdict after it")


def test_one_recipe_serves_several_cameras_each_its_bundle(station: MakeStation, strict: Bundle) -> None:
    both = CAMERA + CAMERA.replace("cameras.top", "cameras.side")
    pair = '[recipes.pair.bundles]\ntop = "bright.bundle"\nside = "strict.bundle"\n[station]\nrecipe = "pair"\n'
    running = station(both + pair)
    verdicts = ends(running.trigger("7"))
    assert [(v.camera, v.model and v.model.bundle, v.part_id) for v in verdicts] == [
        ("top", "tiny", "7"),
        ("side", "strict", "7"),
    ]


def test_the_station_s_own_clock_triggers(station: MakeStation) -> None:
    running = station(CAMERA.replace("latest_ms", "interval_ms = 10\nlatest_ms"))
    until(lambda: len(recorded(running)) >= 20)


def test_a_clip_that_ends_is_told_and_its_triggers_are_faults(station: MakeStation, tmp_path: Path) -> None:
    import cv2

    (tmp_path / "clip").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "clip" / f"{number}.png"), np.full((16, 24, 3), 40 * number + 40, np.uint8))
    running = station(CAMERA.replace("synthetic://24x16", "clip"))
    verdicts = [ends(running.trigger())[0] for _ in range(4)]
    assert [verdict.score for verdict in verdicts[:3]] == [40, 80, 120]
    assert verdicts[3].verdict == FAULT
    until(lambda: running.problems() == ["camera top is not there"])


# --- what goes wrong with the station itself ---------------------------------------------------------------------


def test_an_inspection_that_hangs_is_told_and_its_trigger_ends_in_a_fault(
    station: MakeStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_ad.station.watch.INTERVAL_S", 0.05)
    running = station(CAMERA + "[station]\nverdict_timeout_ms = 300\nstuck_s = 2\n")
    may_go_on = threading.Event()
    inspector = running.recipes.current.inspectors["top"]
    inspect = inspector.inspect
    inspector.inspect = lambda frame: may_go_on.wait(30) and inspect(frame)  # type: ignore[method-assign,return-value]
    (hanging,) = running.trigger()
    (waiting,) = running.trigger()
    assert [verdict.reason for verdict in ends([hanging, waiting])] == ["no verdict within 300 ms"] * 2
    until(lambda: running.problems() == ["inspector is stuck, for more than 2 s"])
    assert running.state()["state"] == "fault"
    may_go_on.set()
    until(lambda: running.problems() == [])
    assert ends(running.trigger())[0].verdict != FAULT
    assert running.ledger.void == 1  # the answer that came too late
    assert len(recorded(running)) == 3


def test_a_record_that_cannot_be_written_refuses_triggers_and_says_so_until_it_can(station: MakeStation) -> None:
    running = station()
    record = running._record
    pages = record._value("PRAGMA page_count")
    record._connection.execute(f"PRAGMA max_page_count = {pages}")
    tickets = []
    with pytest.raises(TriggerRefused, match="record cannot be written"):
        for _ in range(5000):
            tickets += running.trigger()
            time.sleep(0.001)
    assert running.state()["state"] == "fault" and "full" in running.problems()[0]
    record._connection.execute("PRAGMA max_page_count = 1000000")
    ends(tickets)
    until(lambda: running.problems() == [])
    assert len(recorded(running)) == len(tickets)
    ends(running.trigger())


@pytest.mark.slow
def test_on_a_full_disk_images_give_way_to_verdicts(
    station: MakeStation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mounted(tmp_path / "disk", kilobytes=16_000) as disk:
        limits = '[record]\nfolder = "disk/record"\nkeep_free_gib = 0\naccept_every = 1\ndatabase_gib = 0.001\n'
        running = station(CAMERA + limits)
        tickets: list[Ticket] = []
        while running.images.used_bytes < 2_500_000:
            tickets += [running.trigger()[0] for _ in range(10)]
            ends(tickets[-10:])
        with (
            open(disk / "other", "wb", buffering=0) as other,
            suppress(OSError),
        ):  # somebody else takes all that is left
            while other.write(b"x" * 4096):
                pass
        while "the record cannot be written" not in caplog.text or running.recorder.failure:
            with suppress(TriggerRefused):
                tickets += [running.trigger()[0] for _ in range(100)]
                ends(tickets[-100:])
        ends(tickets)
        assert running.problems() == []
        assert len({verdict.id for verdict in ends(tickets)}) == len(tickets) == running.recorder.newest_id
        running.stop()
