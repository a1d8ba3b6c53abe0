"""Refuses weights that could run code, and finds damage before a library stumbles over it; knows nothing of torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from streamv2v_obs.errors import ModelLoadError

PICKLED = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle"})

_WHY = "pickled weights can run any code when opened, so they are never opened here"


def refuse_pickle(path: Path) -> None:
    """Raise ModelLoadError if ``path`` is a pickle by its name."""
    if path.suffix.lower() in PICKLED:
        raise ModelLoadError(f"{path}: {_WHY}; use the model's .safetensors file")


def check_safetensors(path: Path) -> None:
    """Raise ModelLoadError unless ``path`` is a whole safetensors file; reads its header only.

    A file of another kind that was renamed is told by its first bytes: a zip or a pickle opcode.
    """
    refuse_pickle(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)
            size = path.stat().st_size
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        with safe_open(path, framework="numpy") as tensors:
            if not list(tensors.keys()):
                raise ModelLoadError(f"{path}: holds no tensors; download it again")
    except SafetensorError as error:
        # Only now: a safetensors file begins with the length of its header, which can look like either.
        if start[:4] == b"PK\x03\x04" or (size > 1 and start[:1] == b"\x80" and start[1] in range(2, 6)):
            raise ModelLoadError(
                f"{path}: is a pickle with another name; {_WHY}; get the model's real .safetensors file"
            ) from error
        raise ModelLoadError(f"{path}: is damaged or cut off ({size} bytes: {error}); download it again") from error


def read_description(path: Path) -> dict[str, Any]:
    """A component's JSON config, refused if it asks for code of its own."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelLoadError(f"{path} is missing; the folder is no complete diffusers model") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelLoadError(f"{path}: is no readable JSON ({error}); download it again") from error
    if not isinstance(found, dict):
        raise ModelLoadError(f"{path}: should hold a JSON object, not {type(found).__name__}; download it again")
    if "auto_map" in found or "custom_pipeline" in found:
        raise ModelLoadError(
            f"{path}: asks to run code that comes with the model (auto_map), which is never done here; "
            "use a model of diffusers' own classes"
        )
    return found


def weight_variant(component: Path, stem: str, *, half: bool) -> str | None:
    """Which weights of a component folder to read: None (``stem.safetensors``) or "fp16"; all checked.

    Where both exist, ``half`` decides: the small file is as good as the large one for a 16-bit model.
    Raises ModelLoadError where there are only pickled ones or none.
    """
    for variant in ("fp16", None) if half else (None, "fp16"):
        name = f"{stem}.{variant}" if variant else stem
        index = component / f"{stem}.safetensors.index{f'.{variant}' if variant else ''}.json"
        if index.is_file():
            shards = _shards(index)
        elif (component / f"{name}.safetensors").is_file():
            shards = [f"{name}.safetensors"]
        else:
            continue
        for shard in shards:
            if Path(shard).name != shard:
                raise ModelLoadError(f"{index}: names a file outside its folder ({shard})")
            check_safetensors(component / shard)
        return variant
    if pickled := sorted(p.name for p in component.glob("*") if p.suffix.lower() in PICKLED):
        raise ModelLoadError(
            f"{component}: holds only pickled weights ({', '.join(pickled)}); {_WHY}; "
            "use a revision of the model that has .safetensors files"
        )
    raise ModelLoadError(f"{component / stem}.safetensors is missing; the folder is no complete diffusers model")


def _shards(index: Path) -> list[str]:
    """The weight files that an index names."""
    weight_map = read_description(index).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ModelLoadError(f"{index}: should name a file for each weight (weight_map); download it again")
    return sorted(set(names))


def check_folder(folder: Path) -> None:
    """Raise ModelLoadError unless ``folder`` looks like a diffusers model with whole weights that can be used."""
    index = folder / "model_index.json"
    if index.is_file():
        for part, value in read_description(index).items():
            if isinstance(value, list) and value and value[0] not in (None, "diffusers", "transformers"):
                if part in ("safety_checker", "feature_extractor", "image_encoder"):
                    continue  # never read, whatever library it is from
                raise ModelLoadError(
                    f"{index}: {part} comes with code of its own ({value[0]}), which is never run here"
                )
    if not (folder / "unet").is_dir():
        raise ModelLoadError(
            f"{folder / 'unet'} is missing; a diffusers model has the folders unet, vae, text_encoder, tokenizer and "
            "scheduler"
        )
    weight_variant(folder / "unet", "diffusion_pytorch_model", half=False)
    if (folder / "text_encoder").is_dir():
        weight_variant(folder / "text_encoder", "model", half=False)
    if (folder / "text_encoder_2").is_dir():
        raise ModelLoadError(f"{folder}: has two text encoders (SDXL); what can be used: Stable Diffusion 1.x and 2.x")


def checkpoint_family(path: Path) -> Literal["sd1", "sd2"]:
    """Which Stable Diffusion a single .safetensors file is, told from its keys. Raises ModelLoadError for others."""
    check_safetensors(path)
    with safe_open(path, framework="numpy") as file:
        keys = set(file.keys())
    if "model.diffusion_model.input_blocks.0.0.weight" not in keys:
        hint = (
            "a LoRA belongs under model.loras or model.styles"
            if any("lora" in key for key in keys)
            else ("a diffusers model is given as its folder")
        )
        raise ModelLoadError(f"{path}: is no Stable Diffusion checkpoint (no model.diffusion_model weights); {hint}")
    if any(key.startswith("conditioner.") for key in keys):
        raise ModelLoadError(f"{path}: is an SDXL checkpoint; what can be used: Stable Diffusion 1.x and 2.x")
    if any(key.startswith("cond_stage_model.transformer.") for key in keys):
        return "sd1"
    if any(key.startswith("cond_stage_model.model.") for key in keys):
        return "sd2"
    raise ModelLoadError(f"{path}: has no text encoder (cond_stage_model); use a full checkpoint, not a bare UNet")
