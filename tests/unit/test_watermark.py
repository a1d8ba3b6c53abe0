"""The watermark is found in a raw picture whatever was done to it on its way, and in nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamv2v_obs.capture.pattern import PatternSource, draw_pattern
from streamv2v_obs.capture.watermark import RAW, marked, score
from streamv2v_obs.frames import Pixels
from streamv2v_obs.publish.slate import Slate
from streamv2v_obs.settings import PatternCapture
from streamv2v_obs.shape import fit_to


def as_jpeg(pixels: Pixels, quality: int = 85) -> Pixels:
    _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)


@pytest.mark.parametrize("quality", [95, 85, 70])
@pytest.mark.parametrize("size", [(512, 512), (256, 256), (192, 192), (640, 360), (1280, 720)])
def test_it_survives_scaling_and_jpeg(size: tuple[int, int], quality: int) -> None:
    drawn = draw_pattern(7, 512, 512)
    width, height = size
    assert (
        score(as_jpeg(cv2.resize(marked(drawn), size, interpolation=cv2.INTER_AREA).astype(np.uint8), quality)) > RAW
    )
    assert abs(score(as_jpeg(fit_to(drawn, width, height, "crop"), quality))) < RAW / 5


def test_it_survives_being_made_small_and_large_again() -> None:
    worn = fit_to(fit_to(marked(draw_pattern(7, 512, 512)), 256, 256, "crop"), 1024, 1024, "crop")
    assert score(as_jpeg(worn)) > RAW


def test_what_is_no_input_has_none() -> None:
    random = np.random.default_rng(1)
    noise = random.integers(0, 256, (256, 256, 3), np.uint8)
    for picture in (noise, np.zeros_like(noise), np.full_like(noise, 255), Slate().picture(256, 256, 0.0, "Starting")):
        assert abs(score(picture)) < RAW / 5


def test_the_pattern_carries_it_when_asked_to() -> None:
    with_it, without = (
        PatternSource(PatternCapture(kind="pattern", watermark=on)).read().pixels for on in (True, False)
    )
    assert score(with_it) > RAW > abs(score(without))
    assert np.abs(with_it.astype(int) - without).max() <= 10, "faint"
