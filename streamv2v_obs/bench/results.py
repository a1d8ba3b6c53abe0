"""What a measurement leaves behind: one JSON file with the figures, the command and the machine they came from."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import psutil

from streamv2v_obs.settings import Settings, lcm_indices
from streamv2v_obs.translator.presets import demo_folder

log = logging.getLogger(__name__)

SCHEMA = Path(__file__).with_name("bench_result.schema.json")
RESULTS = Path(__file__).with_name("results")
"""Where committed results lie."""

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("torch", "diffusers", "transformers", "xformers", "numpy", "opencv-python-headless", "scikit-image")
_FLAGS = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}

Section = dict[str, Any]
Kind: TypeAlias = Literal[
    "pipeline",
    "ladder",
    "latency",
    "soak",
    "bank",
    "prompt-switch",
    "jitter",
    "compare",
    "quality",
    "cpu-demo",
    "roofline",
]


TIMED = ("preprocess", "encode", "unet", "scheduler", "decode", "postprocess", "bank-update")
"""What a translator's frame time includes, in the schema's words."""


def spread(values: Sequence[float]) -> Section:
    """The distribution of ``values``, at least one, as the schema's ``dist``."""
    found = np.asarray(values, np.float64)
    p50, p90, p99 = np.percentile(found, (50, 90, 99))
    named = {"mean": found.mean(), "std": found.std(), "min": found.min(), "p50": p50, "p90": p90, "p99": p99}
    return {"n": len(found)} | {name: round(float(value), 4) for name, value in (named | {"max": found.max()}).items()}


def ratio_of_medians(over: Sequence[float], under: Sequence[float], draws: int = 4000) -> tuple[float, list[float]]:
    """median(over) / median(under) of pairs, and its 95 % interval from a bootstrap over the pairs."""
    pairs = np.array([over, under], np.float64)
    chosen = np.random.default_rng(0).integers(0, pairs.shape[1], (draws, pairs.shape[1]))
    tops, bottoms = np.median(pairs[:, chosen], axis=2)
    low, high = np.percentile(tops / bottoms, (2.5, 97.5))
    middle = float(np.median(pairs[0]) / np.median(pairs[1]))
    return round(middle, 4), [round(float(low), 4), round(float(high), 4)]


def check(name: str, limit: float, value: float, *, at_most: bool = False) -> Section:
    """A goal and whether it is met: ``value`` is to be at least (or at most) ``limit``."""
    return {"name": name, "limit": limit, "value": value, "pass": value <= limit if at_most else value >= limit}


def load_now() -> float:
    """How busy the machine is: the mean number of programs that want a core, over the last minute."""
    return round(float(psutil.getloadavg()[0]), 2)


def environment(device: str, load_before: float, threads: int | None = None) -> Section:
    """The machine and the versions; ``device`` is torch's name of it, ``threads`` those that torch uses there."""
    cpu: Section = {
        "model": _cpu_model(),
        "cores": psutil.cpu_count(),
        "isa": _instructions(),
        "load_before": load_before,
        "load_after": load_now(),
    }
    if threads is not None:
        cpu["threads_used"] = threads
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except ModuleNotFoundError:
            packages[name] = "not installed"
    return {
        "device": _device(device),
        "cpu": cpu,
        "torch": packages["torch"],
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "packages": packages,
        "flags": {name: os.environ[name] for name in _FLAGS if name in os.environ},
    }


def configuration(
    settings: Settings,
    *,
    model: str,
    dtype: str,
    schedule: str,
    width: int,
    height: int,
    weights: Literal["checkpoint", "random"] = "checkpoint",
    backend: str = "torch",
) -> Section:
    """What was measured; all but ``settings`` is what was found in use, not what was asked for."""
    translator = settings.translator
    fuses = translator.fusion.strength > 0 and translator.bank.kind != "off"
    demo = model == "demo" or _is_demo_folder(model)
    bank: Section = {"kind": translator.bank.kind}
    if translator.bank.kind != "off":
        bank |= {"interval": translator.bank.interval, "ea": translator.bank.attend, "ff": fuses}
        bank |= {"size": translator.bank.length if translator.bank.kind == "queue" else 1}
    if fuses:
        bank |= {"alpha": translator.fusion.strength, "threshold": translator.fusion.threshold}
    found: Section = {
        "model": "demo" if demo else "sd15",
        "weights": weights,
        "seed": translator.seed,
        "steps": translator.steps,
        "t_index": list(lcm_indices(translator.strength, translator.steps)),
        "height": height,
        "width": width,
        "dtype": _PRECISIONS[dtype],
        "backend": "eager" if backend == "torch" else backend,
        "impl": "ours",
        "schedule": schedule,
        "bank": bank,
    }
    if demo and weights == "checkpoint":
        found["weights_sha256"] = sha256_of_weights(Path(model) if Path(model).is_dir() else demo_folder())
    return found


