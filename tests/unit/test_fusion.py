"""Feature fusion: equation 2 by a loop, and where it is the identity."""

from __future__ import annotations

import pytest
import torch

from streamv2v_obs.translator.fusion import fuse


def _features(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn((2, 6, 4), generator=generator)
    remembered = torch.randn((2, 9, 4), generator=generator)
    remembered[:, :3] = output[:, :3] * 1.5 + 0.05 * torch.randn((2, 3, 4), generator=generator)
    return output.to(dtype), remembered.to(dtype)


def test_equation_2() -> None:
    output, remembered = _features()
    fused = fuse(output, remembered, 0.8, 0.98)
    near = 0
    for row in range(2):
        for p in range(6):
            similarity = torch.cosine_similarity(output[row, p][None], remembered[row])
            q = int(similarity.argmax())
            expected = output[row, p]
            if similarity[q] >= 0.98:
                near += 1
                expected = 0.2 * output[row, p] + 0.8 * remembered[row, q]
            assert torch.allclose(fused.output[row, p], expected, atol=1e-6)
            assert fused.index[row, p] == q
            assert fused.similarity[row, p] == pytest.approx(similarity[q].item(), abs=1e-6)
    assert 0 < near < 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_strength_0_and_a_threshold_above_1_are_the_identity(dtype: torch.dtype) -> None:
    output, remembered = _features(dtype)
    assert torch.equal(fuse(output, remembered, 0.0, -1.0).output, output)
    assert torch.equal(fuse(output, remembered, torch.tensor(0.0), torch.tensor(-1.0)).output, output)
    assert torch.equal(fuse(output, output, 0.8, 1.01).output, output)
    assert not torch.equal(fuse(output, remembered, 0.8, 0.9).output, output)
    assert fuse(output, remembered, torch.tensor(0.8), 0.9).output.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bank_of_the_same_tokens_is_the_identity_up_to_rounding(dtype: torch.dtype) -> None:
    output, _ = _features(dtype)
    shuffled = output[:, torch.randperm(6, generator=torch.Generator().manual_seed(1))]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    assert torch.allclose(fuse(output, shuffled, 0.8, 0.98).output, output, atol=tolerance)


def test_the_threshold_is_sharp_in_bfloat16() -> None:
    """Similarities 0.979 and 0.981 are one number in bfloat16."""
    remembered = torch.tensor([[[1.0, 0.0]]], dtype=torch.bfloat16)
    below = torch.tensor([[[0.96875, 0.2021484375]]], dtype=torch.bfloat16)  # cosine 0.9789
    above = torch.tensor([[[0.98046875, 0.1953125]]], dtype=torch.bfloat16)  # cosine 0.9807
    assert torch.equal(fuse(below, remembered, 1.0, 0.98).output, below)
    assert torch.equal(fuse(above, remembered, 1.0, 0.98).output, remembered)
