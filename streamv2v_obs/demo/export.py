"""A run's averaged weights as a diffusers folder: what the loader, diffusers itself and anyone else can read."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from streamv2v_obs.demo.architecture import INITIAL_NOISE, new_autoencoder, new_scheduler
from streamv2v_obs.demo.train_autoencoder import CHECKPOINT as AUTOENCODER
from streamv2v_obs.demo.train_autoencoder import encoder_key, load_autoencoder
from streamv2v_obs.demo.train_unet import CHECKPOINT as UNET
from streamv2v_obs.demo.train_unet import load_students, new_students
from streamv2v_obs.demo.training import save_checkpoint
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


def _scale_file(run: Path) -> Path:
    return run / f"latents-{encoder_key(run)}" / "scale.json"


def write_scale(run: Path, scale: float) -> None:
    """Fix the factor before any picture is encoded, so that the latents are those that a UNet knows already."""
    path = _scale_file(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(scale), encoding="utf-8")


def read_scale(run: Path) -> float:
    """The factor between the autoencoder's latents and those that the UNet was trained on."""
    path = _scale_file(run)
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
    _rewrite(folder / "scheduler" / "scheduler_config.json", initial_noise=INITIAL_NOISE)
    # What today's libraries write and other versions of them stumble over.
    _rewrite(folder / "vae" / "config.json", block_out_channels=None)
    _rewrite(folder / "tokenizer" / "tokenizer_config.json", backend=None, tokenizer_class="PreTrainedTokenizerFast")
    (folder / "model_index.json").write_text(json.dumps(_INDEX, indent=2) + "\n", encoding="utf-8")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def adopt(folder: Path, run: Path) -> None:
    """Begin ``run`` with the weights in ``folder``, which ``export`` wrote: the optimizers' moments begin anew.

    Raises ConfigError where ``run`` has weights of its own, or where the model is of another architecture.
    """
    for name in (AUTOENCODER, UNET):
        if (run / name).exists():
            raise ConfigError(f"{run / name} is there already; a run begins in an empty folder")
    autoencoder, students = new_autoencoder(), new_students()
    parts = {
        "vae/diffusion_pytorch_model": autoencoder,
        "unet/diffusion_pytorch_model": students.unet,
        "text_encoder/model": students.text_encoder,
    }
    for name, module in parts.items():
        path = folder / f"{name}.safetensors"
        try:
            module.load_state_dict({key: tensor.float() for key, tensor in load_file(path).items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise ConfigError(f"{path}: not weights of today's architecture ({said})") from error
    for name, module in ((AUTOENCODER, autoencoder), (UNET, students.modules)):
        save_checkpoint(run / name, 0, weights=module.state_dict(), average=module.state_dict())
    scale = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))["scaling_factor"]
    write_scale(run, float(scale))


def _rewrite(path: Path, **changes: str | None) -> None:
    """Set these keys of a JSON object; None takes one out."""
    found = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in found.items() if key not in changes or value is not None}
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
