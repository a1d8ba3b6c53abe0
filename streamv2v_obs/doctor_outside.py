"""What other programs have to do with it: the virtual camera's driver, and OBS."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from streamv2v_obs.doctor_check import Check, Verdict
from streamv2v_obs.errors import ObsError
from streamv2v_obs.settings import ObsSettings, Settings

_OLDEST_OBS = 28
_SERVER = "in OBS: Tools > WebSocket Server Settings > Enable WebSocket server"
_COMPARE = "in OBS: Tools > WebSocket Server Settings; compare port and password with obs.port and obs.password"


def virtual_camera(settings: Settings) -> Iterator[Check]:
    """Whether there is one that can be written to."""
    from streamv2v_obs.publish.virtual_camera import how_to_get_one

    wanted = "camera" in settings.publish.outputs
    if sys.platform != "linux":
        said = "not opened, because another program may be using it; without one the browser output is used"
        yield Check("virtual camera", "note", said, how_to_get_one())
        return
    from streamv2v_obs.doctor_linux import as_root, install_command, loopbacks, module_state

    devices = loopbacks()
    lacking: Verdict = "fail" if wanted else "note"
    without = "" if wanted else "; without one, pictures are shown in the browser output"
    if not devices:
        module = module_state()
        if module == "impossible":
            said = f"this system's kernel takes no modules, so it can have none{without}"
            fix = "run it on a machine of its own, not in a container or small virtual machine; or "
            fix += "set publish.outputs=[browser]"
            yield Check("virtual camera", lacking, said, fix if wanted else "streamv2v-obs open")
            return
        fix = as_root("modprobe v4l2loopback video_nr=10 card_label=StreamV2V exclusive_caps=1")
        if module == "not installed":
            # On Fedora it is RPM Fusion's.
            get = install_command("v4l2loopback-dkms", "v4l2loopback-dkms linux-headers", "akmod-v4l2loopback")
            fix = f"{get or 'install v4l2loopback, which distributions have as a DKMS package'} && {fix}"
        elif module == "loaded":
            fix = f"{as_root('modprobe -r v4l2loopback')} && {fix}"
        yield Check("virtual camera", lacking, f"no v4l2loopback device (module: {module}){without}", fix)
        return
    for device in devices:
        said = f"{device.path} ({device.name})"
        if not device.writable:
            yield Check(
                "virtual camera", lacking, f"{said} may not be written by you", as_root("usermod -aG video $USER")
            )
        elif device.holders:
            by = ", ".join(device.holders)
            yield Check(
                "virtual camera", "note", f"{said} is held by {by}", "end what feeds it; who only watches it may stay"
            )
        elif device.exclusive_caps is False:
            again = as_root("modprobe v4l2loopback video_nr=10 card_label=StreamV2V exclusive_caps=1")
            fix = f"{as_root('modprobe -r v4l2loopback')} && {again}"
            yield Check("virtual camera", "note", f"{said}: without exclusive_caps browsers do not list it", fix)
        else:
            yield Check("virtual camera", "ok", said)


def obs_studio(settings: Settings) -> Iterator[Check]:
    """Whether it runs, lets us in, and leaves the camera alone."""
    obs = settings.obs
    where = f"{obs.host}:{obs.port}"
    listens = _listens(obs.host, obs.port)
    here = obs.host in ("127.0.0.1", "localhost", "::1")
    if not obs.enabled:
        if listens:
            said = f"something listens at {where}, and obs.enabled is false"
            yield Check("obs", "note", said, "set obs.enabled and obs.password, if it is OBS that shall lead")
        else:
            said = f"not used (obs.enabled is false); {_absence(where)}"
            yield Check("obs", "note", said, f"to be led by its scenes: {_remedy(obs.port)}; then set obs.enabled")
        return
    lacking: Verdict = "fail" if obs.required else "note"
    if not listens and here:
        yield Check("obs", lacking, _absence(where), _remedy(obs.port))
        return
    yield from _linked(obs, where, lacking)


def _linked(obs: ObsSettings, where: str, lacking: Verdict) -> Iterator[Check]:
    from streamv2v_obs.obs.client import open_requests
    from streamv2v_obs.publish.virtual_camera import conflict_with_obs

    try:
        requests = open_requests(obs)
        try:
            version = requests.version()
            camera = requests.virtual_camera()
        finally:
            requests.close()
    except ObsError as error:
        yield Check("obs", lacking, str(error), _COMPARE)
        return
    major = str(version.obs).partition(".")[0]
    if major.isdecimal() and int(major) < _OLDEST_OBS:
        yield Check("obs", "note", f"{version} at {where} is old", f"update OBS to {_OLDEST_OBS} or newer")
    else:
        yield Check("obs", "ok", f"{version} at {where}; the password is right")
    if camera and (conflict := conflict_with_obs()):
        yield Check("obs camera", "note", conflict)


def _absence(where: str) -> str:
    if _runs():
        return f"OBS runs, but its WebSocket server is not at {where}"
    return "OBS is installed, but does not run" if _installed() else "OBS is not installed, as far as can be seen"


def _remedy(port: int) -> str:
    enable = f"{_SERVER}, port {port}"
    if _runs():
        return enable
    if _installed():
        return f"start OBS; {enable}"
    get = ""
    if sys.platform == "linux":
        from streamv2v_obs.doctor_linux import install_command

        get = install_command("obs-studio", "obs-studio", "obs-studio")
    return f"{get or 'get it from https://obsproject.com/download'}; {enable}"


def _installed() -> bool:
    places = (
        "/var/lib/flatpak/app/com.obsproject.Studio",
        str(Path.home() / ".local/share/flatpak/app/com.obsproject.Studio"),
        "/Applications/OBS.app",
        r"C:\Program Files\obs-studio",
    )
    return shutil.which("obs") is not None or any(Path(place).exists() for place in places)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def _runs() -> bool:
    import psutil

    names = {"obs", "obs64.exe", "obs32.exe", "obs.exe"}
    found = psutil.process_iter(["name", "pid"])
    return any((one.info["name"] or "").lower() in names and _in_our_network(one.info["pid"]) for one in found)


def _in_our_network(process: int) -> bool:
    """Whether it could be reached: one in a container listens to that container's own ports."""
    try:
        return Path(f"/proc/{process}/ns/net").readlink() == Path("/proc/thread-self/ns/net").readlink()
    except OSError:
        return True  # another user's, or a system without such
