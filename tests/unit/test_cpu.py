"""What is computed by another way on a CPU is the same."""

from __future__ import annotations

import torch
from torch import nn

from streamv2v_obs.translator.cpu import FloatGroupNorm, quicken

CPU = torch.device("cpu")


def norms(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.GroupNorm(2, 32), nn.Sequential(nn.GroupNorm(16, 32)))
    for parameter in layers.parameters():
        nn.init.normal_(parameter)
    return layers.to(dtype)


def test_a_group_norm_gives_the_same_from_the_same_weights() -> None:
    plain, quick = norms(torch.bfloat16), norms(torch.bfloat16)
    before = dict(quick.named_parameters())
    quicken(quick, CPU, torch.bfloat16)
    assert isinstance(quick[0], FloatGroupNorm)
    assert all(before[name] is parameter for name, parameter in quick.named_parameters())
    x = torch.randn((2, 32, 6, 5)).to(torch.bfloat16).to(memory_format=torch.channels_last)
    answer, exact = quick(x), norms(torch.bfloat16).float()(x.float())
    assert answer.dtype is torch.bfloat16
    assert answer.is_contiguous(memory_format=torch.channels_last)
    # Not further from float32 than torch's own kernel is.
    assert (answer.float() - exact).abs().max() <= (plain(x).float() - exact).abs().max()


def test_what_is_not_slow_stays() -> None:
    for layers, device, dtype in (
        (norms(torch.float32), CPU, torch.float32),
        (norms(torch.float16), torch.device("cuda"), torch.float16),
        (norms(torch.bfloat16)[1], CPU, torch.bfloat16),  # groups of two channels
    ):
        quicken(layers, device, dtype)
        assert not any(isinstance(module, FloatGroupNorm) for module in layers.modules())
