"""Recipes that are open beside the one in use: a part may be of any of them, and nothing waits for a bundle."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from edge_ad.errors import BundleError, TriggerRefused
from edge_ad.inspector import Inspector
from edge_ad.station import recipes
from edge_ad.station.recipes import LoadedRecipe, RecipeBook
from edge_ad.station.settings import RecipeSettings
from edge_ad.station.station import Station
from edge_ad.station.teach import BundleThreshold
from edge_ad.station.verdict import FAULT
from tests.golden_bundle import brightness_bundle, spoil_manifest
from tests.station.conftest import CAMERA, MakeSettings, MakeStation
from tests.station.made import until
from tests.station.test_station import ends, is_closed

NAMES = ("bright", "strict", "housing")
OTHERS = "".join(f'[recipes.{name}]\nbundle = "{name}.bundle"\n' for name in NAMES[1:])
THREE = CAMERA + OTHERS


@pytest.fixture(autouse=True)
def bundles(tmp_path: Path) -> None:
    """One bundle for each of NAMES, which bears that name."""
    for name in NAMES[1:]:
        spoil_manifest(brightness_bundle(tmp_path / f"{name}.bundle").path, lambda tree, n=name: tree.update(name=n))


def all_open(station: Station) -> Station:
    until(lambda: station.recipes.open_names == list(NAMES))
    return station


def inspector_of(station: Station, name: str) -> Inspector:
    recipe = station.recipes.take(name)
    recipe.release()
    return recipe.inspectors["top"]


def book_of(folder: Path, *, most_open: int | None = None) -> RecipeBook:
    settings = {
        name: RecipeSettings(name=name, bundles={"top": folder / f"{name}.bundle"}, precision="auto", backend="auto")
        for name in NAMES
    }
    brightness_bundle(folder / "bright.bundle")
    return RecipeBook(settings, "bright", most_open=most_open)


class Loads:
    """Loads recipes as ever, but not before it may; tells which it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.may_go_on = threading.Event()
        self._load = LoadedRecipe
        monkeypatch.setattr(recipes, "LoadedRecipe", self._loaded)

    def _loaded(self, settings: RecipeSettings, thresholds: recipes.Thresholds) -> LoadedRecipe:
        self.names.append(settings.name)
        assert self.may_go_on.wait(20)
        return self._load(settings, thresholds)


# --- opened behind the one in use ----------------------------------------------------------------------------------


def test_all_recipes_are_opened_after_the_start_and_closed_at_the_stop(station: MakeStation) -> None:
    running = all_open(station(THREE))
    assert running.state()["open_recipes"] == list(NAMES) and running.recipes.current.name == "bright"
    inspectors = [inspector_of(running, name) for name in NAMES]
    assert not any(map(is_closed, inspectors))
    assert running.stop()
    assert all(map(is_closed, inspectors))


