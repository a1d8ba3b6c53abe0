"""A real screen with a moving window through the whole service, and whether all that status says of it is true."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from streamv2v_obs.bench import overhead, results, table
from streamv2v_obs.bench.live import Watched, figures, watch
from tests.conftest import Require
from tests.rigs.service import Seen, Viewer, running_service
from tests.rigs.x_window import moving_window, x_window
from tests.rigs.xvfb import Display, xvfb, xvfb_installed

pytestmark = pytest.mark.display

WIDTH, HEIGHT = 640, 640
SECONDS = 10
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@pytest.fixture
def display(require: Require, monkeypatch: pytest.MonkeyPatch) -> Iterator[Display]:
    require("display", xvfb_installed(), "apt-get install xvfb")
    for name in ("WAYLAND_DISPLAY", "XDG_SESSION_TYPE"):
        monkeypatch.delenv(name, raising=False)
    with xvfb(WIDTH, HEIGHT) as running:
        monkeypatch.setenv("DISPLAY", running.name)
        yield running


def within(value: float, expected: float, share: float, count: float = 0) -> bool:
    return abs(value - expected) <= share * expected + count


def test_every_number_of_status_is_true(display: Display) -> None:
    with moving_window(display.name):
        seen = watch(["capture.kind=screen", "publish.outputs=[browser]"], SECONDS, warm_up_s=6)
    elapsed_s = seen.at[-1] - seen.at[0]
    assert within(elapsed_s, SECONDS, 0.3)
    for status in seen.statuses:
        check_one(status)
    published, repeated = seen.grown("publish", "published"), seen.grown("publish", "repeated")
    # A beat is either kept or counted as late, so the two together are the clock itself.
    assert within(published + seen.grown("publish", "late"), 30 * elapsed_s, 0, 3)
    assert published >= 15 * elapsed_s

    distinct = published - repeated
    changed = len(seen.changed_at)
    assert distinct > 0
    assert 0.8 * distinct - 2 <= changed <= distinct + 2, f"{distinct} new pictures published, {changed} seen"

    last = seen.statuses[-1]
    # The engine speaks twice a second: what it did since then is not in its numbers.
    behind = 2 + 0.8 * last["engine"]["translate_fps"]
    taken = distinct + seen.grown("publish", "unseen")
    assert within(seen.grown("engine", "translated"), taken, 0.1, behind)
    check_rates(seen, last)
    found = figures(seen)
    assert found["frames"]["published"] == published
    assert found["startup"]["slate_s"] < found["startup"]["first_frame_s"]
    assert min(found["processes"][part]["rss_mib"] for part in ("service", "engine")) > 10


def check_one(status: dict[str, Any]) -> None:
    """What holds in every single status."""
    publish, engine = status["publish"], status["engine"]
    assert (publish["state"], engine["state"], status["engine_state"]) == ("TRANSLATED", "running", "running")
    assert engine["source"] == f"monitor 1 {WIDTH}x{HEIGHT} at 0,0"
    # What was captured was translated, dropped, or lies in the mailbox (and one may be on its way there).
    assert 0 <= engine["captured"] - engine["dropped"] - engine["translated"] <= 2
    assert 0 < publish["repeated"] < publish["published"]
    assert publish["refused"] == 0
    assert 0 < publish["content_age_ms_p50"] <= publish["content_age_ms_p95"] <= publish["content_age_ms_p99"]
    (output,) = publish["outputs"]
    assert (output["kind"], output["ok"]) == ("browser", True)
    assert abs(publish["published"] - output["sent"] - output["dropped"]) <= 2
    assert status["engine_restarts"] == 0
    assert (engine["bank"], engine["bank_filled"]) == ("dyme", True)


def check_rates(seen: Watched, last: dict[str, Any]) -> None:
    """The meters look back five seconds; so does this."""
    begin = next(n for n, at in enumerate(seen.at) if at >= seen.at[-1] - 5.5)
    span_s = seen.at[-1] - seen.at[begin]
    parts = (("publish", "published", "fps"), ("engine", "captured", "capture_fps"))
    for part, counter, rate in (*parts, ("engine", "translated", "translate_fps")):
        counted = last[part][counter] - seen.statuses[begin][part][counter]
        assert within(last[part][rate], counted / span_s, 0.25, 2), rate


def test_the_age_that_status_tells_is_the_delay_that_a_viewer_sees(display: Display, tmp_path: Path) -> None:
    steps = 4
    overrides = (
        *("capture.kind=screen", "capture.fps=3", f"translator.steps={steps}", "translator.schedule=stream"),
        # Few pictures a second and many steps: a frame's wait in the stream batch is what is told apart here.
        *("translator.strength=0.4", "model.width=128", "model.height=128", "publish.outputs=[browser]"),
    )
    chance = random.Random(0)  # noqa: S311
    delays, ages, periods = [], [], []
    with (
        x_window(display.name, "lamp", 0, 0, WIDTH, HEIGHT, BLACK) as lamp,
        running_service(tmp_path, *overrides, environment=display.environment()) as service,
    ):
        service.until_on_air("TRANSLATED")
        with Viewer(service) as viewer:
            dark, bright = (settled(viewer, lamp, colour) for colour in (BLACK, WHITE))
            assert bright > dark + 60, "a lamp that cannot be seen measures nothing"
            middle, lit = (dark + bright) / 2, True
            for _ in range(6):
                time.sleep(chance.uniform(0, 0.5))
                publish, engine = service.status()["publish"], service.engine()
                ages.append(publish["content_age_ms_p50"] / 1000)
                periods.append(1 / engine["translate_fps"])
                lit = not lit
                lamp.paint(WHITE if lit else BLACK)
                turned_at = time.monotonic()
                service.until(lambda want=lit: (light(viewer.newest()) > middle) == want, "the lamp is seen")  # type: ignore[misc]
                delays.append(viewer.newest().at - turned_at)
        assert service.stop() == 0
    period_s, error_s = statistics.median(periods), statistics.median(delays) - statistics.median(ages)
    # A batch of S holds a frame back for S - 1 periods; an age that left them out, or told them twice, is found here.
    assert statistics.median(ages) > (steps - 1) * period_s * 0.8
    assert -(0.6 * period_s + 0.15) <= error_s <= period_s + 0.4, f"{delays=} {ages=} {period_s=}"


def test_what_the_service_adds_is_measured(display: Display, tmp_path: Path) -> None:
    found = json.loads(overhead.measure(tmp_path, 3, 6, (), lambda said: None).read_text(encoding="utf-8"))
    schema = Draft202012Validator(json.loads(results.SCHEMA.read_text(encoding="utf-8")))
    assert not [error.message for error in schema.iter_errors(found)]
    told = found["results"]["overhead"]
    # Every limit is for a quiet machine; what is here can be wrong on any.
    assert told["delay_ms"]["n"] == 4
    assert 0 < told["delay_ms"]["p50"] < 1000
    assert 5 < told["python_mib"] < told["outputs_alone_mib"] < found["results"]["processes"]["service"]["rss_mib"]
    assert "512x512" in found["protocol"]["input"]
    assert "capture to publishing less translating" in table.block(tmp_path)


def light(seen: Seen) -> float:
    return sum(seen.mean) / 3


def settled(viewer: Viewer, lamp: Any, colour: tuple[int, int, int]) -> float:
    """The light of the stream once ``colour`` has been on for long."""
    lamp.paint(colour)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        time.sleep(3)
        if len(viewer.seen) > 20 and abs(light(viewer.seen[-1]) - light(viewer.seen[-4])) < 3:
            return light(viewer.newest())
    raise AssertionError("the stream does not come to rest")