def demo_configuration(settings: Settings) -> Section:
    """What was measured where the embedded model ran as a CPU runs it if nothing else is asked for."""
    from streamv2v_obs.translator.devices import choose_device, choose_dtype

    dtype = str(choose_dtype("auto", choose_device("cpu"))).removeprefix("torch.")
    return configuration(settings, model="demo", dtype=dtype, schedule="stream", width=256, height=256)


def command_line() -> str:
    """This process's command, as somebody else would type it; without passwords."""
    script = Path(sys.argv[0]).resolve()
    program = ["streamv2v-obs"]
    if script.suffix == ".py" and script.stem != "__main__" and script.is_relative_to(_ROOT / "streamv2v_obs"):
        program = ["python", "-m", ".".join(script.relative_to(_ROOT).with_suffix("").parts)]
    words = [re.sub(r"(password\w*[=:]\s*).*", r"\1***", word) for word in sys.argv[1:]]
    return shlex.join([*program, *words])


def results_folder() -> Path:
    """Where results go unless somebody says otherwise: what is committed, in a checkout; else a folder here."""
    return RESULTS if (_ROOT / ".git").exists() else Path("bench-results")


def write(
    path: Path,
    kind: Kind,
    *,
    command: str,
    env: Section,
    config: Section,
    protocol: Section,
    results: Section,
    checks: Sequence[Section],
    notes: str,
) -> None:
    """Write one result, which the schema beside this file describes."""
    found: Mapping[str, Any] = {
        "schema": "streamv2v-obs/bench-result/1",
        "kind": kind,
        "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "git": _git(),
        "command": command,
        "env": env,
        "config": config,
        "protocol": protocol,
        "results": results,
        "checks": list(checks),
        "notes": notes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _is_demo_folder(model: str) -> bool:
    """Whether a diffusers folder holds a demo model: latents of as many channels as no Stable Diffusion has."""
    described = Path(model) / "unet" / "config.json"
    return described.is_file() and json.loads(described.read_text(encoding="utf-8"))["in_channels"] != 4


def commit() -> str:
    """The commit that is checked out; ``unknown`` outside of a checkout."""
    return str(_git()["commit"])


def _git() -> Section:
    """The commit measured. Results that were just written, and the README made of them, do not make it dirty."""
    try:
        commit = _ask_git("rev-parse", "HEAD").strip()
        others = (":(exclude)streamv2v_obs/bench/results", ":(exclude)README.md")
        return {"commit": commit, "dirty": bool(_ask_git("status", "--porcelain", "--", ".", *others))}
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("not a git checkout (%s): the result cannot say what it measured", error)
        return {"commit": "unknown", "dirty": True}


def _ask_git(*words: str) -> str:
    return _ask(["git", *words])


def _ask(words: Sequence[str]) -> str:
    return subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, check=True).stdout


def _device(name: str) -> Section:
    if not name.startswith("cuda"):
        return {"name": _cpu_model()}
    import torch

    about = torch.cuda.get_device_properties(torch.device(name))
    found: Section = {
        "name": about.name,
        "sm_count": about.multi_processor_count,
        "mem_total_mib": about.total_memory // 2**20,
    }
    asked = "driver_version,power.limit"
    try:
        said = _ask(["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader,nounits"]).splitlines()[0]
        driver, limit = (part.strip() for part in said.split(","))
        found |= {"driver": driver, "power_limit_w": float(limit)}
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError) as error:
        log.warning("nvidia-smi does not tell driver and power limit: %s", error)
    return found


def _cpu_model() -> str:
    if sys.platform == "linux":  # where platform.processor() is empty
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _instructions() -> list[str]:
    import torch

    from streamv2v_obs.translator.devices import cpu_has_bfloat16

    return [torch.backends.cpu.get_cpu_capability(), *(["bfloat16"] if cpu_has_bfloat16() else [])]


def sha256_of_weights(folder: Path) -> str:
    """Of all weight files of a diffusers folder, in the order of their paths."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        found.update(path.read_bytes())
    return found.hexdigest()
