"""station.toml: what is wrong is named, with what was expected and what came; the example is right as it stands."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import pytest

from edge_ad.cameras import HardwareTrigger, RegionOfInterest, SoftwareTrigger
from edge_ad.errors import SettingsError
from edge_ad.station.settings import EXAMPLE, StationSettings, read_settings

LEAST = """
[cameras.top]
uri = "synthetic://640x480"
trigger = "software"
[recipes.flange]
bundle = "flange.bundle"
"""


def read(folder: Path, text: str) -> StationSettings:
    (folder / "station.toml").write_text(text)
    return read_settings(folder / "station.toml")


def test_what_is_left_out_has_a_value_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = read(tmp_path, LEAST)
    assert settings.recipe == "flange" and settings.recipes["flange"].bundles == {"top": tmp_path / "flange.bundle"}
    assert settings.record.folder == tmp_path / "record" and settings.record.database_bytes == 10 << 30
    assert settings.http is not None and (settings.http.host, settings.http.port) == ("127.0.0.1", 8080)
    assert settings.cameras[0].uri == "synthetic://640x480" and not settings.cameras[0].is_live
    assert settings.publishers == ()
    relative = read(tmp_path, LEAST.replace("synthetic://640x480", "clips/one"))
    assert relative.cameras[0].uri == str(tmp_path / "clips" / "one")


def test_everything_that_can_be_set_arrives(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\nnot this\n")
    settings = read(
        tmp_path,
        """
