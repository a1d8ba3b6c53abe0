"""What the feature bank costs by arithmetic: SD 1.5's floating point operations, counted and not computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from streamv2v_obs.bench import results, shapes
from streamv2v_obs.bench.models import sd15_unet, taesd
from streamv2v_obs.bench.shapes import META, Launches
from streamv2v_obs.bench.subject import Say
from streamv2v_obs.settings import BankSettings, FusionSettings, TranslatorSettings
from streamv2v_obs.translator.conformance import stable_diffusion_acp
from streamv2v_obs.translator.latent import LatentTranslator


def counted(work: Callable[[], object]) -> tuple[float, int]:
    """GFLOP (a multiplication and an addition are two) and operations of ``work``."""
    with FlopCounterMode(display=False) as flops:
        work()
    launches = Launches()
    with launches:
        work()
    return flops.get_total_flops() / 1e9, launches.count


def _core(unet: Any, steps: int, size: int, bank: str, *, fuses: bool = True) -> LatentTranslator:
    settings = TranslatorSettings(
        steps=steps,
        schedule="stream" if steps > 1 else "auto",
        bank=BankSettings.model_validate({"kind": bank}),
        fusion=FusionSettings() if fuses else FusionSettings(strength=0),
    )
    shape = (int(unet.config.in_channels), size // 8, size // 8)
    return LatentTranslator(unet, stable_diffusion_acp(), "epsilon", settings, shape, META, torch.float16)


def count_arm(unet: Any, steps: int, size: int, bank: str, *, fuses: bool = True) -> results.Section:
    """Of a frame: GFLOP and operations of its UNet call, and of an update of the bank, which comes every 4th frame."""
    core = _core(unet, steps, size, bank, fuses=fuses)
    latent = torch.zeros((1, int(unet.config.in_channels), size // 8, size // 8), device=META)
    prompt = torch.zeros((1, 77, int(unet.config.cross_attention_dim)), device=META)
    try:
        core.step(latent, prompt)
        core.settle()  # the first store: from here on there is something to attend to
        frame, operations = counted(lambda: core.step(latent, prompt))
        update, update_operations = 0.0, 0
        if core.bank is not None:
            while not core.merge_due:
                core.step(latent, prompt)
            with FlopCounterMode(display=False) as flops:
                core.settle()
            update = flops.get_total_flops() / 1e9
            while not core.merge_due:
                core.step(latent, prompt)
            launches = Launches()
            with launches:
                core.settle()
            update_operations = launches.count
    finally:
        core.close()
    return {
        "frame_gflop": round(frame, 2),
        "update_gflop": round(update, 2),
        "gflop_per_frame": round(frame + update / core.settings.bank.interval, 2),
        "operations": operations,
        "update_operations": update_operations,
    }


def measure(steps: int, size: int, out: Path, say: Say, unet: Any = None) -> Path:
    """Write ``out``/flops_sd15_sS.json; ``unet`` (on the meta device) stands in for Stable Diffusion's."""
    load_before = results.load_now()
    with META:
        unet = unet or sd15_unet().half().eval()
        coder = taesd().half().eval()
    unet.requires_grad_(False)
    coder.requires_grad_(False)
    arms = {
        "off": count_arm(unet, steps, size, "off"),
        "ea": count_arm(unet, steps, size, "dyme", fuses=False),
        "dyme": count_arm(unet, steps, size, "dyme"),
    }

    def through_the_autoencoder() -> None:
        picture = torch.zeros((1, 3, size, size), device=META, dtype=torch.float16)
        coder.decode(coder.encode(picture).latents)

    with torch.no_grad():
        pixels, _ = counted(through_the_autoencoder)
    off, on = (arms[name]["gflop_per_frame"] for name in ("off", "dyme"))
    with_pixels = (on + pixels) / (off + pixels)
    for name, arm in arms.items():
        say(f"{name}: {arm['gflop_per_frame']} GFLOP and {arm['operations']} operations a frame")
    say(f"bank on / off: {with_pixels:.4f} of the whole way, {on / off:.4f} of the UNet alone")
    path = out / f"flops_sd15_s{steps}.json"
    return shapes.write(
        path,
        steps=steps,
        size=size,
        tensors="on torch's meta device",
        found={
            "roofline": {"gflop_per_frame": round(on + pixels, 2)},
            "bank_overhead": {"ratio_flops": round(with_pixels, 4), "ratio_flops_unet": round(on / off, 4)},
            "arms": arms,
            "encode_decode_gflop": round(pixels, 2),
        },
        notes="Nothing was timed: operations counted by torch's FlopCounterMode, two for a multiplication and an "
        "addition. An update of the bank counts a quarter, as it comes every 4th frame. operations: what eager mode "
        "launches for the UNet call and the stream batch, views not counted.",
        load_before=load_before,
        includes=("encode", "unet", "bank-update", "decode"),
    )
