"""Runs published conformance cases through the translator core and compares every number: ``-m`` with FOLDER...

A case folder holds ``case.json`` (settings) and ``case.npz`` (arrays), and the UNet lies in it or in its parent:
``config.json`` and ``unet.safetensors``. Exit 0: all within 1e-4; 1: not; 2: a folder that cannot be run.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from diffusers import UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from streamv2v_obs.errors import ConfigError, ModelLoadError
from streamv2v_obs.settings import BankSettings, FusionSettings, TranslatorSettings
from streamv2v_obs.translator.fusion import cosine
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.lcm import LCM_STEPS
from streamv2v_obs.translator.unet_call import CallTrace

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
Arrays = Mapping[str, npt.NDArray[Any]]


class Case(BaseModel):
    """``case.json``: the settings of one run. Keys that say nothing of what is computed are let pass."""

    model_config = ConfigDict(frozen=True)

    t_index: tuple[int, ...] = Field(min_length=1, description="indices into LCM's timesteps 999, 979, .., 19")
    calls: int | None = Field(None, ge=1, description="none: one for each latent")
    layers: tuple[str, ...] = ()
    mode: Literal["bank", "off"] = "bank"
    interval: int = Field(4, ge=1)
    queue: bool = False
    maxframes: int = Field(1, ge=1)
    no_ff: bool = False
    ff_strength: float = 0.8
    ff_threshold: float = 0.98
    steps: int | None = None

    def settings(self) -> TranslatorSettings:
        """The same, in our words; what a user may not set is set nevertheless."""
        bank = BankSettings.model_construct(
            kind="off" if self.mode == "off" else "queue" if self.queue else "dyme",
            interval=self.interval,
            length=self.maxframes,
            scenes=1,
        )
        fusion = FusionSettings.model_construct(
            strength=0.0 if self.no_ff else self.ff_strength, threshold=self.ff_threshold, site="attention"
        )
        return TranslatorSettings.model_construct(
            prompt="", strength=0.4, steps=len(self.t_index), schedule="stream", seed=0, attention="sdpa",
            bank=bank, fusion=fusion,
        )  # fmt: skip


def read_case(folder: Path) -> tuple[Case, Arrays, UNet2DConditionModel]:
    """The case in ``folder`` and its UNet. Raises ConfigError that says what is missing or wrong."""
    for name in ("case.json", "case.npz"):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder}: no {name} there; a case folder holds case.json and case.npz")
    try:
        case = Case.model_validate_json((folder / "case.json").read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"{folder / 'case.json'}: {key}: {first['msg']}") from error
    if case.steps not in (None, len(case.t_index)):
        raise ConfigError(
            f"{folder / 'case.json'}: steps is {case.steps}, but t_index has {len(case.t_index)} entries"
        )
    if not all(0 <= i < LCM_STEPS for i in case.t_index):
        raise ConfigError(f"{folder / 'case.json'}: t_index {case.t_index}: allowed are 0..{LCM_STEPS - 1}")
    try:
        with (folder / "case.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{folder / 'case.npz'}: cannot be read: {error}") from error
    unet = _read_unet(folder)
    inputs = {"latents": unet.config.in_channels, "noise": unet.config.in_channels, "prompt_embeds": None}
    for name, channels in inputs.items():
        if name not in arrays:
            raise ConfigError(f"{folder / 'case.npz'}: array {name} is missing")
        shape = arrays[name].shape
        width = unet.config.cross_attention_dim if channels is None else None
        if len(shape) != (4 if channels else 3) or channels not in (None, shape[1]) or width not in (None, shape[-1]):
            raise ConfigError(f"{folder / 'case.npz'}: {name} of shape {shape} does not fit the UNet")
    if len(arrays["latents"]) < (case.calls or 1):
        raise ConfigError(f"{folder / 'case.npz'}: {len(arrays['latents'])} latents for {case.calls or 1} calls")
    return case, arrays, unet


def _read_unet(folder: Path) -> UNet2DConditionModel:
    places = [place for place in (folder, folder.resolve().parent) if (place / "unet.safetensors").is_file()]
    if not places:
        raise ConfigError(f"{folder}: no unet.safetensors there or in the folder above it")
    config = next(
        (p / "config.json" for p in (folder, folder.resolve().parent) if (p / "config.json").is_file()), None
    )
    if config is None:
        raise ConfigError(f"{folder}: no config.json of the UNet there or in the folder above it")
    try:
        tree = json.loads(config.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("it is no JSON object")
        unet = UNet2DConditionModel.from_config(tree)
        unet.load_state_dict(load_file(places[0] / "unet.safetensors"))
    except (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"{places[0] / 'unet.safetensors'}: does not fit {config}: {reason}") from error
    return unet.eval().requires_grad_(False)


def stable_diffusion_acp() -> Tensor:
    """The cumulative alphas of Stable Diffusion 1.x (scaled-linear betas 0.00085 .. 0.012), float32 (1000,)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return torch.cumprod(1 - betas, dim=0)