[station]
name = "line-3"
recipe = "housing"
verdict_timeout_ms = 1500
stuck_s = 20
stop_s = 5
[record]
folder = "/var/lib/edge-ad"
database_gib = 0.5
images_gib = 2
keep_free_gib = 0
accept_every = 0
[cameras.top]
uri = "genicam://Basler-1234"
trigger = "line0-rising"
timeout_ms = 250
backlog = 4
exposure_us = 500
gain_db = 3.5
pixel_format = "BayerRG8"
region = { x = 8, y = 16, width = 640, height = 480 }
checks = { frozen_after = 0, black_level = 20, overexposed_share = 0.5 }
[cameras.side]
uri = "synthetic://640x480"
trigger = "software"
latest_ms = 20
interval_ms = 100
[recipes.flange]
bundle = "flange.bundle"
[recipes.housing]
precision = "int8"
backend = "onnxruntime"
bundles = { top = "a.bundle", side = "b.bundle" }
[http]
host = "0.0.0.0"
port = 80
token_file = "token"
[[publish]]
kind = "mqtt"
host = "broker"
tls = true
[[publish]]
kind = "webhook"
name = "mes"
url = "https://mes.example/verdicts"
[[publish]]
kind = "opcua"
""",
    )
    top, side = settings.cameras
    assert settings.recipe == "housing" and settings.verdict_timeout_ms == 1500
    assert settings.record.database_bytes == 1 << 29 and settings.record.keep_free_bytes == 0
    assert top.options.trigger == HardwareTrigger(line=0, edge="rising")
    assert top.options.region == RegionOfInterest(x=8, y=16, width=640, height=480)
    assert top.options.checks is not None
    assert (top.options.checks.frozen_after, top.options.checks.black_level) == (None, 20)
    assert (top.options.exposure_us, top.options.gain_db, top.options.backlog) == (500, 3.5, 4)
    assert side.options.trigger == SoftwareTrigger(latest_ms=20) and side.interval_ms == 100
    assert settings.recipes["housing"].bundles == {"top": tmp_path / "a.bundle", "side": tmp_path / "b.bundle"}
    assert settings.http is not None and settings.http.token == "secret"
    assert [opening.name for opening in settings.publishers] == ["mqtt", "mes", "opcua"]


WRONG = {
    "[cameras.top": "not TOML",
    LEAST.replace("software", "hardware"): "cameras.top.trigger",
    LEAST.replace("trigger", "triger"): "cameras.top.trigger is missing",
    LEAST + "bundel = 'x'\n": "did you mean bundle",
    LEAST + "precision = 'int4'\n": "recipes.flange.precision",
    LEAST + "bundles = { top = 'x' }\n": "got:      'both'",
    LEAST.replace('bundle = "flange.bundle"', "bundles = {}"): "recipes.flange.bundles.top is missing",
    LEAST.replace('bundle = "flange.bundle"', "bundles = { top = 'a', side = 'b' }"): "recipes.flange.bundles.side",
    LEAST.replace("[cameras.top]", "[cameras.'t/op']"): "letters, digits",
    LEAST + "[station]\nrecipe = 'housing'\n": "expected: flange",
    LEAST + "[station]\nname = ''\n": "station.name",
    LEAST + "[station]\nverdict_timeout_ms = '5 s'\n": "a number from 10 to",
    LEAST + "[station]\nverdict_timeout_ms = nan\n": "a number from 10 to",
    LEAST + "[station]\nstuck_s = 1e9\n": "got:      1000000000.0",
    LEAST + "[record]\naccept_every = -1\n": "a whole number from 0",
    LEAST + "[record]\naccept_every = true\n": "got:      True",
    LEAST + "[record]\nquota = 1\n": "record.quota is not known",
    LEAST + "[http]\nport = 99999\n": "http.port",
    LEAST + "[http]\nhost = '0.0.0.0'\n": "http.token_file",
    LEAST + "[http]\ntoken_file = 'no-such'\n": "http.token_file",
    LEAST + "[publish]\nkind = 'mqtt'\n": "[[publish]]",
    LEAST + "[[publish]]\nkind = 'mqt'\n": "did you mean mqtt",
    LEAST + "[[publish]]\nkind = 'mqtt'\n": "publish[0].host is missing",
    LEAST + "[[publish]]\nkind = 'mqtt'\nhost = 'a'\ntopic = 'a/#'\n": "publish[0].topic",
    LEAST + "[[publish]]\nkind = 'webhook'\nurl = 'ftp://a/'\n": "http://HOST/PATH",
    LEAST + "[[publish]]\nkind = 'webhook'\nurl = 'http://[a/'\n": "http://HOST/PATH",
    LEAST + "[[publish]]\nkind = 'opcua'\nendpoint = 'http://a'\n": "opc.tcp://HOST:PORT/PATH",
    LEAST + "[[publish]]\nkind = 'opcua'\nendpoint = 'opc.tcp://0.0.0.0:4840'\n": "allow_unencrypted",
    LEAST + "[[publish]]\nkind = 'opcua'\nuser = 'a'\n": "user and password_file together",
    LEAST + "[[publish]]\nkind = 'python'\nfunction = 'no_such_module:f'\n": "that can be imported",
    LEAST + "[[publish]]\nkind = 'python'\nfunction = 'sys:version'\n": "a function",
    LEAST.replace('"software"', '"free-run"\ninterval_ms = 5'): "cameras.top.interval_ms",
    "cameras = 3\n": "a table",
    "[recipes.a]\nbundle = 'b'\n": "at least one [cameras.NAME]",
    LEAST.partition("[recipes")[0]: "at least one [recipes.NAME]",
    LEAST.replace('"synthetic://640x480"', "3"): "got:      3",
}


@pytest.mark.parametrize(("text", "named"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingsError) as error:
        read(tmp_path, text)
    assert named in str(error.value) and "station.toml" in str(error.value)


def test_files_that_are_no_settings_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings(tmp_path / "no-such.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is not TOML"):
        read_settings(tmp_path / "bytes.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(SettingsError, match="is not TOML"):
        read_settings(tmp_path / "large.toml")


def test_a_function_is_taken_from_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("mes")
    module.on_verdict = print  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mes", module)
    assert (
        read(tmp_path, LEAST + "[[publish]]\nkind = 'python'\nfunction = 'mes:on_verdict'\n").publishers[0].name
        == "python"
    )


def test_the_example_can_be_read_and_so_can_all_that_is_commented_out_in_it(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "station.toml")
    read_settings(tmp_path / "station.toml")
    for name in ("token", "mqtt-password", "mes-token"):
        (tmp_path / name).write_text("secret")
    lines = [line.removeprefix("# ") for line in EXAMPLE.read_text().splitlines()[3:]]
    whole = "\n".join(lines).replace("mes:on_verdict", "builtins:print")
    whole = whole.replace('bundle = "flange.bundle"', "").replace(
        "[recipes.housing.bundles]", "[recipes.flange.bundles]"
    )
    settings = read(tmp_path, whole)
    assert [opening.kind for opening in settings.publishers] == ["mqtt", "opcua", "webhook", "python"]
    assert settings.http is not None and settings.http.token == "secret"
