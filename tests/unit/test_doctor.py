"""The doctor: a verdict a line, from what was found, and a report that gives nobody's secrets away."""

from __future__ import annotations

import gc
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest

from streamv2v_obs.doctor import examine
from streamv2v_obs.doctor_bundle import redact, write_bundle
from streamv2v_obs.doctor_check import Check
from streamv2v_obs.doctor_gpu import Gpu, fit, read_gpu
from streamv2v_obs.doctor_inputs import camera, display, hotkeys
from streamv2v_obs.doctor_outside import obs_studio, virtual_camera
from streamv2v_obs.errors import StreamV2VError
from streamv2v_obs.settings import Settings
from tests.conftest import Require
from tests.rigs.linux_network import network_obstacle, private_network

RTX = Gpu("RTX 4090", 24.0, "570.86.15")


def lines(checks: Iterator[Check]) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


@pytest.mark.parametrize(
    ("torch", "cuda", "gpu", "xformers", "expected"),
    [
        ("2.13.0+cpu", None, None, None, {"torch": "ok", "gpu": "note"}),
        ("2.13.0", 13, None, None, {"torch": "ok", "gpu": "note"}),
        ("2.13.0+cpu", None, RTX, "0.0.35", {"torch": "ok", "gpu": "note"}),
        ("2.13.0", 13, RTX, "0.0.35", {"torch": "ok", "gpu": "fail"}),
        ("2.13.0+cu128", 12, RTX, "0.0.35", {"torch": "ok", "gpu": "ok", "gpu memory": "ok", "xformers": "ok"}),
        ("2.13.0+cu128", 12, RTX, None, {"torch": "ok", "gpu": "ok", "gpu memory": "ok", "xformers": "note"}),
    ],
)
def test_torch_driver_and_card_are_held_against_each_other(
    torch: str, cuda: int | None, gpu: Gpu | None, xformers: str | None, expected: dict[str, str]
) -> None:
    assert lines(fit(Settings(), torch, cuda, gpu, xformers)) == expected


def test_what_mends_an_unused_card_is_a_torch_that_we_take() -> None:
    (check,) = (c for c in fit(Settings(), "2.13.0+cpu", None, RTX, None) if c.name == "gpu")
    (wanted,) = (r for r in requires("streamv2v-obs") or () if r.startswith("torch<") or r.startswith("torch>"))
    assert f"--force-reinstall '{wanted}' --index-url https://download.pytorch.org/whl/cu" in check.fix


def test_a_card_that_is_asked_for_and_is_not_there_is_a_failure() -> None:
    settings = Settings.model_validate({"model": {"device": "cuda"}})
    assert lines(fit(settings, "2.13.0+cpu", None, None, None))["gpu"] == "fail"
    assert lines(fit(settings, "2.13.0+cpu", None, RTX, None))["gpu"] == "fail"


def test_the_memory_is_held_against_the_preset() -> None:
    settings = Settings.model_validate({"model": {"name": "sd15-lcm"}})
    small = Gpu("GTX 1050", 2.0, "570.1")
    found = {check.name: check for check in fit(settings, "2.13.0+cu128", 12, small, "0.0.35")}
    assert found["gpu memory"].verdict == "note"
    assert "low_vram" in found["gpu memory"].fix


def test_what_nvidia_smi_says_is_read() -> None:
    assert read_gpu("NVIDIA H100, 81559, 570.86.15\nNVIDIA H100, 81559, 570.86.15\n") == Gpu(
        "NVIDIA H100", 81559 / 1024, "570.86.15"
    )
    for wrong in ("", "No devices were found", "a, [N/A], 1", "a, b"):
        assert read_gpu(wrong) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's virtual files")
