"""A Stable Diffusion checkpoint in one .safetensors file, in its authors' layout."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import LCMScheduler

from streamv2v_obs.translator.components import (
    Components,
    all_read,
    check_fit,
    check_unet,
    read_autoencoder,
    read_schedule,
    read_tokenizer,
    reading,
)


def read_single_file(path: Path, config: Path, dtype: torch.dtype, autoencoder: Path | None) -> Components:
    """An SD-layout checkpoint; ``config`` is a diffusers folder of the same architecture, for all but the weights."""
    # Here, not above: it imports a hundred modules, and only a single file needs it.
    from diffusers import StableDiffusionPipeline

    tokenizer = read_tokenizer(config / "tokenizer")
    acp, prediction_type, initial_noise = read_schedule(config / "scheduler" / "scheduler_config.json")
    with reading("checkpoint", path):
        # Everything that is passed as None or as an object is not looked for in the file.
        pipeline = StableDiffusionPipeline.from_single_file(
            str(path),
            config=str(config),
            torch_dtype=dtype,
            local_files_only=True,
            tokenizer=tokenizer,
            scheduler=LCMScheduler(steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
        )
    parts = Components(
        unet=pipeline.unet,
        text_encoder=pipeline.text_encoder,
        tokenizer=tokenizer,
        autoencoder=read_autoencoder(autoencoder, dtype) if autoencoder else pipeline.vae,
        acp=acp,
        prediction_type=prediction_type,
        initial_noise=initial_noise,
    )
    for what, module in (("UNet", parts.unet), ("text encoder", parts.text_encoder), ("VAE", parts.autoencoder)):
        # What the file lacks stays without storage, and nothing else says so.
        all_read(what, path, {"missing_keys": [name for name, p in module.named_parameters() if p.is_meta]})
    check_unet(parts.unet, path)
    check_fit(parts, path, autoencoder or path)
    return parts
