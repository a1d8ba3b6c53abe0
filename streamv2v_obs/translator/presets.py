"""The models that are known by name, and where their files lie; knows nothing of torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

MODELS_VARIABLE = "STREAMV2V_MODELS"
"""Environment variable that names another folder for downloaded models (another disk, say)."""

LOCK_NAME = "streamv2v-lock.json"
"""In a preset's folder: the commit and the sha256 of every file that was verified."""


@dataclass(frozen=True)
class RepositoryFile:
    """One file of a repository. ``sha256`` is given for weights; small files are checked by their git hash."""

    path: str
    sha256: str | None = None


@dataclass(frozen=True)
class Repository:
    """What is taken of one repository of the hub, at one commit, into one subfolder of the preset's folder."""

    name: str
    revision: str
    into: str
    files: tuple[RepositoryFile, ...]


@dataclass(frozen=True)
class Preset:
    """A model known by name. ``base`` is a diffusers folder inside the preset's folder."""

    name: str
    note: str
    licence: str
    repositories: tuple[Repository, ...]
    base: str = "base"
    tiny_autoencoder: str = "taesd"
    loras: tuple[str, ...] = ()


def _files(*paths: str, **weights: str) -> tuple[RepositoryFile, ...]:
    named = {"unet": "unet/diffusion_pytorch_model.fp16", "vae": "vae/diffusion_pytorch_model.fp16"}
    named |= {"text_encoder": "text_encoder/model.fp16"}
    return (
        *(RepositoryFile(path) for path in paths),
        *(RepositoryFile(f"{named[part]}.safetensors", sha256) for part, sha256 in weights.items()),
    )


_DESCRIPTIONS = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "vae/config.json",
)

# Revisions and hashes were not computed here (the weights were never on the machine this was written on): each stands
# in several independent public repositories that pin these same files. A download is checked against them and
# against what the hub declares for that commit; if they disagree it is refused.
_TAESD = Repository(
    "madebyollin/taesd",
    "614f76814bbe30edbe2e627ace1c2234c81a2c0e",
    "taesd",
    (
        RepositoryFile("config.json"),
        RepositoryFile(
            "diffusion_pytorch_model.safetensors", "db169d69145ec4ff064e49d99c95fa05d3eb04ee453de35824a6d0f325513549"
        ),
    ),
)

SD15_LCM = Preset(
    name="sd15-lcm",
    note="Stable Diffusion 1.5 + LCM-LoRA + TAESD, 512x512, 1 to 8 steps; 2.3 GB, wants a GPU with 6 GB",
    licence="CreativeML Open RAIL-M (SD 1.5), Open RAIL++-M (LCM-LoRA), MIT (TAESD)",
    loras=("lcm-lora/pytorch_lora_weights.safetensors",),
    repositories=(
        Repository(
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
            "base",
            _files(
                *_DESCRIPTIONS,
                unet="c83908253f9a64d08c25fc90874c9c8aef9a329ce1ca5fb909d73b0c83d1ea21",
                vae="4fbcf0ebe55a0984f5a5e00d8c4521d52359af7229bb4d81890039d2aa16dd7c",
                text_encoder="77795e2023adcf39bc29a884661950380bd093cf0750a966d473d1718dc9ef4e",
            ),
        ),
        Repository(
            "latent-consistency/lcm-lora-sdv1-5",
            "cf2fced511dbe7e26c8d1d397e728fbab875db4b",
            "lcm-lora",
            (
                RepositoryFile(
                    "pytorch_lora_weights.safetensors",
                    "8f90d840e075ff588a58e22c6586e2ae9a6f7922996ee6649a7f01072333afe4",
                ),
            ),
        ),
        _TAESD,
    ),
)

SD_TURBO = Preset(
    name="sd-turbo",
    note="SD-Turbo + TAESD, 512x512, made for 1 step; 2.6 GB, wants a GPU with 6 GB",
    licence="Stability AI Community License (SD-Turbo: read it before commercial use), MIT (TAESD)",
    repositories=(
        Repository(
            "stabilityai/sd-turbo",
            "b261bac6fd2cf515557d5d0707481eafa0485ec2",
            "base",
            # The UNet's and text encoder's hashes stand in two independent places, the others in many.
            _files(
                *_DESCRIPTIONS,
                unet="40ec400881e27d1376c7c95c5bd495f407b33756e80eb6365e301c33a07af6e5",
                vae="3e4c08995484ee61270175e9e7a072b66a6e4eeb5f0c266667fe1f45b90daf9a",
                text_encoder="bc1827c465450322616f06dea41596eac7d493f4e95904dcb51f0fc745c4e13f",
            ),
        ),
        _TAESD,
    ),
)

DEMO = Preset(
    name="demo",
    note="embedded, 256x256, runs on a CPU; soft, knows twelve styles",
    licence="MIT",
    repositories=(),
    base="",
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (SD15_LCM, SD_TURBO, DEMO)}


@dataclass(frozen=True)
class ModelInfo:
    """A line of ``models``: what there is, and how to get what is missing (empty where nothing is)."""

    name: str
    kind: str
    present: bool
    folder: Path
    download_command: str
    licence: str
    note: str


def models_folder() -> Path:
    """Where downloaded presets lie, a folder each; STREAMV2V_MODELS names another one."""
    chosen = os.environ.get(MODELS_VARIABLE)
    return Path(chosen).expanduser() if chosen else user_data_path("streamv2v-obs", appauthor=False) / "models"


def demo_folder() -> Path:
    """The embedded model, a diffusers folder inside the package."""
    return Path(__file__).resolve().parent.parent / "demo" / "weights"


def preset_folder(preset: Preset) -> Path:
    """Where this preset's files lie or will lie."""
    return demo_folder() if preset is DEMO else models_folder() / preset.name


def download_command(preset: Preset) -> str:
    """What a user types to get the files; empty for the embedded model."""
    return f"streamv2v-obs download {preset.name}" if preset.repositories else ""


def missing_files(preset: Preset, folder: Path) -> list[Path]:
    """The files of ``preset`` that are not in ``folder``."""
    if preset is DEMO:
        return [path for path in (folder / "model_index.json",) if not path.is_file()]
    wanted = (folder / repository.into / file.path for repository in preset.repositories for file in repository.files)
    return [path for path in wanted if not path.is_file()]


def list_models() -> list[ModelInfo]:
    """All presets, with what is missing and the command that fetches it."""
    return [
        ModelInfo(
            name=preset.name,
            kind="downloaded" if preset.repositories else "embedded",
            present=not missing_files(preset, preset_folder(preset)),
            folder=preset_folder(preset),
            download_command=download_command(preset),
            licence=preset.licence,
            note=preset.note,
        )
        for preset in PRESETS.values()
    ]
