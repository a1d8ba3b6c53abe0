"""The arms of an evaluation: one way each of remembering, run over the latents of one clip."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from streamv2v_obs.eval.attention import AttentionMeter
from streamv2v_obs.settings import TranslatorSettings
from streamv2v_obs.translator.bank import FeaturesSnapshot
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.loading import Model
from streamv2v_obs.translator.motion import Motion
from streamv2v_obs.translator.stream_batch import Departed, Origin

_NEVER = 1000
"""An update interval longer than any clip: what the bank holds is put there by the control."""


@dataclass(frozen=True)
class Arm:
    """``changes`` of the settings' sections; a control says whose features the bank holds in place of past frames'."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    control: Literal["foreign", "own"] | None = None

    def settings(self, base: TranslatorSettings, prompt: str, seed: int) -> TranslatorSettings:
        """``base`` with this arm's changes, section by section."""
        found = base.model_dump()
        for key, value in self.changes.items():
            found[key] = found[key] | value if isinstance(value, dict) else value
        return TranslatorSettings.model_validate(found | {"prompt": prompt, "seed": seed})


def _bank(kind: str, **more: Any) -> dict[str, Any]:
    # Ours by default; the paper's halves are random.
    return {"bank": {"kind": kind, "partition": "random", **more}}


ARMS = (
    Arm("off", _bank("off")),
    Arm("ff", _bank("dyme", attend=False)),
    Arm("ea", _bank("dyme") | {"fusion": {"strength": 0.0}}),
    Arm("dyme", _bank("dyme")),
    Arm("queue 1", _bank("queue", length=1)),
    Arm("queue 2", _bank("queue", length=2)),
    Arm("queue 4", _bank("queue", length=4)),
    Arm("foreign", _bank("dyme", interval=_NEVER), "foreign"),
    Arm("own", _bank("dyme", interval=_NEVER), "own"),
)
"""``dyme`` is the method as published: extended attention, fusion and dynamic merging.

All begin with the noise that the model was trained with."""

_EVERYWHERE = {"fusion": {"layers": "all"}}
APPENDIX = (
    Arm("ff everywhere", _bank("dyme", attend=False) | _EVERYWHERE),
    Arm("dyme, ff everywhere", _bank("dyme") | _EVERYWHERE),
    *(Arm(f"{kind}, steps {steps}", _bank(kind) | {"steps": steps}) for steps in (1, 4) for kind in ("off", "dyme")),
)
"""What the paper's appendix compares beside these: where fusion sits (A.3), and the number of steps (A.4)."""

CARRIED = {"carry": 0.06, "anchor": 0.09}
"""What of ``translator.carry`` and ``translator.anchor`` is held against the method as published."""

BEYOND = (
    Arm("dyme by age", _bank("dyme", partition="by_age")),
    Arm("carried", _bank("dyme", partition="by_age") | CARRIED),
)
"""What is ours."""

NOISE = tuple(Arm(f"{name}, white noise", _bank(name) | {"noise": "white"}) for name in ("off", "dyme"))
"""As published, whatever noise the model was trained with."""

SETS = {
    "all": tuple(arm.name for arm in (*ARMS, *BEYOND)),
    "table2": ("off", "queue 1", "queue 2", "queue 4", "dyme"),
    "figure8": ("off", "ff", "ea", "dyme"),
    "positions": ("off", "ff", "ff everywhere", "dyme", "dyme, ff everywhere"),
    "steps": ("off", "dyme", *(arm.name for arm in APPENDIX if "steps" in arm.changes)),
    "controls": ("off", "dyme", "foreign", "own"),
    "bank": ("off", "dyme", "dyme by age"),
    "beyond": ("off", "dyme", *(arm.name for arm in BEYOND)),
    "noise": ("off", "dyme", *(arm.name for arm in NOISE)),
}
"""Names for what the paper shows in one table."""


@dataclass
class Run:
    """What an arm made of a clip: clean latents (1, C, h, w), one for each frame that went in, in that order."""

    latents: list[Tensor]
    memories: list[FeaturesSnapshot]
    """The bank after each frame, where it was asked for."""
    ms: float
    """Mean time of a frame, encoding and decoding not included."""
    bank_mib: float


def carries(settings: TranslatorSettings) -> bool:
    """Whether motion is asked for."""
    return settings.carry > 0 or settings.anchor > 0


@torch.inference_mode()
def run_arm(
    model: Model,
    arm: Arm,
    settings: TranslatorSettings,
    latents: Sequence[Tensor],
    motions: Sequence[Motion] = (),
    *,
    foreign: Sequence[FeaturesSnapshot] = (),
    remember: bool = False,
    meter: AttentionMeter | None = None,
) -> Run:
    """Run ``latents`` (each (1, C, h, w)) through the translator's core; the delay of the stream batch is taken out.

    ``motions`` lead from one to the next, for arms that carry pictures on. ``meter`` watches, which takes its time.
    A ``foreign`` control sees another clip's bank as it stood at the same time; an ``own`` one sees the features
    that the very same call would compute, which by equations 1 and 2 changes nothing.
    """
    _, *shape = latents[0].shape
    core = LatentTranslator(
        model.unet,
        model.acp,
        model.prediction_type,
        settings,
        (shape[0], shape[1], shape[2]),
        model.device,
        model.dtype,
        initial_noise=model.initial_noise,
    )
    try:
        if meter is not None:
            meter.attach(core.extension)
        prompt = model.text.encode(settings.prompt)
        departed: list[Departed] = []
        memories: list[FeaturesSnapshot] = []
        _wait(model)
        began_at = time.perf_counter()
        for number, latent in enumerate(latents):
            origin = Origin(float(number), number)
            if arm.control == "foreign" and number > 0:
                _bank_of(core).restore(foreign[number - 1])
            if arm.control == "own":
                _remember_own(core, latent, prompt, origin)
            motion = motions[number] if motions and carries(settings) else None
            departed.append(core.step(latent, prompt, origin, motion))
            core.settle()
            if remember:
                memories.append(_bank_of(core).snapshot())
        if arm.control == "own":
            # A flush sends the last frame in again; so does this, and fills the bank before each call.
            for number in range(len(latents), len(latents) + core.rows.waiting):
                _remember_own(core, latents[-1], prompt, Origin(float(number), number))
                departed.append(core.step(latents[-1], prompt, Origin(float(number), number)))
        else:
            departed += core.flush()
        _wait(model)
        took_s = time.perf_counter() - began_at
        bank = core.bank
        mib = 0.0 if bank is None else bank.bytes / 2**20
    finally:
        core.close()
    kept = [
        one.latent
        for one in departed
        if one.origin is not None and not one.origin.copy and one.origin.index < len(latents)
    ]
    if len(kept) != len(latents):
        raise RuntimeError(f"{len(latents)} frames went in and {len(kept)} came out")
    return Run(kept, memories, 1000 * took_s / len(latents), mib)


def _wait(model: Model) -> None:
    if model.device.type == "cuda":  # whose work is only handed in when a call returns
        torch.cuda.synchronize(model.device)


def _bank_of(core: LatentTranslator) -> Any:
    if core.bank is None:
        raise ValueError("a control needs a bank")
    return core.bank


def _remember_own(core: LatentTranslator, latent: Tensor, prompt: Tensor, origin: Origin) -> None:
    """Fill the bank with the features of the call that comes next, and leave the rows as they were before it."""
    bank = _bank_of(core)
    bank.clear()
    before = core.rows.snapshot()
    core.step(latent, prompt, origin)
    bank = _bank_of(core)
    bank.clear()
    bank.update()
    core.rows.restore(before)
