"""The parts of a model, read from a diffusers folder or from one checkpoint file, each checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, AutoencoderTiny, LCMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast

from streamv2v_obs.errors import ModelLoadError, OutOfDeviceMemory
from streamv2v_obs.translator.lcm import PredictionType
from streamv2v_obs.translator.noise import NoiseKind
from streamv2v_obs.translator.pixels import AnyAutoencoder, fold_of
from streamv2v_obs.translator.safe_weights import check_folder, read_description, weight_variant
from streamv2v_obs.translator.suitability import check_attention

LITTLE_MEMORY = (
    "the device's memory is too small for the model; set model.width and model.height smaller, translator.steps "
    "fewer, model.dtype to float16 or bfloat16, or model.autoencoder to tiny"
)


@dataclass
class Components:
    """What a checkpoint holds, on the CPU in the wanted dtype."""

    unet: UNet2DConditionModel
    autoencoder: AnyAutoencoder
    text_encoder: CLIPTextModel
    tokenizer: Any
    acp: Tensor
    prediction_type: PredictionType
    initial_noise: NoiseKind = "white"


@contextmanager
def reading(what: str, path: Path) -> Iterator[None]:
    """Map what the libraries raise over a damaged or foreign file to ModelLoadError, naming ``path``."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(LITTLE_MEMORY) from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError, ImportError) as error:
        said = " ".join(str(error).split())
        raise ModelLoadError(
            f"{path}: the {what} cannot be read ({type(error).__name__}: {said[:300]}); "
            "the files do not belong together or are damaged: download the model again"
        ) from error


def quieten() -> None:
    """No progress bars: a local file is read in seconds, and the service's log is not a terminal."""
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()


def all_read(what: str, path: Path, info: dict[str, Any]) -> None:
    """Raise unless every weight was in the file: libraries fill gaps with random numbers and only warn."""
    for kind, fault in (("missing_keys", "lacks"), ("mismatched_keys", "has the wrong shape for")):
        if names := sorted(str(name) for name in info.get(kind, ())):
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelLoadError(
                f"{path}: the {what}'s file {fault} {names[0]}{more}; weights and config.json do not belong together"
            )


def _class_of(config: dict[str, Any], path: Path, allowed: tuple[str, ...]) -> str:
    name = config.get("_class_name") or (config.get("architectures") or ["(none)"])[0]
    if name not in allowed:
        raise ModelLoadError(
            f"{path}: is a {name}; what can be used: {' or '.join(allowed)}, as in Stable Diffusion 1.x and 2.x"
        )
    return str(name)


