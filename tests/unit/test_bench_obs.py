"""Measuring a service led by OBS: pictures are told apart, a mixed one is found, figures follow from what was seen."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamv2v_obs.bench.obs_figures import Return, Told, figures
from streamv2v_obs.bench.obs_looks import Looks, decoded
from streamv2v_obs.frames import Pixels

GREY, BLUE = (150, 150, 150), (20, 40, 160)


def jpeg(colour: tuple[int, int, int], light: int = 0) -> bytes:
    picture = np.full((64, 64, 3), colour, np.uint8) + np.uint8(light)
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])


def mixture(one: bytes, other: bytes, share: float) -> bytes:
    def blended(these: Pixels, those: Pixels) -> Pixels:
        return np.asarray(cv2.addWeighted(these, 1 - share, those, share, 0), np.uint8)

    picture = blended(decoded(one), decoded(other))
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])


@pytest.fixture
def looks() -> Looks:
    return Looks({"grey": [jpeg(GREY), jpeg(GREY, 6)], "blue": [jpeg(BLUE), jpeg(BLUE, 3)]})


def test_a_picture_of_one_prompt_is_told_to_be_its_own(looks: Looks) -> None:
    for prompt, own in (("grey", jpeg(GREY, 6)), ("blue", jpeg(BLUE))):
        assert looks.judge(own).prompt == prompt
        assert looks.judge(own).distance == 0
    assert looks.judge(jpeg(GREY, 8)).distance == pytest.approx(2, abs=0.5), "to the nearest of its pictures"


@pytest.mark.parametrize("share", [0.15, 0.5, 0.85])
def test_a_picture_of_two_prompts_is_found(looks: Looks, share: float) -> None:
    judged = looks.judge(mixture(jpeg(GREY), jpeg(BLUE), share))
    legs = {"event": Told([100.0], [50.0], [judged.distance, 0.0])}
    found = figures(legs, looks.apart, 40, [Return(9, 1)], [Return(9, 4)])
    assert found["mixed"]["mixed"] == 1
    assert found["mixed"]["pictures"] == 2


def test_figures_follow_from_what_was_seen() -> None:
    legs = {
        "cut": Told([100.0, 300.0], [40.0, 60.0], [0.0] * 4, back=1),
        "event": Told([200.0, 220.0], [90.0, 150.0], [0.5] * 3),
    }
    found = figures(legs, 80, 100, [Return(9, 1), Return(9, 2)], [Return(9, 4), Return(9, 8)])
    assert found["latency_ms"]["cut"]["p50"] == 200
    assert found["latency_ms"]["cut"]["p95"] == pytest.approx(290)
    assert found["event_less_a_frame_ms"]["max"] == 50, "150 ms, of which a frame takes 100"
    assert found["mixed"] == {
        **{"pictures": 7, "mixed": 0, "back": 1, "prompts_apart": 80},
        "furthest": {"cut": 0.0, "event": 0.5},
    }
    assert found["restore"]["ratio"] == 0.25
    assert found["restore"]["restored"] == {"first": 9, "then": 1.5}
    assert found["restore"]["reset"] == {"first": 9, "then": 6}
