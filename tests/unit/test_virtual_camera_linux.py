"""Loopback devices by the kernel's lists, here folders of our own; real ones are in test_virtual_camera_vm.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("Linux only", allow_module_level=True)

from streamv2v_obs.errors import SinkLost
from streamv2v_obs.publish.virtual_camera_linux import Health, loopback_devices, path_of, written_by_this_thread


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """A kernel's list of video10 (Stage), video2 (Booth) and video11 (Booth)."""
    for node, name in (("video10", "Stage"), ("video2", "Booth"), ("video11", "Booth")):
        (tmp_path / "list" / node).mkdir(parents=True)
        (tmp_path / "list" / node / "name").write_text(f"{name}\n")
    return tmp_path / "list"


def test_devices_are_listed_by_number(devices: Path) -> None:
    assert loopback_devices(devices) == [
        ("/dev/video2", "Booth"),
        ("/dev/video10", "Stage"),
        ("/dev/video11", "Booth"),
    ]
    assert loopback_devices(devices / "nothing") == []


def test_a_name_is_one_device_or_a_clear_error(devices: Path) -> None:
    assert path_of("Stage", devices) == "/dev/video10"
    assert path_of("/dev/whatever", devices) == "/dev/whatever"
    with pytest.raises(SinkLost, match=r"'Booth': 2 devices have this name, so give a path; .*/dev/video2 \(Booth\)"):
        path_of("Booth", devices)
    with pytest.raises(SinkLost, match=r"'Stag': no device has this name; loopback devices here: /dev/video2"):
        path_of("Stag", devices)
    with pytest.raises(SinkLost, match="devices here: none"):
        path_of("Stage", devices / "nothing")


def test_health_is_the_node_and_its_format(tmp_path: Path) -> None:
    node = tmp_path / "video10"
    node.symlink_to("/dev/null")
    listed = tmp_path / "list" / "null"  # the kernel's name of the node
    listed.mkdir(parents=True)
    health = Health(str(node), "YU12", 64, 48, tmp_path / "list")
    assert health.problem() is None, "a driver that tells no format is not suspected"
    (listed / "format").write_text("")
    assert health.problem() is None
    (listed / "format").write_text("YU12:64x48@30\n")
    assert health.problem() is None
    (listed / "format").write_text("YU12:640x48@30\n")
    assert "carries YU12:640x48@30 instead of YU12:64x48" in str(health.problem())
    node.unlink()
    assert "is gone" in str(health.problem())
    node.symlink_to("/dev/zero")
    assert "is gone" in str(health.problem()), "another device has taken its place"


def test_a_thread_knows_what_it_wrote(tmp_path: Path) -> None:
    before = written_by_this_thread()
    if before is None:
        pytest.skip("this kernel does not count")
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(bytes(12345))
    after = written_by_this_thread()
    assert after is not None
    assert after - before == 12345