def test_loopback_devices_and_who_holds_them(tmp_path: Path) -> None:
    from streamv2v_obs.doctor_linux import loopbacks, module_state

    assert loopbacks(tmp_path, tmp_path, tmp_path) == []
    assert module_state(tmp_path, tmp_path, tmp_path) == "impossible"
    (tmp_path / "modules").touch()
    assert module_state(tmp_path, tmp_path, tmp_path) == "not installed"
    (tmp_path / "lib" / "extra").mkdir(parents=True)
    (tmp_path / "lib" / "extra" / "v4l2loopback.ko.xz").touch()
    assert module_state(tmp_path, tmp_path / "lib", tmp_path) == "installed"
    for number, name in ((10, "OBS"), (2, "Mine")):
        folder = tmp_path / "devices/virtual/video4linux" / f"video{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (tmp_path / f"video{number}").touch()
    (tmp_path / "module/v4l2loopback/parameters").mkdir(parents=True)
    (tmp_path / "module/v4l2loopback/parameters/exclusive_caps").write_text("Y,N,N\n")
    (tmp_path / "77/fd").mkdir(parents=True)
    (tmp_path / "77/comm").write_text("obs\n")
    (tmp_path / "77/fd/3").symlink_to(tmp_path / "video10")
    first, second = loopbacks(tmp_path, tmp_path, tmp_path)
    assert (first.name, first.exclusive_caps, first.holders, first.writable) == ("Mine", True, (), True)
    assert (second.name, second.exclusive_caps, second.holders) == ("OBS", False, ("obs (process 77)",))
    assert module_state(tmp_path) == "loaded"


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's virtual files")
def test_a_card_without_a_driver_is_no_missing_card(tmp_path: Path) -> None:
    from streamv2v_obs.doctor_linux import has_nvidia_card

    for number, vendor, kind in ((1, "0x8086", "0x030000"), (2, "0x10de", "0x040300")):  # another's; its sound
        folder = tmp_path / f"bus/pci/devices/{number}"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
    assert not has_nvidia_card(tmp_path)
    (tmp_path / "bus/pci/devices/2/class").write_text("0x030200\n")
    assert has_nvidia_card(tmp_path)
    (check,) = (c for c in fit(Settings(), "2.13.0", 13, None, None, card=True) if c.name == "gpu")
    assert check.fix == "install NVIDIA's driver"


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's virtual files")
@pytest.mark.parametrize(
    ("module", "fix"),
    [
        ("impossible", "streamv2v-obs open"),
        ("not installed", "apt install v4l2loopback-dkms && modprobe v4l2loopback video_nr=10"),
        ("installed", "modprobe v4l2loopback video_nr=10"),
        ("loaded", "modprobe -r v4l2loopback && modprobe v4l2loopback video_nr=10"),
    ],
)
def test_what_mends_a_missing_virtual_camera_is_what_this_system_has(
    monkeypatch: pytest.MonkeyPatch, module: str, fix: str
) -> None:
    from streamv2v_obs import doctor_linux

    monkeypatch.setattr(doctor_linux, "loopbacks", list)
    monkeypatch.setattr(doctor_linux, "module_state", lambda: module)
    monkeypatch.setattr(doctor_linux, "as_root", str)
    monkeypatch.setattr("shutil.which", lambda name: name if name == "apt" else None)
    (check,) = virtual_camera(Settings())
    assert (check.verdict, check.fix.startswith(fix)) == ("note", True), check


@pytest.mark.skipif(sys.platform != "linux", reason="displays of Linux")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_display_that_does_not_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("XDG_SESSION_TYPE", "x11")
    monkeypatch.setenv("DISPLAY", ":4711")
    wanted = Settings.model_validate({"capture": {"kind": "screen"}, "control": {"hotkeys": {"panic": "f9"}}})
    assert (display(Settings()).verdict, display(wanted).verdict) == ("note", "fail")
    (check,) = hotkeys(wanted)
    assert (check.verdict, ":4711 does not answer" in check.detail) == ("note", True)
    gc.collect()  # Xlib forgets the socket that found no server; not the next test shall be told so
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert "Wayland" in display(wanted).detail
    (check,) = hotkeys(wanted)
    assert "Wayland" in check.detail
    assert "streamv2v-obs panic on" in check.fix
    assert list(hotkeys(Settings())) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere cameras are not looked for")
