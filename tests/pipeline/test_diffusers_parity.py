"""Without its bank the translator is diffusers' LCM image-to-image, by both pipelines: same noise, same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelImg2ImgPipeline, LCMScheduler, StableDiffusionImg2ImgPipeline
from torch import Tensor

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import BankSettings, ModelSettings, TranslatorSettings, lcm_indices
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.loading import Model, load_model
from tests.rigs.tiny_loras import save_kohya
from tests.rigs.tiny_models import save_model, tiny_unet

SEED = 5
PROMPT = "a cat"


def by_diffusers(folder: Path, latents: Tensor, timesteps: list[int], lora: Path | None = None) -> Tensor:
    """The clean latents that diffusers gives; its generator draws the noise of one step after the other."""
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    assert isinstance(pipeline.scheduler, LCMScheduler)
    if lora is not None:
        pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
        pipeline.fuse_lora()
    found: Tensor = pipeline(
        prompt=PROMPT,
        image=latents,
        num_inference_steps=len(timesteps),
        timesteps=timesteps,
        strength=1.0,  # of the given timesteps, all
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(SEED),
        output_type="latent",
    ).images
    return found


def by_us(model: Model, latents: Tensor, strength: float, steps: int, guidance: float | None = None) -> Tensor:
    """The same by the translator, bank off, steps in sequence."""
    settings = TranslatorSettings(
        strength=strength,
        steps=steps,
        schedule="sequential",
        bank=BankSettings(kind="off"),
        attention="sdpa",
        guidance=guidance,
    )
    shape = (latents.shape[1], latents.shape[2], latents.shape[3])
    translator = LatentTranslator(
        model.unet, model.acp, model.prediction_type, settings, shape, model.device, model.dtype
    )
    generator = torch.Generator().manual_seed(SEED)
    noise = [torch.randn(1, *shape, generator=generator) for _ in range(steps)]
    with torch.inference_mode():
        translator.rows.noise.copy_(torch.cat(noise))
    x0 = translator.step(latents, model.text.encode(PROMPT)).latent
    translator.close()
    return x0


def timesteps_of(strength: float, steps: int) -> list[int]:
    return [999 - 20 * index for index in lcm_indices(strength, steps)]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("strength", "steps"), [(0.4, 4), (0.4, 1), (0.8, 2)])
def test_one_frame_equals_diffusers(
    tmp_path: Path, prediction_type: Literal["epsilon", "v_prediction", "sample"], strength: float, steps: int
) -> None:
    folder = tmp_path / "model"
    save_model(folder, prediction_type=prediction_type)
    model = load_model(ModelSettings(name=str(folder), device="cpu", dtype="float32"))
    picture = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    latents = model.autoencoder.encode(picture)
    expected = by_diffusers(folder, latents, timesteps_of(strength, steps))
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(by_us(model, latents, strength, steps), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("guidance", [None, 3.0])
@pytest.mark.parametrize(("strength", "steps"), [(0.4, 4), (0.4, 2), (0.8, 1)])
def test_a_distilled_model_equals_diffusers_lcm_pipeline(
    tmp_path: Path, strength: float, steps: int, guidance: float | None
) -> None:
    save_model(tmp_path / "lcm", unet=tiny_unet(time_cond_proj_dim=16))
    model = load_model(ModelSettings(name=str(tmp_path / "lcm"), device="cpu", dtype="float32"))
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    pipeline = LatentConsistencyModelImg2ImgPipeline.from_pretrained(tmp_path / "lcm", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        prompt=PROMPT,
        image=latents,
        num_inference_steps=steps,
        strength=strength,
        guidance_scale=guidance or 8.5,
        generator=torch.Generator().manual_seed(SEED),
        output_type="latent",
    ).images
    assert pipeline.scheduler.timesteps.tolist() == timesteps_of(strength, steps), "its own schedule, not ours given"
    torch.testing.assert_close(by_us(model, latents, strength, steps, guidance), expected, atol=1e-4, rtol=0)
    assert float((by_us(model, latents, strength, steps, 9.9) - expected).abs().max()) > 1e-3, "guidance matters"


def test_guidance_for_a_model_without_it_is_an_error(tmp_path: Path) -> None:
    save_model(tmp_path / "plain")
    model = load_model(ModelSettings(name=str(tmp_path / "plain"), device="cpu", dtype="float32"))
    with pytest.raises(ConfigError, match=r"translator\.guidance = 3: .*not distilled"):
        by_us(model, torch.zeros(1, 4, 16, 16), 0.4, 2, guidance=3)


def test_a_fused_lora_goes_through_the_whole_way(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    lora = save_kohya(tmp_path / "lcm.safetensors", save_model(folder))
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    plain = load_model(ModelSettings(name=str(folder), device="cpu", dtype="float32"))
    settings = {"name": str(folder), "device": "cpu", "dtype": "float32", "loras": [{"path": str(lora)}]}
    fused = load_model(ModelSettings.model_validate(settings))
    expected = by_diffusers(folder, latents, timesteps_of(0.4, 2), lora)
    ours = by_us(fused, latents, 0.4, 2)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    assert float((by_us(plain, latents, 0.4, 2) - expected).abs().max()) > 1e-2


def test_a_picture_comes_out_as_diffusers_shows_it(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(folder)
    model = load_model(ModelSettings(name=str(folder), device="cpu", dtype="float32"))
    picture = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    latents = model.autoencoder.encode(picture)
    expected = by_diffusers(folder, latents, timesteps_of(0.4, 2))
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(folder, safety_checker=None)
    with torch.no_grad():
        shown = pipeline.vae.decode(expected / pipeline.vae.config.scaling_factor).sample
    theirs = pipeline.image_processor.postprocess(shown, output_type="np")[0]
    ours = model.autoencoder.decode(by_us(model, latents, 0.4, 2))
    assert np.abs(ours.astype(int) - np.round(theirs * 255).astype(int)).max() <= 1
