"""The stream batch by itself: what stands in the rows, whatever is changed while frames are in flight."""

from __future__ import annotations

import torch

from streamv2v_obs.translator.conformance import stable_diffusion_acp
from streamv2v_obs.translator.lcm import RowConstants, row_constants
from streamv2v_obs.translator.stream_batch import Origin, StreamBatch

CPU = torch.device("cpu")
SHAPE = (4, 2, 2)
WORDS = torch.zeros((1, 3, 5))


def constants(*indices: int) -> RowConstants:
    return row_constants(stable_diffusion_acp(), indices, CPU)


def started(seed: int = 0) -> tuple[StreamBatch, list[torch.Tensor]]:
    """A batch of three rows in which a second frame just entered; and the rows' clean latents."""
    batch = StreamBatch(constants(30, 36, 42), SHAPE, CPU)
    batch.draw_noise(seed)
    generator = torch.Generator().manual_seed(9)
    first, second = torch.randn((2, 1, *SHAPE), generator=generator)
    x0 = torch.randn((3, *SHAPE), generator=generator)
    batch.enter(first, WORDS, Origin(1.0, 1))
    batch.advance(x0)
    batch.enter(second, WORDS + 1, Origin(2.0, 2))
    return batch, [second[0], x0[0], x0[1]]


def noised(clean: list[torch.Tensor], rows: RowConstants, noise: torch.Tensor) -> torch.Tensor:
    return torch.stack([rows.alpha[k, 0] * z + rows.beta[k, 0] * noise[k] for k, z in enumerate(clean)])


def test_the_first_frame_fills_all_rows_and_each_next_one_the_first() -> None:
    batch = StreamBatch(constants(30, 36, 42), SHAPE, CPU)
    batch.draw_noise(0)
    frame = torch.randn((1, *SHAPE))
    batch.enter(frame, WORDS, None)
    assert torch.equal(batch.noised, noised([frame[0]] * 3, batch.constants, batch.noise))
    batch, clean = started()
    assert torch.allclose(batch.noised, noised(clean, batch.constants, batch.noise))
    assert batch.prompts is not None
    assert batch.prompts[:, 0, 0].tolist() == [1, 0, 0]
    assert batch.waiting == 2


def test_noise_is_one_fixed_tensor_of_the_seed() -> None:
    batch, _ = started(seed=3)
    expected = torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(3))
    assert torch.equal(batch.noise, expected)


def test_frames_in_flight_follow_a_change_of_seed_and_strength() -> None:
    batch, clean = started()
    held = batch.constants.alpha, batch.noise
    batch.draw_noise(11)
    batch.set_constants(constants(10, 20, 30))
    batch.draw_noise(12)
    assert torch.allclose(batch.noised, noised(clean, constants(10, 20, 30), batch.noise), atol=1e-5)
    # Overwritten in place, for whoever captured them in a graph.
    assert held[0] is batch.constants.alpha
    assert held[1] is batch.noise


def test_zeros_enter_as_exact_zeros() -> None:
    """Not as a latent whose noise cancels: rounding would decide between equal tokens."""
    batch = StreamBatch(constants(30, 40), SHAPE, CPU)
    batch.draw_noise(0)
    batch.start_from_zeros(torch.arange(2.0).reshape(2, 1, 1).expand(2, 3, 5))
    batch.enter(torch.ones((1, *SHAPE)), WORDS, Origin(0.0, 0))
    assert batch.noised[1].abs().max() == 0
    departed = batch.advance(torch.ones((2, *SHAPE)))
    assert departed.origin is None


def test_a_row_of_nothing_but_noise_survives_a_change_of_strength() -> None:
    """Zero terminal SNR: at timestep 999 alpha is 0, and what was noised cannot be told from the noise."""
    acp = stable_diffusion_acp()
    acp[-1] = 0
    batch = StreamBatch(row_constants(acp, (0, 25), CPU), SHAPE, CPU)
    batch.draw_noise(0)
    frame = torch.randn((1, *SHAPE))
    batch.enter(frame, WORDS, None)
    batch.set_constants(row_constants(acp, (10, 30), CPU))
    assert torch.isfinite(batch.noised).all()
    assert torch.allclose(batch.noised[1:], noised([frame[0]] * 2, batch.constants, batch.noise)[1:], atol=1e-5)
