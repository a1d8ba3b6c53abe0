"""The service as a whole, in real processes with the real demo model: what a user sees, and what nobody may see."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from tests.rigs.service import FIRST_PICTURE_S, Seen, Viewer, running_service, still_running

GREY_PROMPT = "translator.prompt=a pencil sketch"
RAW_SATURATION = 200
"""The input of these tests is pure red and green; a pencil sketch of it, and the slate, are nowhere near."""


def watermark(folder: Path) -> str:
    """An input that cannot be mistaken for its own pencil sketch, even scaled and compressed."""
    pixels = np.zeros((512, 512, 3), np.uint8)
    pixels[..., 2] = 255
    pixels[:, (np.arange(512) // 64) % 2 == 0] = (0, 255, 0)
    cv2.imwrite(str(folder / "stripes.png"), pixels)
    return f"capture={{kind: image, path: '{folder / 'stripes.png'}', fps: 30}}"


def is_raw(seen: Seen) -> bool:
    return seen.saturation > RAW_SATURATION


def own_shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("psm_*")} if sys.platform == "linux" else set()


def test_from_start_to_end(tmp_path: Path) -> None:
    before = own_shared_memory()
    with running_service(tmp_path, "capture.kind=pattern", GREY_PROMPT, "obs.rules=[{scene: A}]") as service:
        service.until(lambda: service.endpoint() is not None, "the control port answers")
        first = service.status()
        assert first["publish"]["state"] == "SLATE", "a slate is there before any model"
        service.until_on_air("TRANSLATED")
        assert "/open?key=" in service.said, "the panel's address is printed"
        assert (
            any("v4l2loopback" in notice or "amera" in notice for notice in first["notices"])
            or first["publish"]["outputs"][0]["kind"] == "camera"
        )

        assert "obs.rules are not in force: obs.enabled is false" in first["notices"]

        service.post("prompt", prompt="a blueprint", strength=0.5, seed=3)
        service.until(lambda: service.engine()["prompt"] == "a blueprint", "the prompt is in force")
        engine = service.engine()
        assert (engine["strength"], engine["seed"], engine["changes"]) == (0.5, 3, 1)
        assert engine["bank_resets"] == 0
        service.post("bank", policy="reset")
        service.until(lambda: service.engine()["bank_resets"] == 1, "the bank is reset")
        refused = service.client().post("/v1/prompt", json={"strength": 0.01})
        assert refused.status_code == 422
        assert "distinct timesteps" in refused.text

        with Viewer(service) as viewer:
            service.until(lambda: len(viewer.seen) > 3, "pictures come")
            red, _, blue = viewer.newest().mean
            assert blue > red + 15, "a blueprint is blue"
            service.post("panic", on=True)
            service.until_on_air("SLATE", 2)
            assert service.status()["publish"]["panic"]
            service.post("panic", on=False)
            service.until_on_air("TRANSLATED")

        engine_process = psutil.Process(service.status()["engine_pid"])
        assert engine_process.nice() == max(5, psutil.Process(service.process.pid).nice()), "it stands back"
        began_at = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began_at < 5
        assert not engine_process.is_running()
        assert service.endpoint() is None
        assert "Traceback" not in service.said
    assert own_shared_memory() <= before


def test_a_killed_engine_stops_no_output_and_shows_nothing_raw(tmp_path: Path) -> None:
    # Only torch has two schedules to choose from.
    lines = GREY_PROMPT, "publish.hold_s=1", "model.backend=torch"
    with running_service(tmp_path, watermark(tmp_path), *lines) as service:
        service.until_on_air("TRANSLATED")
        service.post("prompt", seed=5)
        service.until(lambda: service.engine()["seed"] == 5, "the seed is in force")
        service.until(lambda: service.engine()["schedules"], "a schedule is chosen", 60)
        (chosen,) = service.engine()["schedules"]
        with Viewer(service, keep=is_raw) as viewer:
            for _ in range(2):
                published = service.status()["publish"]["published"]
                psutil.Process(service.status()["engine_pid"]).kill()
                service.until_on_air("SLATE", 5)
                service.until_on_air("TRANSLATED")
                assert service.status()["publish"]["published"] > published + 20
            status = service.status()
            assert status["engine_restarts"] == 2
            assert (status["engine"]["prompt"], status["engine"]["seed"]) == ("a pencil sketch", 5), "told again"
            assert status["engine"]["schedules"] == [chosen], "not measured again"
            assert status["engine"]["schedule"] == chosen["schedule"]
            assert viewer.count > 30
            assert viewer.longest_gap_s < 1.5
            assert viewer.seen == [], f"{len(viewer.seen)} raw pictures among {viewer.count}"
            assert status["publish"]["refused"] == 0
        assert service.stop() == 0


def test_raw_pictures_need_both_locks_and_are_said_aloud(tmp_path: Path) -> None:
    with running_service(tmp_path, watermark(tmp_path), GREY_PROMPT) as service:
        service.until_on_air("TRANSLATED")
        with Viewer(service) as viewer:
            service.post("bypass", on=True)
            service.until_on_air("BYPASS", 10)
            service.until(lambda: is_raw(viewer.newest()), "the captured picture itself is shown", 10)
            assert service.status()["publish"]["bypass"]
            service.post("bypass", on=False)
            service.until(lambda: service.status()["publish"]["state"] != "BYPASS", "bypass ends", 2)
            ended_at = time.monotonic() + 0.5  # what was on its way to this viewer has arrived by then
            service.until_on_air("TRANSLATED")
            time.sleep(1)
            assert not [seen for seen in viewer.seen if seen.at > ended_at and is_raw(seen)]
        assert "BYPASS on" in service.said
        assert service.stop() == 0


def test_the_view_of_the_input_is_closed_until_it_is_asked_for(tmp_path: Path) -> None:
    with running_service(tmp_path, watermark(tmp_path), GREY_PROMPT) as service:
        service.until_on_air("TRANSLATED")
        assert service.client().get("/v1/preview?view=input").status_code == 409
        service.post("input", on=True)

        def shown() -> bool:
            answer = service.client().get("/v1/preview?view=input")
            if answer.status_code != 200:
                return False
            picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
            return picture is not None and is_raw(Seen(0, np.asarray(picture[..., ::-1], np.uint8)))

        service.until(shown, "the input is shown", 10)
        service.post("input", on=False)
        assert service.client().get("/v1/preview?view=input").status_code == 409
        assert service.stop() == 0


@pytest.mark.parametrize("moment_s", [0.3, 1.5, 4.0])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_an_end_at_any_stage_of_start_leaves_nothing(tmp_path: Path, moment_s: float, end: signal.Signals) -> None:
    before = own_shared_memory()
    with running_service(tmp_path, "capture.kind=pattern") as service:
        time.sleep(moment_s)
        children = service.children()
        service.process.send_signal(end)
        began_at = time.monotonic()
        service.process.wait(10)
        assert time.monotonic() - began_at < 5
        assert "Traceback" not in service.said
        assert service.endpoint() is None
        # Python's own helper, which tidies up after a process, ends a moment after it.
        assert not still_running(children, within_s=5)
    assert own_shared_memory() <= before


def test_an_engine_that_dies_again_and_again_is_left_alone_for_a_while(tmp_path: Path) -> None:
    with running_service(tmp_path, "capture.kind=pattern") as service:

        def killed() -> bool:
            status = service.status()
            if status["engine_pid"] is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(status["engine_pid"]).kill()
            return bool(status["engine_state"] == "waiting")

        service.until(killed, "the engine is given up for now")
        status = service.status()
        assert status["engine_restarts"] == 5
        assert status["engine"] is None, "nothing is said of an engine that is not there"
        assert "died" in status["failure"]
        published = status["publish"]["published"]
        service.until(lambda: service.status()["publish"]["published"] > published + 10, "the slate goes on")
        assert service.stop() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX process groups")
@pytest.mark.parametrize("after_birth_s", [0.0, 0.1, 0.3, 0.6])
def test_ctrl_c_of_a_terminal_reaches_the_engine_too_and_is_no_traceback(tmp_path: Path, after_birth_s: float) -> None:
    with running_service(tmp_path, "capture.kind=pattern", start_new_session=True) as service:
        service.until(lambda: any("spawn_main" in " ".join(c.cmdline()) for c in service.children()), "an engine")
        time.sleep(after_birth_s)
        os.killpg(service.process.pid, signal.SIGINT)
        assert service.process.wait(10) == 0
        assert "Traceback" not in service.said
        assert "panicked" not in service.said


def test_a_killed_service_takes_its_engine_with_it(tmp_path: Path) -> None:
    before = own_shared_memory()
    with running_service(tmp_path, "capture.kind=pattern") as service:
        service.until_on_air("TRANSLATED", FIRST_PICTURE_S)
        children = service.children()
        assert children
        service.process.kill()
        service.process.wait(10)
        assert not still_running(children, within_s=10)
    assert own_shared_memory() <= before