class _Comparison:
    """The largest error of each kind of array."""

    def __init__(self, arrays: Arrays) -> None:
        self.expected = arrays
        self.errors: dict[str, float] = {}
        self.compared: set[str] = set()

    def check(self, name: str, kind: str, actual: Tensor, call: int | None = None) -> None:
        """Compare with array ``name``, or with its part of one call, if the case has it."""
        stored = self.expected.get(name)
        if stored is None or (call is not None and stored.ndim and call >= len(stored)):
            return
        expected = torch.from_numpy(stored if call is None or not stored.ndim else stored[call])
        if expected.shape != actual.shape:
            log.warning("array %s is %s, and %s was computed", name, tuple(expected.shape), tuple(actual.shape))
            self.note(name, kind, math.inf)
            return
        difference = (expected.double() - actual.double()).abs()
        self.note(name, kind, difference.max().item())

    def note(self, name: str, kind: str, error: float) -> None:
        self.compared.add(name)
        # nan is above any tolerance, and max() would lose it.
        self.errors[kind] = max(self.errors.get(kind, 0.0), math.inf if math.isnan(error) else error)


def run_case(folder: Path) -> dict[str, float]:
    """The largest absolute error of each kind of array in ``folder``'s case, run freely in float32 on the CPU.

    For ``ff_idx`` it is how much less similar the expected token is than the one found: equal tokens are equal.
    Arrays that nothing here computes are named in a warning. Raises ConfigError for a folder that is not a case.
    """
    case, arrays, unet = read_case(folder)
    comparison = _Comparison(arrays)
    seen: dict[tuple[int, str], Tensor] = {}
    traces: list[CallTrace] = []
    translator = LatentTranslator(
        unet,
        stable_diffusion_acp(),
        "epsilon",
        case.settings(),
        tuple(arrays["latents"].shape[1:]),
        torch.device("cpu"),
        torch.float32,
        indices=case.t_index,
        observer=lambda layer, what, tensor: seen.update({(layer, what): tensor.clone()}),
        trace=traces.append,
        keep_all_outputs=True,
    )
    names = tuple(layer.name for layer in translator.layers)
    if case.layers and case.layers != names:
        raise ConfigError(f"{folder / 'case.json'}: layers differ from the UNet's: {', '.join(names)}")
    rows = translator.rows
    expected_noise = torch.from_numpy(arrays["noise"])
    prompts = torch.from_numpy(arrays["prompt_embeds"])
    if expected_noise.shape != rows.noise.shape or prompts.shape[0] != translator.steps:
        raise ConfigError(f"{folder / 'case.npz'}: noise or prompt_embeds do not have {translator.steps} rows")
    for name in ("timesteps", "alpha", "beta", "c_skip", "c_out"):
        comparison.check(name, name, getattr(rows.constants, name).flatten())
    with torch.inference_mode():
        rows.noise.copy_(expected_noise)
        rows.start_from_zeros(prompts)
    comparison.compared.update({"latents", "noise", "prompt_embeds"})

    remembered: list[tuple[Tensor, ...]] = []
    calls = case.calls or len(arrays["latents"])
    for call in range(calls):
        seen.clear()
        traces.clear()
        translator.step(torch.from_numpy(arrays["latents"][call : call + 1]), prompts)
        (trace,) = traces
        comparison.check("x_t_new", "x_t_new", trace.unet_in[0], call)
        comparison.check("unet_in", "unet_in", trace.unet_in, call)
        comparison.check("model_pred", "model_pred", trace.prediction, call)
        comparison.check("x0_batch", "x0_batch", trace.x0, call)
        for (layer, what), tensor in seen.items():
            name = f"layer/{call:03d}/{layer:02d}/{what}"
            fitting = name in arrays and arrays[name].shape == tensor.shape
            if what == "ff_idx" and fitting:
                similarity = cosine(seen[layer, "attn1_unfused"], remembered[layer][2])
                expected = torch.from_numpy(arrays[name].astype(np.int64)).unsqueeze(-1)
                if expected.min() < 0 or expected.max() >= similarity.shape[-1]:
                    comparison.note(name, what, math.inf)
                    continue
                loss = seen[layer, "ff_maxcos"] - similarity.gather(-1, expected).squeeze(-1)
                comparison.note(name, what, loss.abs().max().item())
            else:
                comparison.check(name, what, tensor)
        if call == calls - 1 and not any(name.startswith(f"perm/{call:03d}/") or "/bank_" in name for name in arrays):
            break  # what the last call would store is neither used nor compared
        translator.settle(_partitions(folder, arrays, call, translator))
        bank = translator.bank
        if bank is not None:
            remembered = [tuple(part.clone() for part in bank.remembered(n)) for n in range(len(names))]
            for layer, parts in enumerate(remembered):
                for what, part in zip(("bank_key", "bank_value", "bank_output"), parts, strict=True):
                    comparison.check(f"layer/{call:03d}/{layer:02d}/{what}", what, part)
    translator.close()
    left = sorted(name for name in set(arrays) - comparison.compared if not name.startswith("perm/"))
    if left:
        log.warning("%s: not compared, since nothing here computes them: %s", folder / "case.npz", ", ".join(left))
    if not comparison.errors:
        raise ConfigError(f"{folder / 'case.npz'}: holds nothing to compare with, such as x0_batch")
    return comparison.errors


