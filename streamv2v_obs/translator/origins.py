"""Where the files of a named model lie on this machine; fetches those of a repository; knows nothing of torch."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamv2v_obs.errors import ModelLoadError
from streamv2v_obs.settings import Lora
from streamv2v_obs.translator import download, presets, verification
from streamv2v_obs.translator.safe_weights import check_folder, checkpoint_family, read_description, refuse_pickle

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where a model's parts lie on this machine. ``path`` is a folder, or a checkpoint with its ``config`` folder."""

    name: str
    path: Path
    config: Path | None = None
    tiny_autoencoder: Path | None = None
    loras: tuple[Path, ...] = ()


_REPOSITORY = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^@\s]+))?")


def check_name(name: str) -> None:
    """Raise ModelLoadError if ``name`` cannot be read, as far as its files tell.

    Costs milliseconds and needs neither torch, whose import takes seconds, nor the network.
    """
    if name == "auto":
        return
    if name in presets.PRESETS:
        _check_complete(presets.PRESETS[name])
        return
    path = Path(name).expanduser()
    if path.is_dir():
        check_folder(path)
        return
    refuse_pickle(path)
    if path.suffix.lower() == ".safetensors":
        if not path.is_file():
            raise ModelLoadError(f"{path} does not exist; model.name takes the path of a .safetensors file")
        _config_folder(path)
    elif not _REPOSITORY.fullmatch(name):
        raise ModelLoadError(
            f"model.name {name!r} is not known; allowed: auto, {', '.join(presets.PRESETS)}, an existing diffusers "
            "folder, a .safetensors file, or a repository as owner/name@commit"
        )


def find(name: str, device: torch.device, progress: Callable[[str], None]) -> Origin:
    """Where the files of ``name`` lie: auto, a preset, a folder, a .safetensors file, or owner/name@commit."""
    if name == "auto":
        name = _choose(device)
    check_name(name)
    if name in presets.PRESETS:
        return _preset(presets.PRESETS[name])
    path = Path(name).expanduser()
    if path.is_dir():
        return Origin(path.name, path)
    if path.suffix.lower() == ".safetensors":
        if checkpoint_family(path) == "sd2":
            log.warning("%s is taken for an epsilon model; a 768-v one has to be given as a diffusers folder", path)
        return Origin(path.stem, path, config=_config_folder(path))
    repository, _, revision = name.partition("@")
    return Origin(name, download.fetch_repository(repository, revision or None, progress))


LEAST_GIB = 3.5
"""A card of 4 GB, as it reports itself; what fits there: ``streamv2v-obs bench memory``."""
ROOMY_GIB = 5.5
SMALLER = "set model.width and model.height to 384, translator.steps to 1 or 2"


def _memory_gib(device: torch.device) -> float:
    """Of the whole card; 0 without one."""
    if device.type != "cuda":
        return 0.0
    import torch

    return float(torch.cuda.get_device_properties(device).total_memory) / 2**30


def _choose(device: torch.device) -> str:
    best = presets.SD15_LCM
    missing = presets.missing_files(best, presets.preset_folder(best))
    memory_gib = _memory_gib(device)
    if device.type == "cuda" and not missing and memory_gib < LEAST_GIB:
        log.warning(
            "MODEL AUTO: THE SMALL EMBEDDED DEMO IS USED, because the GPU has %.1f GiB, and %s needs %g",
            *(memory_gib, best.name, LEAST_GIB),
        )
        return presets.DEMO.name
    if device.type == "cuda" and not missing:
        if memory_gib < ROOMY_GIB:
            log.warning("the GPU has %.1f GiB; if it runs out: %s", memory_gib, SMALLER)
        log.info("model auto: %s, because its files are here and there is a GPU", best.name)
        return best.name
    if device.type == "cuda":
        log.warning(
            "MODEL AUTO: THE SMALL EMBEDDED DEMO IS USED, because the files of %s are not in %s; to get them: %s",
            best.name,
            presets.preset_folder(best),
            presets.download_command(best),
        )
    else:
        log.warning("MODEL AUTO: THE SMALL EMBEDDED DEMO IS USED, because there is no CUDA device for %s", best.name)
    return presets.DEMO.name


