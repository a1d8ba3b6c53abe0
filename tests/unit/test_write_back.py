"""What is written back into OBS, against a fake of the request client that remembers what it was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streamv2v_obs.obs.client import ObsVersion
from streamv2v_obs.obs.events import InputRenamed
from streamv2v_obs.obs.write_back import SoundDelay, StatusText, status_text
from streamv2v_obs.settings import AudioSync
from streamv2v_obs.stats import EngineStatus, PublishStatus, ServiceStatus

RUNNING = ServiceStatus(
    "1",
    2,
    3.0,
    "http://here",
    engine_state="running",
    engine=EngineStatus(prompt="a lake"),
    publish=PublishStatus(state="TRANSLATED", content_age_ms_p50=250.0),
)
VERSION = ObsVersion("29", "5.1.0")


class FakeObs:
    """Remembers what was set, and has one sound with an offset of its own."""

    def __init__(self, offset_ms: int = -40) -> None:
        self.offset_ms = offset_ms
        self.set: list[Any] = []

    def call(self, request: str, data: dict[str, Any]) -> dict[str, Any]:
        if request == "GetInputAudioSyncOffset":
            return {"inputAudioSyncOffset": self.offset_ms}
        if request == "SetInputAudioSyncOffset":
            self.offset_ms = data["inputAudioSyncOffset"]
            self.set.append((data["inputName"], self.offset_ms))
        else:
            assert request == "SetInputSettings"
            self.set.append((data["inputName"], data["inputSettings"]["text"]))
        return {}


def publishing(age_ms: float | None, state: Any = "TRANSLATED") -> ServiceStatus:
    return replace(RUNNING, publish=PublishStatus(state=state, content_age_ms_p50=age_ms))


def run(chore: Any, obs: FakeObs, times: int = 1) -> None:
    for _ in range(times):
        chore.do(obs, chore.due_at)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (RUNNING, "streamv2v: translated - a lake"),
        (replace(RUNNING, preset="Comic"), "streamv2v: translated - Comic"),
        (replace(RUNNING, engine_state="restarting"), "streamv2v: translated - engine restarting"),
        (replace(RUNNING, engine=None, engine_state="starting"), "streamv2v: translated - engine starting"),
        (replace(RUNNING, publish=PublishStatus(state="SLATE", panic=True)), "streamv2v: PANIC, slate until released"),
        (
            replace(RUNNING, publish=PublishStatus(state="BYPASS", bypass=True)),
            "streamv2v: bypass - RAW PICTURE ALLOWED - a lake",
        ),
    ],
)
def test_the_status_in_one_line(status: ServiceStatus, text: str) -> None:
    assert status_text(status) == text


def test_the_status_is_written_on_change_once_a_second_and_at_the_end() -> None:
    now = [RUNNING]
    chore, obs = StatusText("Words", lambda: now[0]), FakeObs()
    assert not chore.changed
    chore.begin(VERSION, 10)
    run(chore, obs, 5)
    assert obs.set == [("Words", "streamv2v: translated - a lake")]
    assert chore.due_at == 15
    now[0] = replace(RUNNING, preset="Comic")
    chore.hear(InputRenamed("Words", "Text"), 15)
    run(chore, obs, 2)
    assert obs.set[1:] == [("Text", "streamv2v: translated - Comic")]
    chore.begin(VERSION, 20)
    run(chore, obs, 2)
    assert len(obs.set) == 3, "after a reconnect it is written again, once"
    assert chore.changed
    chore.put_back(obs)
    assert obs.set[3:] == [("Text", "streamv2v: ended")]


def test_the_delay_follows_the_smoothed_age_in_steps_that_are_worth_it() -> None:
    now = [publishing(None, "SLATE")]
    chore, obs = SoundDelay(AudioSync(input="Mic", extra_ms=30), lambda: now[0]), FakeObs(-40)
    chore.begin(VERSION, 0)
    run(chore, obs, 3)
    assert obs.set == [], "without a picture there is no age"
    now[0] = publishing(250)
    run(chore, obs, 5)
    assert obs.set == [("Mic", 280)]
    for age_ms in (240, 262, 255, 244, 266):
        now[0] = publishing(age_ms)
        run(chore, obs)
    assert len(obs.set) == 1, "what stays within 20 ms is left alone"
    now[0] = publishing(900, "HOLD")
    run(chore, obs, 5)
    assert len(obs.set) == 1, "a held picture grows old and says nothing of the way"
    now[0] = publishing(450)
    run(chore, obs, 30)
    values = [value for _, value in obs.set]
    assert values == sorted(values), "it goes there, and not beyond"
    assert abs(values[-1] - 480) <= 20
    assert 2 < len(values) < 12
    chore.begin(VERSION, 99)
    obs.offset_ms = 0  # an OBS that was killed
    run(chore, obs)
    assert abs(obs.offset_ms - 480) <= 20
    chore.put_back(obs)  # type: ignore[arg-type]
    assert obs.offset_ms == -40, "as it was before us, not as it was at the reconnect"


@pytest.mark.parametrize(("age_ms", "extra_ms", "offset_ms"), [(60_000, 0, 20_000), (1, -950, -949), (0, 5000, 5000)])
def test_the_delay_stays_within_what_obs_takes(age_ms: float, extra_ms: int, offset_ms: int) -> None:
    obs = FakeObs()
    run(SoundDelay(AudioSync(input="Mic", extra_ms=extra_ms), lambda: publishing(age_ms)), obs)
    assert obs.offset_ms == offset_ms