def _partitions(folder: Path, arrays: Arrays, call: int, translator: LatentTranslator) -> list[Tensor] | None:
    """The case's own partitions for the merge after ``call``; None where nothing is merged."""
    if not translator.merge_due:
        return None
    partitions = []
    for number, layer in enumerate(translator.layers):
        name = f"perm/{call:03d}/{number:02d}"
        if name not in arrays:
            raise ConfigError(f"{folder / 'case.npz'}: the bank merges after call {call}, but {name} is missing")
        partition = torch.from_numpy(arrays[name].astype(np.int64))
        whole = torch.arange(2 * layer.tokens).expand(translator.steps, -1)
        if partition.shape != whole.shape or not torch.equal(partition.sort(-1).values, whole):
            raise ConfigError(f"{folder / 'case.npz'}: {name} is no permutation of {2 * layer.tokens} tokens per row")
        partitions.append(partition)
    return partitions


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the folders of the command line, print each array's largest error, and give the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m streamv2v_obs.translator.conformance",
        description="Compare the translator core with published conformance vectors, in float32 on the CPU.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="holds case.json and case.npz")
    folders: Iterable[Path] = parser.parse_args(arguments).folders
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    code = 0
    for folder in folders:
        try:
            errors = run_case(folder)
        except (ConfigError, ModelLoadError) as error:
            print(f"{folder}: {error}" if str(folder) not in str(error) else error, file=sys.stderr)
            code = ConfigError.exit_code
            continue
        print(f"{folder}")
        for kind, worst in errors.items():
            print(f"  {kind:<12} {worst:9.2e}{'' if worst <= TOLERANCE else f'  above {TOLERANCE:g}'}")
        if not all(worst <= TOLERANCE for worst in errors.values()):
            code = max(code, 1)
    return code


if __name__ == "__main__":
    sys.exit(main())