def _check_complete(preset: presets.Preset) -> None:
    if missing := presets.missing_files(preset, presets.preset_folder(preset)):
        if preset is presets.DEMO:
            raise ModelLoadError(f"{missing[0]} is missing; the package is damaged: install it again")
        raise ModelLoadError(
            f"model {preset.name}: {missing[0]} is missing ({len(missing)} in all); "
            f"run: {presets.download_command(preset)}"
        )


def _preset(preset: presets.Preset) -> Origin:
    folder = presets.preset_folder(preset)
    verification.verify_preset(preset, folder)
    tiny = folder / preset.tiny_autoencoder
    return Origin(
        preset.name,
        folder / preset.base,
        tiny_autoencoder=tiny if preset.repositories else None,
        loras=tuple(folder / lora for lora in preset.loras),
    )


def _config_folder(checkpoint: Path) -> Path:
    """A diffusers folder of the checkpoint's architecture: the downloaded preset of the same family."""
    preset = presets.SD15_LCM if checkpoint_family(checkpoint) == "sd1" else presets.SD_TURBO
    folder = presets.preset_folder(preset) / preset.base
    needed = ("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json")
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise ModelLoadError(
            f"{checkpoint}: a single file says nothing of its architecture and tokenizer; they are taken from "
            f"{preset.name}, and {folder / missing[0]} is missing; run: {presets.download_command(preset)}"
        )
    return folder


def choose_autoencoder(origin: Origin, wanted: str) -> Path | None:
    """The folder of the autoencoder to read instead of the model's own, or None for the latter."""
    own = (origin.config or origin.path) / "vae"
    own_is_tiny = (own / "config.json").is_file() and (
        read_description(own / "config.json").get("_class_name") == "AutoencoderTiny"
    )
    taesd = origin.tiny_autoencoder
    if taesd is None:
        # TAESD was made for the latents of SD 1.x and 2.x; either preset brings the same file.
        places = (presets.preset_folder(p) / p.tiny_autoencoder for p in (presets.SD15_LCM, presets.SD_TURBO))
        taesd = next((place for place in places if (place / "config.json").is_file()), None)
    if wanted == "full" or (own_is_tiny and wanted in ("auto", "tiny")):
        return None
    if wanted == "auto":
        if origin.tiny_autoencoder is not None:
            return origin.tiny_autoencoder
        if taesd is not None and speaks_sd_latents(own):
            log.info("autoencoder auto: TAESD (fast) in place of the model's VAE; model.autoencoder: full takes that")
            return taesd
        log.info("autoencoder auto: the model's own VAE")
        return None
    if wanted == "tiny":
        if taesd is None:
            raise ModelLoadError(
                "model.autoencoder: tiny needs TAESD, which is not here; "
                f"run: {presets.download_command(presets.SD15_LCM)}"
            )
        return taesd
    folder = Path(wanted).expanduser()
    if not folder.is_dir():
        raise ModelLoadError(
            f"model.autoencoder {wanted!r} is no folder; allowed: auto, tiny, full or a diffusers folder"
        )
    return folder if (folder / "config.json").is_file() or not (folder / "vae").is_dir() else folder / "vae"


def speaks_sd_latents(vae: Path) -> bool:
    """Whether a VAE folder is that of SD 1.x or 2.x, told by its size and scaling: TAESD decodes what it encodes."""
    if not (vae / "config.json").is_file():
        return False
    config = read_description(vae / "config.json")
    return (
        config.get("latent_channels") == 4
        and abs(config.get("scaling_factor", 0.18215) - 0.18215) < 1e-5
        and config.get("block_out_channels") == [128, 256, 512, 512]
    )


def lora_file(lora: Lora) -> Path:
    path = Path(lora.path).expanduser()
    if path.is_file():
        return path
    refuse_pickle(path)
    found = _REPOSITORY.fullmatch(lora.path)
    if found and path.suffix.lower() != ".safetensors":
        return download.fetch_lora(found["name"], found["revision"])
    raise ModelLoadError(f"LoRA {lora.path!r} does not exist; give a .safetensors file or owner/name@commit")
