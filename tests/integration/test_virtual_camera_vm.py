"""Our sink on real loopback devices, in a guest machine: what it publishes arrives, and what fails is noticed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Require
from tests.rigs.loopback_vm import run_in_guest, vcam_obstacle

pytestmark = [pytest.mark.vcam, pytest.mark.timeout(1200)]

_ERROR = 1.5
"""Mean, of 255: a colour that is rounded to YUV and back."""


@pytest.fixture(scope="module")
def guest(require: Require) -> dict[str, Any]:
    """What ``tests.rigs.loopback_guest`` saw, by the names of its functions."""
    obstacle = vcam_obstacle()
    require("vcam", not obstacle, obstacle)
    return run_in_guest("tests.rigs.loopback_guest")


def test_a_device_is_chosen_by_its_name(guest: dict[str, Any]) -> None:
    seen = guest["names"]
    names = ["Stage", "Stage left", "Booth", "Hall"]
    assert seen["there"] == [[f"/dev/video{number}", name] for number, name in zip((3, 5, 7, 9), names, strict=True)]
    assert seen["first"] == "/dev/video3 320x240 (v4l2loopback)"
    assert guest["our_own_camera_source"]["detail"].startswith("/dev/video5 ")
    assert seen["unknown"].startswith("no virtual camera 'Balcony': no device has this name; loopback devices here: ")
    assert "/dev/video5 (Stage left)" in seen["unknown"]


@pytest.mark.parametrize(
    ("pixel_format", "fourcc"),
    [("auto", "YU12"), ("rgb", "YU12"), ("i420", "YU12"), ("nv12", "NV12"), ("yuyv", "YUYV"), ("uyvy", "UYVY")],
)
def test_a_reader_gets_the_picture_in_every_pixel_format(
    guest: dict[str, Any], pixel_format: str, fourcc: str
) -> None:
    found, width, height, mean, largest, _ = guest["every_pixel_format"][pixel_format]
    print(f"{pixel_format}: mean error {mean:.2f}, largest {largest}")
    assert (found, width, height) == (fourcc, 320, 240)
    assert mean < _ERROR
    assert largest <= 6


def test_our_own_camera_source_sees_what_our_sink_shows(guest: dict[str, Any]) -> None:
    assert len(guest["our_own_camera_source"]["errors"]) == 5
    assert max(guest["our_own_camera_source"]["errors"]) < _ERROR


def test_an_exclusive_device_can_be_fed_again_after_every_end(guest: dict[str, Any]) -> None:
    capture, output, neither = 1, 2, 0
    found = guest["exclusive_caps"]
    assert found["seen"] == {
        "fresh": output,
        "fed": capture,
        "closed": output,
        "crashed": neither,  # the trap
        "crashed while watched": capture,  # the trap, with somebody in it
    }
    assert found["the watcher sees the new writer's picture"] is True


def test_watchers_of_a_dead_program_see_the_slate_and_those_of_one_that_ended_in_order_do_not(
    guest: dict[str, Any],
) -> None:
    assert guest["slate_of_the_driver"] == {
        "first the picture": True,
        "then the slate": True,
        "bytes after the end": 0,  # the last picture stays, which the publisher makes its farewell
    }


def test_a_thousand_pictures_at_30_fps_arrive_in_order(guest: dict[str, Any]) -> None:
    found = guest["one_thousand_pictures"]
    numbers = found["numbers"]
    print(
        f"{found['written']} written, {len(set(numbers))} read, {found['late']} beats missed; off 33.3 ms (written) "
        f"{found['written_deviation_ms']}, (read) {found['deviation_ms']} ms (emulated processor)"
    )
    assert found["written"] == 1000
    assert numbers[-1] == 1000
    # Now and then, once in some thousand, the driver hands a reader the same picture again.
    assert numbers == sorted(numbers), "none out of order"
    assert len(set(numbers)) > 100, "a reader that is slow loses pictures, but not most of them"


def test_a_device_that_fails_is_lost(guest: dict[str, Any]) -> None:
    found = guest["failures"]
    where = "virtual camera /dev/video3 160x120 (v4l2loopback) shows no more pictures: "
    assert found["watched in another size"].startswith(
        f"{where}/dev/video3 carries YU12:320x240@30 instead of YU12:160x120"
    )
    assert found["no longer watched"] == ""
    assert found["a write fails"] == f"{where}the system refuses them; stderr says what it calls that"
    assert "/dev/video5 is gone" in found["gone"]
