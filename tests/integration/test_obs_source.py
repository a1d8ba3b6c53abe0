"""Pictures of a real OBS: the program scene, a source by name, one that vanishes and returns, OBS that goes away."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from streamv2v_obs.bench import results, table
from streamv2v_obs.capture.obs_source import ObsSource
from streamv2v_obs.capture.source import open_source
from streamv2v_obs.errors import ObsRefused, SourceLost
from streamv2v_obs.frames import Frame
from streamv2v_obs.settings import ObsCapture, ObsSettings
from tests.conftest import Require
from tests.rigs.obs import PASSWORD, SCENES, RealObs
from tests.rigs.obs30 import EITHER, either_obs

pytestmark = pytest.mark.obs


@pytest.fixture(scope="module", params=EITHER)
def obs(request: pytest.FixtureRequest, require: Require) -> Iterator[RealObs]:
    with either_obs(request.param, require) as running:
        yield running


def opened(settings: ObsSettings, source: str | None = None, width: int = 160) -> ObsSource:
    capturing = open_source(ObsCapture(kind="obs", source=source, width=width, fps=100), settings)
    assert isinstance(capturing, ObsSource)
    return capturing


def shows(frame: Frame, scene: str) -> bool:
    # JPEG, and OBS's own way through colour spaces.
    return bool(np.abs(frame.pixels.astype(int) - SCENES[scene]).mean() < 12)


def until_it_shows(source: ObsSource, scene: str) -> Frame:
    until = time.monotonic() + 5
    while not shows(frame := source.read(), scene):
        assert time.monotonic() < until, f"never showed {scene}: {frame.pixels.mean(axis=(0, 1))}"
    return frame


def test_the_program_scene_is_followed_with_its_aspect(obs: RealObs) -> None:
    obs.scene("A")
    source = opened(obs.settings())
    assert source.detail == "OBS program scene"
    frame = until_it_shows(source, "A")
    assert frame.pixels.shape == (90, 160, 3)
    assert frame.pixels.dtype == np.uint8
    assert frame.pixels.flags.c_contiguous
    for scene in ("C", "B"):
        obs.scene(scene)
        assert until_it_shows(source, scene).index > frame.index
    source.close()


@pytest.mark.parametrize("name", ["C", "C colour"])
def test_a_scene_or_a_source_is_captured_by_its_name_whatever_is_on_air(obs: RealObs, name: str) -> None:
    obs.scene("A")
    source = opened(obs.settings(), name, width=320)
    frame = until_it_shows(source, "C")
    assert frame.pixels.shape == (180, 320, 3)
    assert source.detail.startswith(f"OBS source {name!r}")
    source.close()


def test_a_source_that_is_renamed_is_lost_and_back_with_its_name(obs: RealObs) -> None:
    source = opened(obs.settings(), "C colour")
    until_it_shows(source, "C")
    obs.requests.call("SetInputName", {"inputName": "C colour", "newInputName": "other"})
    gone = r"OBS gives no picture of 'C colour': was it renamed or removed.*capture\.source is its name.*'other'"
    try:
        with pytest.raises(SourceLost, match=gone):
            source.read()
        with pytest.raises(SourceLost, match=gone):
            opened(obs.settings(), "C colour")
    finally:
        obs.requests.call("SetInputName", {"inputName": "other", "newInputName": "C colour"})
    # Also without opening it anew: the connection has not suffered.
    assert shows(source.read(), "C")
    source.close()


def test_a_source_that_is_hidden_is_captured_and_said_to_be_so(obs: RealObs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    obs.scene("C")
    source = opened(obs.settings(), "C colour")
    until_it_shows(source, "C")
    item = {"sceneName": "C"}
    item_id = obs.requests.call("GetSceneItemId", item | {"sourceName": "C colour"})["sceneItemId"]
    for visible, detail, said in (
        (False, "OBS source 'C colour' (hidden in OBS)", "does not show source 'C colour' now"),
        (True, "OBS source 'C colour'", "OBS shows source 'C colour' again"),
    ):
        obs.requests.call("SetSceneItemEnabled", item | {"sceneItemId": item_id, "sceneItemEnabled": visible})
        until = time.monotonic() + 10
        while source.detail != detail:
            assert time.monotonic() < until
            assert shows(source.read(), "C")
        assert caplog.text.count(said) == 1
    source.close()


def test_a_source_without_size_is_told_from_one_that_is_not_there(obs: RealObs, tmp_path: Path) -> None:
    created = {"sceneName": "B", "inputName": "empty", "inputKind": "image_source", "inputSettings": {}}
    obs.requests.call("CreateInput", created)
    try:
        with pytest.raises(SourceLost, match="OBS cannot draw 'empty' now: it has no size"):
            opened(obs.settings(), "empty")
        picture = tmp_path / "square.png"
        cv2.imwrite(str(picture), np.full((512, 512, 3), (0, 0, 255), np.uint8))
        settings = {"inputName": "empty", "inputSettings": {"file": str(picture)}}
        obs.requests.call("SetInputSettings", settings)
        until = time.monotonic() + 10
        while True:
            try:
                source = opened(obs.settings(), "empty", width=512)
                break
            except SourceLost:
                assert time.monotonic() < until
                time.sleep(0.1)
        assert until_it_shows(source, "A").pixels.shape == (512, 512, 3)
        source.close()
    finally:
        obs.requests.call("RemoveInput", {"inputName": "empty"})


def test_the_measurement_leaves_nothing_behind_and_writes_what_the_schema_describes(
    obs: RealObs, tmp_path: Path
) -> None:
    def there() -> list[str]:
        scenes, inputs = obs.requests.call("GetSceneList")["scenes"], obs.requests.call("GetInputList")["inputs"]
        return sorted([one["sceneName"] for one in scenes] + [one["inputName"] for one in inputs])

    obs.scene("A")
    before = there()
    out = tmp_path / "obs_capture.json"
    command = [sys.executable, "-m", "streamv2v_obs", "bench", "obs-capture", "--out", str(tmp_path)]
    command += ["--seconds", "1", "--repeats", "2", "--changes", "4"]
    done = subprocess.run(command, env=os.environ | {"OBS_PASSWORD": PASSWORD}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (there(), obs.requests.program_scene()) == (before, "A")
    written = out.read_text(encoding="utf-8")
    found = json.loads(written)
    Draft202012Validator(json.loads(results.SCHEMA.read_text(encoding="utf-8"))).validate(found)
    assert found["results"]["frames"]["captured"] > 2
    assert found["results"]["latency_ms"]["change_to_picture"]["n"] == 4
    assert len(found["checks"]) == 2
    (rate, delay) = [row for row in table.block(tmp_path).splitlines() if row.startswith(("| a source", "| a change"))]
    assert "of a core" in rate
    assert "image source 512x512" in delay
    assert "model" not in delay
    assert PASSWORD not in written + done.stdout + done.stderr


def test_a_wrong_password_is_refused(obs: RealObs) -> None:
    with pytest.raises(ObsRefused, match=r"wrong password; set obs\.password"):
        opened(obs.settings(password="not it"))


def test_pictures_keep_the_asked_pace(obs: RealObs) -> None:
    source = open_source(ObsCapture(kind="obs", source="A", fps=20), obs.settings())
    times = [source.read().captured_at for _ in range(11)]
    source.close()
    assert 0.45 < times[-1] - times[0] < 5


def test_opening_and_closing_200_times_leaves_no_connection(obs: RealObs) -> None:
    held = []
    for _ in range(201):
        source = opened(obs.settings(timeout_s=10), "A")
        source.close()
        with pytest.raises(SourceLost):
            opened(obs.settings(timeout_s=10), "no such source")
        held.append(len(list(Path("/proc/self/fd").iterdir())))
    assert held[-1] <= held[0]


def test_obs_that_dies_freezes_or_quits_is_lost_and_can_be_opened_again(obs: RealObs) -> None:
    source = opened(obs.settings(timeout_s=0.5), "B")
    obs.freeze()
    began = time.monotonic()
    with pytest.raises(SourceLost, match=r"did not answer within 0\.5 s"):
        source.read()
    assert time.monotonic() - began < 5
    obs.thaw()
    source.close()

    source = opened(obs.settings(), "B")
    until_it_shows(source, "B")
    obs.kill()
    with pytest.raises(SourceLost, match="OBS"):
        source.read()
    source.close()
    with pytest.raises(SourceLost, match="nothing listens at"):
        opened(obs.settings(), "B")
    obs.restart()
    source = opened(obs.settings(timeout_s=10))
    source.read()
    source.close()
