"""What is written back into a real OBS, and what its end means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamv2v_obs.settings import AudioSync
from streamv2v_obs.stats import EngineStatus, PublishStatus
from tests.conftest import Require
from tests.rigs.obs import RealObs
from tests.rigs.obs30 import EITHER, either_obs
from tests.rigs.obs_listener import listening, settle

pytestmark = pytest.mark.obs

WRITTEN = {"status_text": "Words", "audio_sync": AudioSync(input="Mic", extra_ms=10)}


@pytest.fixture(scope="module", params=EITHER)
def obs(request: pytest.FixtureRequest, require: Require) -> Iterator[RealObs]:
    with either_obs(request.param, require) as running:
        # A media source has sound, and needs no sound card.
        for name, kind in (("Words", "text_ft2_source_v2"), ("Mic", "ffmpeg_source")):
            running.requests.call("CreateInput", {"sceneName": "A", "inputName": name, "inputKind": kind})
        running.requests.call("SetInputAudioSyncOffset", {"inputName": "Mic", "inputAudioSyncOffset": 70})
        yield running


def text(obs: RealObs) -> str:
    settings = obs.requests.call("GetInputSettings", {"inputName": "Words"})["inputSettings"]
    return str(settings.get("text", ""))


def offset_ms(obs: RealObs) -> int:
    return int(obs.requests.call("GetInputAudioSyncOffset", {"inputName": "Mic"})["inputAudioSyncOffset"])


def test_the_status_and_the_delay_of_a_sound(obs: RealObs) -> None:
    with listening(obs.settings().model_copy(update=WRITTEN)) as heard:
        heard.engine = EngineStatus(prompt="a lake")
        heard.until_connected()
        heard.until(lambda: text(obs) == "streamv2v: slate - a lake")
        assert offset_ms(obs) == 70, "there is no picture yet"
        heard.publish = PublishStatus(state="TRANSLATED", content_age_ms_p50=240.0)
        heard.until(lambda: text(obs) == "streamv2v: translated - a lake")
        heard.until(lambda: offset_ms(obs) == 250)
        assert not heard.listener.status().virtual_camera
    assert offset_ms(obs) == 70, "as it was before us"
    assert text(obs) == "streamv2v: ended"


def test_a_frozen_obs_is_not_waited_for_to_put_things_back(obs: RealObs) -> None:
    with listening(obs.settings(timeout_s=30).model_copy(update=WRITTEN)) as heard:
        heard.until_connected()
        heard.until(lambda: text(obs).startswith("streamv2v: slate"))
        obs.freeze()
    obs.thaw()


def test_the_service_ends_with_obs_if_it_is_to(obs: RealObs) -> None:
    with listening(obs.settings().model_copy(update={"stop_with_obs": True})) as heard:
        heard.until_connected()
        obs.kill()
        heard.until(lambda: heard.listener.status().state == "connecting")
        assert not heard.stopped.is_set(), "a crash is no end"
        obs.restart()
        heard.until_connected(times=2)
        settle(obs, 0.5)
        obs.stop()
        assert heard.stopped.wait(10)
