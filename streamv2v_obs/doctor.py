"""One honest line for each thing that a good run needs, with the command that mends it; nothing is imported for it
that takes seconds, and nothing is opened that someone else may be using."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from streamv2v_obs.doctor_check import Check
from streamv2v_obs.doctor_gpu import torch_and_gpu
from streamv2v_obs.doctor_inputs import camera, display, hotkeys
from streamv2v_obs.doctor_outside import obs_studio, virtual_camera
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import Settings

_LEAST_FREE_GB = 5.0
_OLDEST_PYTHON = (3, 10)


def examine(settings: Settings) -> Iterator[Check]:
    """All checks, one after another as they are done."""
    yield _python()
    yield from torch_and_gpu(settings)
    yield _processor()
    yield _model(settings)
    yield display(settings)
    yield camera(settings)
    yield from virtual_camera(settings)
    yield from obs_studio(settings)
    yield from hotkeys(settings)
    yield _port(settings)
    yield _disk()


def _python() -> Check:
    said = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < _OLDEST_PYTHON:
        return Check("python", "fail", said, "install Python 3.10 or newer, and streamv2v-obs with it")
    return Check("python", "ok", said)


def _processor() -> Check:
    cores = f"{os.cpu_count()} cores"
    if sys.platform != "linux":
        return Check("cpu", "ok", f"{cores}; whether it computes bfloat16 is not checked on this system")
    from streamv2v_obs.doctor_linux import cpu_flags

    fast = sorted({"amx_bf16", "avx512_bf16", "bf16"} & cpu_flags())
    if not fast:
        return Check("cpu", "note", f"{cores}, no AVX512-BF16 or AMX: the demo model runs in float32, more slowly")
    return Check("cpu", "ok", f"{cores}, bfloat16 in hardware: {', '.join(fast)}")


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
