"""A run's averaged weights as a diffusers folder: what the loader, diffusers itself and anyone else can read."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from streamv2v_obs.demo.architecture import new_scheduler
from streamv2v_obs.demo.train_autoencoder import encoder_key, load_autoencoder
from streamv2v_obs.demo.train_unet import load_students
from streamv2v_obs.errors import ConfigError

_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "LCMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}


def read_scale(run: Path) -> float:
    """The factor between the autoencoder's latents and those that the UNet was trained on."""
    path = run / f"latents-{encoder_key(run)}" / "scale.json"
    if not path.is_file():
        raise ConfigError(
            f"{path} is missing: the UNet of this run was not trained on this autoencoder; "
            "run: python -m streamv2v_obs.demo unet"
        )
    return float(json.loads(path.read_text(encoding="utf-8")))


def export(run: Path, folder: Path) -> int:
    """Write unet, vae, text_encoder, tokenizer, scheduler and model_index.json in float16; gives the size in bytes."""
    autoencoder = load_autoencoder(run)
    autoencoder.register_to_config(scaling_factor=read_scale(run), shift_factor=0.0)
    students = load_students(run)
    autoencoder.to(torch.float16).save_pretrained(folder / "vae")
    students.unet.to(torch.float16).save_pretrained(folder / "unet")
    students.text_encoder.to(torch.float16).save_pretrained(folder / "text_encoder")
    students.tokenizer.save_pretrained(folder / "tokenizer")
    new_scheduler().save_pretrained(folder / "scheduler")
    # What today's libraries write and other versions of them stumble over.
    _rewrite(folder / "vae" / "config.json", block_out_channels=None)
    _rewrite(folder / "tokenizer" / "tokenizer_config.json", backend=None, tokenizer_class="PreTrainedTokenizerFast")
    (folder / "model_index.json").write_text(json.dumps(_INDEX, indent=2) + "\n", encoding="utf-8")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _rewrite(path: Path, **changes: str | None) -> None:
    """Set these keys of a JSON object; None takes one out."""
    found = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in found.items() if key not in changes or value is not None}
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
