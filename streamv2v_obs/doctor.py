"""One honest line for each thing that a good run needs, with the command that mends it; nothing is imported for it
that takes seconds, and nothing is opened that someone else may be using."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamv2v_obs.errors import ConfigError, ObsError
from streamv2v_obs.settings import Settings

_LEAST_FREE_GB = 5.0


@dataclass(frozen=True)
class Check:
    """``fail``: it cannot run so. ``note``: it runs, with less than there could be. ``fix`` may be empty."""

    name: str
    verdict: Literal["ok", "note", "fail"]
    detail: str
    fix: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """All checks, one after another as they are done."""
    yield _python()
    yield from _torch()
    yield _processor()
    yield _model(settings)
    yield _display(settings)
    yield _camera()
    yield _obs(settings)
    yield _port(settings)
    yield _disk()


def _python() -> Check:
    said = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "ok", said)


def _torch() -> Iterator[Check]:
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        yield Check("torch", "fail", "not installed", "pip install streamv2v-obs")
        return
    cuda_build = "+cu" in version or _has_cuda_libraries()
    yield Check("torch", "ok", f"{version}, {'a build for CUDA' if cuda_build else 'a build for the CPU'}")
    gpu = _gpu()
    if gpu is None and cuda_build:
        yield Check(
            "gpu", "note", "nvidia-smi finds none; the CPU is used", "install NVIDIA's driver if there is a GPU"
        )
    elif gpu is None:
        yield Check("gpu", "note", "nvidia-smi finds none; the CPU is used, which is enough for the demo model only")
    elif cuda_build:
        yield Check("gpu", "ok", gpu)
    else:
        fix = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128"
        yield Check("gpu", "note", f"{gpu}, unused: this torch cannot use it", fix)


def _has_cuda_libraries() -> bool:
    # The plain wheel for Linux is the CUDA one and does not say so in its version; its requirements do.
    names = (found.metadata["Name"] or "" for found in importlib.metadata.distributions())
    return any(name.lower().replace("_", "-").startswith("nvidia-cuda-runtime") for name in names)


def _gpu() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run([program, *query], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return "; ".join(line.strip() for line in lines) if done.returncode == 0 and lines else None


def _processor() -> Check:
    cores = f"{os.cpu_count()} cores"
    if sys.platform != "linux":
        return Check("cpu", "ok", f"{cores}; whether it computes bfloat16 is not checked on this system")
    from streamv2v_obs.doctor_linux import cpu_flags

    fast = sorted({"amx_bf16", "avx512_bf16", "bf16"} & cpu_flags())
    return Check("cpu", "ok", f"{cores}, bfloat16 in hardware: {', '.join(fast) or 'no, float32 is used'}")


def _model(settings: Settings) -> Check:
    from streamv2v_obs.translator.presets import PRESETS, download_command, missing_files, preset_folder

    name = settings.model.name
    if name in PRESETS:
        preset = PRESETS[name]
        missing = missing_files(preset, preset_folder(preset))
        if not missing:
            return Check("model", "ok", f"{name}: complete in {preset_folder(preset)}")
        return Check("model", "fail", f"{name}: {len(missing)} files missing", download_command(preset))
    here = [preset.name for preset in PRESETS.values() if not missing_files(preset, preset_folder(preset))]
    if name == "auto":
        if here:
            return Check("model", "ok", f"auto: chosen among {', '.join(here)}")
        return Check("model", "fail", "no model is here", download_command(next(iter(PRESETS.values()))))
    path = Path(name).expanduser()
    if path.exists():
        return Check("model", "ok", f"{path}: there (its contents are checked when it is loaded)")
    if name.count("/") == 1 and not path.is_absolute():
        return Check("model", "note", f"{name}: a repository; fetched when it is first loaded")
    return Check("model", "fail", f"{name}: neither a preset nor a file", "streamv2v-obs models")


def _display(settings: Settings) -> Check:
    if sys.platform != "linux":
        return Check("display", "ok", f"{platform.system()}'s own")
    display, wayland = os.environ.get("DISPLAY"), os.environ.get("WAYLAND_DISPLAY")
    wayland = wayland or (os.environ.get("XDG_SESSION_TYPE") == "wayland" and "wayland") or None
    fix = "capture an OBS source (capture.kind=obs) or a camera (capture.kind=camera)"
    needed = settings.capture.kind == "screen"
    if wayland:
        return Check("display", "fail" if needed else "note", "Wayland: its screen cannot be captured here", fix)
    if display:
        return Check("display", "ok", f"X11 at {display}")
    return Check("display", "fail" if needed else "note", "none: there is no screen to capture", fix)


def _camera() -> Check:
    from streamv2v_obs.publish.virtual_camera import how_to_get_one

    browser = "without one, pictures are shown in the browser output"
    if sys.platform != "linux":
        said = f"not opened, because another program may be using it; {browser}"
        return Check("virtual camera", "note", said, how_to_get_one())
    from streamv2v_obs.doctor_linux import may_write
    from streamv2v_obs.publish.virtual_camera_linux import loopback_devices

    devices = loopback_devices()
    if not devices:
        return Check("virtual camera", "note", f"no v4l2loopback device; {browser}", how_to_get_one())
    usable = [f"{path} ({name})" for path, name in devices if may_write(path)]
    if not usable:
        return Check(
            "virtual camera", "note", f"{devices[0][0]} may not be written by you", "sudo usermod -aG video $USER"
        )
    return Check("virtual camera", "ok", ", ".join(usable))


def _obs(settings: Settings) -> Check:
    obs = settings.obs
    where = f"{obs.host}:{obs.port}"
    if not obs.enabled:
        if _listens(obs.host, obs.port):
            said = f"something listens at {where}, and obs.enabled is false"
            return Check("obs", "note", said, "--set obs.enabled=true and obs.password")
        return Check("obs", "note", f"not used (obs.enabled is false); nothing listens at {where}")
    from streamv2v_obs.obs.client import open_requests

    try:
        requests = open_requests(obs)
        try:
            return Check("obs", "ok", f"{requests.version()} at {where}")
        finally:
            requests.close()
    except ObsError as error:
        fix = "in OBS: Tools > WebSocket Server Settings; compare port and password with obs.port and obs.password"
        return Check("obs", "fail" if obs.required else "note", str(error), fix)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def _port(settings: Settings) -> Check:
    from streamv2v_obs.control.endpoint import find_endpoint
    from streamv2v_obs.control.server import bind

    try:
        endpoint = find_endpoint()
    except ConfigError as error:
        return Check("control", "fail", str(error))
    if endpoint is not None:
        return Check("control", "ok", f"the service runs as process {endpoint.pid} at {endpoint.address}")
    try:
        bind(settings.control).close()
    except ConfigError as error:
        return Check("control", "fail", str(error), "streamv2v-obs run --set control.port=0")
    return Check("control", "ok", f"port {settings.control.port} is free")


def _disk() -> Check:
    from streamv2v_obs.translator.presets import models_folder

    folder = models_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free_gb = shutil.disk_usage(there).free / 1e9
    said = f"{free_gb:.0f} GB free for models in {folder}"
    if free_gb < _LEAST_FREE_GB:
        return Check("disk", "note", said, "set STREAMV2V_MODELS to a folder on a larger disk")
    return Check("disk", "ok", said)
