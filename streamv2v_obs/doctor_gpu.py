"""torch, the driver, the card and xformers, as far as they fit together; read from files and nvidia-smi, torch is not
imported."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from streamv2v_obs.doctor_check import Check
from streamv2v_obs.settings import Settings

_OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
"""CUDA's major version -> the oldest driver that runs it (NVIDIA's table of minor version compatibility)."""

_NEEDED_GB = {"sd15-lcm": 4.0, "sd-turbo": 5.0}
"""Estimated: weights in float16, the bank, and room to work for a picture of 512x512."""

_OTHER_MACHINE = "for Stable Diffusion: a machine with an NVIDIA card; how large a one, says: streamv2v-obs models"


@dataclass(frozen=True)
class Gpu:
    """What nvidia-smi says of the first card."""

    name: str
    memory_gb: float
    driver: str

    @property
    def driver_major(self) -> int:
        """570 of 570.86.15; 0 where it says something else."""
        found = re.match(r"\d+", self.driver)
        return int(found[0]) if found else 0


def torch_and_gpu(settings: Settings) -> Iterator[Check]:
    """All that decides whether a GPU is used."""
    version = _version("torch")
    if version is None:
        yield Check("torch", "fail", "not installed", "pip install streamv2v-obs")
        return
    gpu = find_gpu()
    yield from fit(settings, version, torch_cuda(version), gpu, _version("xformers"), card=_has_card())
    if gpu is None and settings.model.name in ("auto", "demo") and settings.model.backend != "torch":
        yield _openvino(_version("openvino"))


def fit(
    settings: Settings, torch: str, cuda: int | None, gpu: Gpu | None, xformers: str | None, *, card: bool = False
) -> Iterator[Check]:
    """The lines, from what was found: ``cuda`` is the major version that torch was built for, None for the CPU.

    ``card``: there is one of NVIDIA's, whether its driver tells of it or not.
    """
    yield Check("torch", "ok", f"{torch}, a build for {f'CUDA {cuda}' if cuda else 'the CPU'}")
    wanted = settings.model.device == "cuda"
    if gpu is None:
        said = "an NVIDIA card, but its driver does not answer" if card else "no NVIDIA card"
        fix = "install NVIDIA's driver" if card else "set model.device=auto" if wanted else _OTHER_MACHINE
        if not wanted:
            said += "; the CPU is used, which is enough for the demo model only"
        yield Check("gpu", "fail" if wanted else "note", said, fix)
        return
    said = f"{gpu.name}, {gpu.memory_gb:.0f} GB, driver {gpu.driver}"
    if cuda is None:
        fix = f"pip install --force-reinstall '{_range('torch')}' --index-url https://download.pytorch.org/whl/cu128"
        yield Check("gpu", "fail" if wanted else "note", f"{said}; unused: this torch is built for the CPU", fix)
        return
    oldest = _OLDEST_DRIVER.get(cuda, 0)
    if gpu.driver_major < oldest:
        fix = f"install NVIDIA's driver {oldest} or newer"
        yield Check("gpu", "fail", f"{said}; too old for a torch built for CUDA {cuda}", fix)
        return
    yield Check("gpu", "ok", said)
    yield _memory(settings.model.name, gpu)
    if xformers is None:
        yield Check("xformers", "note", "not installed; torch's own attention is used", "pip install xformers")
    else:
        yield Check("xformers", "ok", xformers)


def _openvino(version: str | None) -> Check:
    if version is None:
        said = "not installed; with it the demo model takes little more than half of the time on a CPU"
        return Check("openvino", "note", said, "pip install 'streamv2v-obs[openvino]'")
    return Check("openvino", "ok", f"{version}, for the demo model on the CPU")


def _has_card() -> bool:
    if sys.platform != "linux":
        return False  # who has one there has its driver from the system's own updates
    from streamv2v_obs.doctor_linux import has_nvidia_card

    return has_nvidia_card()


def _memory(model: str, gpu: Gpu) -> Check:
    needed = _NEEDED_GB.get(model)
    if needed is None:
        return Check("gpu memory", "ok", f"{gpu.memory_gb:.0f} GB; what {model} needs is not known beforehand")
    said = f"{gpu.memory_gb:.0f} GB; {model} needs about {needed:.0f} GB at 512x512"
    if gpu.memory_gb < needed:
        return Check("gpu memory", "note", said, "run with --config low_vram, or a smaller model.width and height")
    return Check("gpu memory", "ok", said)


def torch_cuda(version: str) -> int | None:
    """The major version of CUDA that the installed torch was built for."""
    if found := re.search(r"\+cu(\d\d)", version):
        return int(found[1])
    if "+" in version:
        return None
    # The plain wheel for Linux is the CUDA one and does not say so in its version; its requirements do.
    for package in importlib.metadata.distributions():
        name = (package.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith("nvidia-cuda-runtime"):
            return int(package.version.partition(".")[0])
    return None


def find_gpu() -> Gpu | None:
    """The first card that nvidia-smi lists."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run([program, *query], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return read_gpu(done.stdout) if done.returncode == 0 else None


def read_gpu(said: str) -> Gpu | None:
    """The first line of nvidia-smi's answer; None where it is none."""
    parts = [part.strip() for part in said.partition("\n")[0].split(",")]
    if len(parts) != 3 or not parts[1].isdecimal():
        return None
    return Gpu(parts[0], int(parts[1]) / 1024, parts[2])


def _range(name: str) -> str:
    """``name`` with the versions that we take: the newest one may be none of them."""
    wanted = importlib.metadata.requires("streamv2v-obs") or []
    return next(one for one in wanted if re.match(rf"{name}[<>=!~]", one))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