def test_a_camera_that_is_set_and_not_there(tmp_path: Path) -> None:
    there = Settings.model_validate({"capture": {"kind": "camera", "device": str(tmp_path / "video7")}})
    assert camera(there).verdict == "fail"
    assert "video7" in camera(there).detail


def test_obs_that_is_not_there_or_not_listening() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for required, verdict in ((False, "note"), (True, "fail")):
        settings = Settings.model_validate({"obs": {"enabled": True, "port": port, "required": required}})
        (check,) = obs_studio(settings)
        assert check.verdict == verdict
        assert check.fix
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (check,) = obs_studio(Settings.model_validate({"obs": {"port": port}}))
    assert "something listens" in check.detail


def test_an_obs_in_another_network_is_none_of_ours(require: Require, tmp_path: Path) -> None:
    require("obs", not network_obstacle(), network_obstacle())
    program = shutil.copy("/bin/sleep", tmp_path / "obs")  # only its name matters
    settings = Settings.model_validate({"obs": {"enabled": True}})
    with private_network():
        near = subprocess.Popen([program, "60"])
        try:
            (check,) = obs_studio(settings)
            assert check.detail.startswith("OBS runs, but its WebSocket server is not at")
            with private_network():
                (check,) = obs_studio(settings)
            assert "OBS runs" not in check.detail
        finally:
            near.kill()
            near.wait(10)


def test_this_machine_gets_a_line_for_everything() -> None:
    found = {check.name: check for check in examine(Settings.model_validate({"control": {"port": 0}}))}
    always = "python, torch, gpu, cpu, model, display, camera, virtual camera, obs, control, disk"
    assert set(always.split(", ")) <= set(found)
    assert all(check.detail for check in found.values())
    assert not [name for name, check in found.items() if check.verdict == "fail" and not check.fix]
    assert all(found[name].fix for name in ("gpu", "camera", "display", "obs") if found[name].verdict != "ok")


def test_the_report_gives_no_secret_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMV2V_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USERPROFILE", "/home/somebody")
    key = tmp_path / "state" / "streamv2v-obs" / "stream-key"
    key.parent.mkdir(parents=True)
    key.write_text("planted-stream-key-0123456789abcdef\n")
    settings = Settings.model_validate(
        {"obs": {"password": "planted-password"}, "model": {"name": "/home/somebody/m"}}
    )
    log = tmp_path / "a.log"
    log.write_text(
        "said planted-password\n"
        "opened http://127.0.0.1:1/open?key=planted-link-key-0123456789\n"
        "stream planted-stream-key-0123456789abcdef\n"
        "Authorization: Bearer planted-token-0123456789\n"
        '{"password": "planted-other"}\n'
        "at /home/somebody/config.yaml\n"
    )
    names = write_bundle(tmp_path / "report.zip", settings, [Check("obs", "fail", "planted-password", "fix")], log)
    with zipfile.ZipFile(tmp_path / "report.zip") as file:
        assert file.namelist() == names == ["doctor.txt", "settings.yaml", "system.json", "status.json", "log.txt"]
        texts = {name: file.read(name).decode() for name in names}
    for name, text in texts.items():
        assert "planted" not in text, name
        assert "somebody" not in text, name
    assert "at ~/config.yaml" in texts["log.txt"]
    assert "fix" in texts["doctor.txt"]
    with pytest.raises(StreamV2VError, match=r"nowhere.*cannot be written"):
        write_bundle(tmp_path / "nowhere" / "x.zip", settings, [], log)


def test_words_that_only_contain_a_name_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "tom")
    assert redact("tom wrote custom", []) == "(private) wrote custom"
