"""LCM in closed form against diffusers' own scheduler."""

from __future__ import annotations

import pytest
import torch
from diffusers import LCMScheduler

from streamv2v_obs.settings import lcm_indices
from streamv2v_obs.translator.lcm import PredictionType, clean_latent, row_constants

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("strength", "steps"), [(0.4, 4), (0.4, 1), (1.0, 2), (0.7, 3), (0.16, 8)])
def test_the_clean_latent_is_that_of_diffusers(kind: PredictionType, strength: float, steps: int) -> None:
    scheduler = LCMScheduler(prediction_type=kind, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    indices = lcm_indices(strength, steps)
    rows = row_constants(scheduler.alphas_cumprod, indices, CPU)
    generator = torch.Generator().manual_seed(0)
    x, prediction = torch.randn((2, steps, 4, 8, 8), generator=generator)
    ours = clean_latent(x, prediction, rows, kind)
    for k, t in enumerate(rows.timesteps.tolist()):
        scheduler.set_timesteps(timesteps=[t])
        denoised = scheduler.step(prediction[k : k + 1], t, x[k : k + 1]).denoised
        assert torch.allclose(ours[k : k + 1], denoised, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("strength", "steps"), [(0.4, 4), (0.4, 2), (1.0, 4), (0.5, 5)])
def test_the_timesteps_lie_on_diffusers_lcm_schedule(strength: float, steps: int) -> None:
    scheduler = LCMScheduler(num_train_timesteps=1000, original_inference_steps=50)
    scheduler.set_timesteps(50)
    rows = row_constants(scheduler.alphas_cumprod, lcm_indices(strength, steps), CPU)
    assert rows.timesteps.tolist() == scheduler.timesteps[list(lcm_indices(strength, steps))].tolist()


def test_the_paper_s_rows() -> None:
    rows = row_constants(LCMScheduler().alphas_cumprod, lcm_indices(0.4, 4), CPU)
    assert rows.timesteps.tolist() == [399, 299, 199, 99]
    assert torch.allclose(rows.alpha**2 + rows.beta**2, torch.ones((4, 1, 1, 1)))
    assert rows.of(slice(1, 2)).timesteps.tolist() == [299]
