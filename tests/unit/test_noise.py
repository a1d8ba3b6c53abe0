"""White and blue noise: of what strength, at which frequencies, and who says which."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from streamv2v_obs.translator.noise import blue, draw_noise, kind_of_noise


def test_white_noise_is_that_of_torchs_generator() -> None:
    expected = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(5))
    assert torch.equal(draw_noise((2, 4, 8, 8), 5, "white"), expected)


def test_blue_noise_is_as_strong_as_white_and_hardly_there_in_the_large() -> None:
    white, made = (draw_noise((4, 16, 64, 64), 3, kind) for kind in ("white", "blue"))
    assert torch.equal(made, draw_noise((4, 16, 64, 64), 3, "blue"))
    assert made.mean().abs() < 1e-3
    assert made[..., 4:-4, 4:-4].std() == pytest.approx(1.0, abs=0.01)
    assert made.std() == pytest.approx(1.0, abs=0.02)

    def spectrum(noise: torch.Tensor) -> torch.Tensor:
        power: torch.Tensor = torch.fft.rfft2(noise).abs().square().mean((0, 1)) / noise[0, 0].numel()
        return power

    low, high = spectrum(made)[1:4, 1:4].mean(), spectrum(made)[16:48, 16:].mean()
    assert low < 0.02 * spectrum(white)[1:4, 1:4].mean()
    assert high == pytest.approx(float(spectrum(white)[16:48, 16:].mean()), rel=0.3)


def test_blue_noise_has_no_least_size_and_its_borders_are_no_seams() -> None:
    assert blue(torch.randn(1, 4, 2, 3)).shape == (1, 4, 2, 3)
    made = draw_noise((8, 16, 32, 32), 1, "blue")
    border = functional.pad(torch.zeros(30, 30), (1, 1, 1, 1), value=1.0).bool()
    assert made[..., border].std() == pytest.approx(float(made[..., ~border].std()), rel=0.15)


@pytest.mark.parametrize(
    ("wished", "trained", "used"),
    [("auto", "white", "white"), ("auto", "blue", "blue"), ("white", "blue", "white"), ("blue", "white", "blue")],
)
def test_the_setting_goes_before_what_the_model_was_trained_with(wished: str, trained: str, used: str) -> None:
    assert kind_of_noise(wished, trained) == used  # type: ignore[arg-type]