def read_unet(folder: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    """The folder ``unet`` of a diffusers model."""
    _class_of(read_description(folder / "config.json"), folder / "config.json", ("UNet2DConditionModel",))
    variant = weight_variant(folder, "diffusion_pytorch_model", half=dtype != torch.float32)
    with reading("UNet", folder):
        unet, info = UNet2DConditionModel.from_pretrained(
            folder,
            variant=variant,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    all_read("UNet", folder, info)
    check_unet(unet, folder)
    return unet


def check_unet(unet: UNet2DConditionModel, path: Path) -> None:
    """Raise ModelLoadError for a UNet that wants more than latents, time and one prompt."""
    config = unet.config
    refused = {
        "addition_embed_type": "it is of the SDXL family",
        "class_embed_type": "it wants class labels or an image",
        "num_class_embeds": "it wants class labels",
        "encoder_hid_dim_type": "it wants an image prompt",
    }
    for key, why in refused.items():
        if config.get(key) is not None:
            raise ModelLoadError(f"{path}: this UNet cannot be used: {why} ({key}: {config[key]})")
    if config.in_channels != config.out_channels:
        raise ModelLoadError(
            f"{path}: this UNet takes {config.in_channels} channels and gives {config.out_channels}: "
            "an inpainting, depth or pix2pix model cannot be used"
        )
    if config.dual_cross_attention or not isinstance(config.cross_attention_dim, int):
        raise ModelLoadError(f"{path}: this UNet cannot be used: it wants several prompts, or one of several widths")
    try:
        check_attention(unet)
    except ModelLoadError as error:
        raise ModelLoadError(f"{path}: {error}") from error


def read_autoencoder(folder: Path, dtype: torch.dtype) -> AnyAutoencoder:
    """A diffusers folder of an AutoencoderKL or an AutoencoderTiny (TAESD)."""
    if not folder.is_dir():
        raise ModelLoadError(f"{folder} is missing; set model.autoencoder to auto, tiny, full or an existing folder")
    config = read_description(folder / "config.json")
    name = _class_of(config, folder / "config.json", ("AutoencoderTiny", "AutoencoderKL"))
    cls = AutoencoderTiny if name == "AutoencoderTiny" else AutoencoderKL
    variant = weight_variant(folder, "diffusion_pytorch_model", half=dtype != torch.float32)
    with reading("autoencoder", folder):
        autoencoder, info = cls.from_pretrained(
            folder,
            variant=variant,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    all_read("autoencoder", folder, info)
    return cast(AnyAutoencoder, autoencoder)


def read_text_encoder(folder: Path, dtype: torch.dtype) -> CLIPTextModel:
    """The folder ``text_encoder`` of a diffusers model."""
    if not folder.is_dir():
        raise ModelLoadError(f"{folder} is missing; without a text encoder a model cannot follow a prompt")
    _class_of(read_description(folder / "config.json"), folder / "config.json", ("CLIPTextModel",))
    variant = weight_variant(folder, "model", half=dtype != torch.float32)
    with reading("text encoder", folder):
        text_encoder, info = CLIPTextModel.from_pretrained(
            folder,
            variant=variant,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    all_read("text encoder", folder, info)
    return cast(CLIPTextModel, text_encoder)


def read_tokenizer(folder: Path) -> Any:
    """The folder ``tokenizer``: CLIP's own (vocab.json, merges.txt) or any one written as tokenizer.json."""
    if (folder / "tokenizer_config.json").is_file():
        read_description(folder / "tokenizer_config.json")
    # Not AutoTokenizer: it would take the class, and with it the code, from the files.
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        cls: Any = CLIPTokenizer
    elif (folder / "tokenizer.json").is_file():
        cls = PreTrainedTokenizerFast
    else:
        raise ModelLoadError(f"{folder}: has neither vocab.json and merges.txt nor tokenizer.json; download it again")
    with reading("tokenizer", folder):
        return cls.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def read_schedule(path: Path) -> tuple[Tensor, PredictionType, NoiseKind]:
    """alphas_cumprod float32 [1000] and the prediction type of a scheduler_config.json of whatever scheduler.

    And the noise that the model was trained with: ``initial_noise``, a key of ours, white where it is missing.
    """
    config = read_description(path)
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in get_args(PredictionType):
        known = ", ".join(get_args(PredictionType))
        raise ModelLoadError(f"{path}: prediction_type {prediction!r} cannot be used; what can: {known}")
    noise = config.get("initial_noise", "white")
    if noise not in get_args(NoiseKind):
        known = ", ".join(get_args(NoiseKind))
        raise ModelLoadError(f"{path}: initial_noise {noise!r} is not known; what is: {known}")
    keys = (
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "beta_schedule",
        "trained_betas",
        "rescale_betas_zero_snr",
    )
    with reading("noise schedule", path):
        acp = LCMScheduler(**{key: config[key] for key in keys if key in config}).alphas_cumprod.float()
    if acp.shape != (1000,) or not bool(((acp >= 0) & (acp <= 1)).all()):
        raise ModelLoadError(f"{path}: gives {acp.numel()} noise levels; LCM needs 1000 of them between 0 and 1")
    return acp, cast(PredictionType, prediction), cast(NoiseKind, noise)


def read_folder(folder: Path, dtype: torch.dtype, autoencoder: Path | None) -> Components:
    """A diffusers folder; ``autoencoder`` is read instead of the model's own where it is given."""
    check_folder(folder)
    unet = read_unet(folder / "unet", dtype)
    acp, prediction_type, initial_noise = read_schedule(folder / "scheduler" / "scheduler_config.json")
    parts = Components(
        unet=unet,
        text_encoder=read_text_encoder(folder / "text_encoder", dtype),
        tokenizer=read_tokenizer(folder / "tokenizer"),
        autoencoder=read_autoencoder(autoencoder or folder / "vae", dtype),
        acp=acp,
        prediction_type=prediction_type,
        initial_noise=initial_noise,
    )
    check_fit(parts, folder, autoencoder or folder / "vae")
    return parts


def check_fit(parts: Components, path: Path, autoencoder: Path) -> None:
    """Raise ModelLoadError where parts that were each read well do not fit each other."""
    channels, wanted = int(parts.autoencoder.config.latent_channels), int(parts.unet.config.in_channels)
    if channels != wanted:
        raise ModelLoadError(
            f"{autoencoder}: this autoencoder has {channels} latent channels, the UNet in {path} wants {wanted}; "
            "set model.autoencoder to full"
        )
    if not fold_of(parts.autoencoder):
        config = parts.autoencoder.config
        raise ModelLoadError(
            f"{autoencoder}: this autoencoder takes {config.in_channels} channels and gives {config.out_channels}; "
            "what can be used: 3 colours, or 12 for 2x2 pixels folded into one, the same in and out"
        )
    width, wanted = int(parts.text_encoder.config.hidden_size), int(parts.unet.config.cross_attention_dim)
    if width != wanted:
        raise ModelLoadError(
            f"{path}: the text encoder is {width} wide, the UNet wants {wanted}; they are of different models"
        )
    if len(parts.tokenizer) > int(parts.text_encoder.config.vocab_size):
        raise ModelLoadError(
            f"{path}: the tokenizer knows more tokens than the text encoder; they do not belong together"
        )