def test_an_open_recipe_is_switched_to_without_loading_anything(
    station: MakeStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = all_open(station(THREE))
    inspectors = {name: inspector_of(running, name) for name in NAMES}
    loads = Loads(monkeypatch)  # would never end
    found = []
    for name in NAMES * 3:
        if name != running.recipes.current.name:
            running.switch_recipe(name)
        found += ends(running.trigger())
        assert running.recipes.current.inspectors["top"] is inspectors[name]
    assert [verdict.recipe for verdict in found] == list(NAMES * 3)
    assert [verdict.model and verdict.model.bundle for verdict in found] == ["tiny", "strict", "housing"] * 3
    assert loads.names == []


def test_verdicts_go_on_while_a_recipe_is_opened_and_a_stop_waits_for_it(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Station(settings(THREE))
    loads = Loads(monkeypatch)
    running.start()
    until(lambda: loads.names == ["strict"])
    assert all(verdict.recipe == "bright" for _ in range(5) for verdict in ends(running.trigger()))
    with pytest.raises(TriggerRefused, match="Recipe strict is not open"):
        running.trigger(recipe="strict")
    stopped: list[bool] = []
    stopping = threading.Thread(target=lambda: stopped.append(running.stop()))
    stopping.start()
    until(lambda: running.summary()["state"] == "stopping")
    loads.may_go_on.set()
    stopping.join()
    assert stopped == [True] and loads.names == ["strict"]  # and no further one
    assert running.ledger.counts()["triggers"] == 5 and running.ledger.counts()["fault"] == 0


def test_a_recipe_that_cannot_be_opened_is_told_and_ends_nothing(station: MakeStation, tmp_path: Path) -> None:
    golden = (tmp_path / "strict.bundle" / "golden.npz").read_bytes()
    (tmp_path / "strict.bundle" / "golden.npz").write_bytes(b"spoilt")
    running = station(THREE)
    until(lambda: running.recipes.open_names == ["bright", "housing"])
    (warning,) = running.warnings()
    assert "recipe strict cannot be opened" in warning and "not the file the manifest describes" in warning
    with pytest.raises(TriggerRefused, match="Recipe strict is not open") as refused:
        running.trigger(recipe="strict")
    assert "not the file the manifest describes" in str(refused.value)
    with pytest.raises(BundleError, match="not the file the manifest describes"):
        running.switch_recipe("strict")
    assert ends(running.trigger())[0].recipe == "bright" and running.problems() == []
    (tmp_path / "strict.bundle" / "golden.npz").write_bytes(golden)
    running.switch_recipe("strict")
    assert running.warnings() == [] and ends(running.trigger())[0].recipe == "strict"


def test_a_bundle_that_was_replaced_is_proven_before_it_is_switched_to(station: MakeStation, tmp_path: Path) -> None:
    running = all_open(station(THREE))
    spoil_manifest(tmp_path / "strict.bundle", lambda tree: tree.update(name="newer"))
    old = inspector_of(running, "strict")
    running.switch_recipe("strict")
    (verdict,) = ends(running.trigger())
    assert verdict.model and verdict.model.bundle == "newer"
    until(lambda: is_closed(old))
    shutil.rmtree(tmp_path / "housing.bundle")
    with pytest.raises(BundleError):
        running.switch_recipe("housing")
    assert ends(running.trigger())[0].recipe == "strict"


def test_a_threshold_holds_in_every_open_recipe_that_judges_by_it(station: MakeStation) -> None:
    running = all_open(station(THREE))  # three names, one graph and one threshold
    inspector = inspector_of(running, "bright")
    of = BundleThreshold.of(inspector)
    running.teaching.change(of, 250.0, version=1, who="Ada", why="test", basis={})
    running.switch_recipe("bright")
    until(lambda: inspector_of(running, "strict").threshold == inspector_of(running, "housing").threshold == 250.0)
    for name in NAMES:
        (verdict,) = ends(running.trigger(recipe=name))
        assert verdict.model and (verdict.model.threshold, verdict.model.threshold_version) == (250.0, 2)


def test_a_threshold_that_was_changed_a_moment_ago_holds_after_a_switch(station: MakeStation) -> None:
    running = all_open(station(THREE))
    of = BundleThreshold.of(inspector_of(running, "strict"))
    running.teaching.change(of, 250.0, version=1, who="Ada", why="test", basis={})
    running.switch_recipe("strict")
    (verdict,) = ends(running.trigger())
    assert verdict.model and verdict.model.threshold == 250.0


# --- as many as may be open ----------------------------------------------------------------------------------------


def test_beyond_the_limit_the_one_goes_that_was_not_used_for_the_longest_time(
    station: MakeStation,
) -> None:
    running = station(THREE + "[station]\nopen_recipes = 2\n")
    until(lambda: running.recipes.open_names == ["bright", "strict"])
    strict = inspector_of(running, "strict")
    running.switch_recipe("housing")
    assert running.recipes.open_names == ["strict", "housing"]  # taken just now, though bright was in use
    ends(running.trigger(recipe="strict"))
    running.switch_recipe("bright")
    assert running.recipes.open_names == ["bright", "strict"] and not is_closed(strict)
    with pytest.raises(TriggerRefused, match="Recipe housing is not open") as refused:
        running.trigger(recipe="housing")
    assert refused.value.expected == "bright or strict"


# --- who has the last word -----------------------------------------------------------------------------------------


def test_a_recipe_that_takes_long_to_load_does_not_take_the_place_of_one_that_was_chosen_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = book_of(tmp_path)
    book.switch("strict")
    loads = Loads(monkeypatch)
    slow = threading.Thread(target=book.switch, args=("housing",))
    slow.start()
    until(lambda: loads.names == ["housing"])
    assert book.switch("bright").name == "bright"  # open, so it waits for nobody
    loads.may_go_on.set()
    slow.join()
    assert book.current.name == "bright" and book.open_names == list(NAMES)
    book.close()


def test_a_recipe_that_is_opened_while_the_book_is_closed_is_closed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = book_of(tmp_path)
    opened: list[Inspector] = []

    def thresholds(inspector: Inspector) -> tuple[float, int]:
        opened.append(inspector)
        return recipes.bundle_threshold(inspector)

    book._thresholds = thresholds
    loads = Loads(monkeypatch)
    book.stage.start()
    until(lambda: loads.names == ["strict"])
    book.close()
    loads.may_go_on.set()
    assert book.stage.join(20)
    assert loads.names == ["strict"] and [is_closed(inspector) for inspector in opened] == [True, True]


# --- parts of several types ----------------------------------------------------------------------------------------


def test_parts_of_mixed_types_are_each_judged_by_their_own(station: MakeStation) -> None:
    side = CAMERA.replace("cameras.top", "cameras.side")
    running = all_open(station(THREE + side))
    wanted = [NAMES[number % 3] for number in range(60)]
    pairs = [running.trigger(f"part-{number}", recipe=name) for number, name in enumerate(wanted)]
    bundle = dict(zip(NAMES, ("tiny", "strict", "housing"), strict=True))
    for number, (name, tickets) in enumerate(zip(wanted, pairs, strict=True)):
        for verdict in ends(tickets):
            assert verdict.verdict != FAULT and verdict.model is not None
            assert (verdict.part_id, verdict.recipe, verdict.model.bundle) == (f"part-{number}", name, bundle[name])
    assert running.recipes.current.name == "bright" and ends(running.trigger())[0].recipe == "bright"


def test_a_recipe_that_there_is_not_is_refused(station: MakeStation) -> None:
    with pytest.raises(TriggerRefused, match="There is no recipe 'flange'") as refused:
        station(THREE).trigger(recipe="flange")
    assert refused.value.expected == "bright or strict or housing"
