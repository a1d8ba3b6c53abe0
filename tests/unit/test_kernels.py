"""Attention kernels: chosen by measurement, level by level; widened heads and pieces of a matrix change nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from streamv2v_obs.translator import fusion, kernels
from streamv2v_obs.translator.kernels import (
    Attend,
    Kernel,
    Level,
    attend_in_blocks,
    attend_sdpa,
    choose_kernels,
    described,
    fastest,
)

CPU = torch.device("cpu")
LEVELS = [Level(2, 64, 128, 2, 40), Level(2, 16, 32, 2, 80)]


def other(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    return attend_sdpa(q, k, v, scale)


def narrow_only(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    raise RuntimeError("no kernel for this shape")


def timer(attend: Attend, level: Level, device: torch.device, dtype: torch.dtype) -> float:
    """Fake: sdpa likes short levels, the other one long and padded ones."""
    if attend is narrow_only:
        attend(torch.zeros(1), torch.zeros(1), torch.zeros(1))
    if attend is attend_sdpa:
        return float(level.tokens)
    return 40.0 if level.width == 64 else 60.0


@pytest.mark.parametrize(
    ("padding", "long"),
    [("auto", Kernel("flash", other, 64)), (False, Kernel("flash", other, 40)), (True, Kernel("flash", other, 64))],
)
def test_each_level_gets_its_quickest_kernel_and_width(padding: bool, long: Kernel) -> None:
    candidates: dict[kernels.KernelName, Attend] = {
        "sdpa": attend_sdpa,
        "flash": other,
        "cudnn": narrow_only,  # passed over
    }
    chosen = [fastest(level, candidates, padding, CPU, torch.float32, timer) for level in LEVELS]
    assert chosen == [long, Kernel("sdpa", attend_sdpa, 80)]
    assert described(LEVELS, chosen) == ("flash 64 (64 wide), sdpa 16" if padding else "flash 64, sdpa 16")
    none = fastest(LEVELS[0], {"cudnn": narrow_only}, padding, CPU, torch.float32, timer)
    assert none == Kernel("sdpa", attend_sdpa, 40)


def test_a_real_kernel_is_timed() -> None:
    assert 0 < kernels.time_kernel(attend_sdpa, LEVELS[0], CPU, torch.float32) < 1000


def test_on_a_cpu_in_float32_auto_is_torch_s_own_choice_and_flash_can_be_had() -> None:
    assert choose_kernels("auto", LEVELS, "auto", CPU, torch.float32) == [
        Kernel("sdpa", attend_sdpa, 40),
        Kernel("sdpa", attend_sdpa, 80),
    ]
    (flash,) = choose_kernels("flash", LEVELS[:1], False, CPU, torch.float32)
    assert flash.name == "flash"
    q, k, v = (torch.randn((2, n, 2, 40)) for n in (64, 128, 128))
    assert torch.allclose(flash.attend(q, k, v), attend_sdpa(q, k, v), atol=1e-5)
    (wide,) = choose_kernels("sdpa", LEVELS[:1], True, CPU, torch.float32)
    assert wide.width == 64
    assert described(LEVELS[:1], [wide]) == "sdpa 64 (64 wide)"


@pytest.mark.parametrize("at_once", [1, 128, 128 * 7, 10**6])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_blocks_of_queries_are_the_whole(at_once: int, scale: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_SCORES_AT_ONCE", at_once)
    q, k, v = (torch.randn((2, n, 3, 16), generator=torch.Generator().manual_seed(n)) for n in (50, 128, 129))
    v = v[:, :128]  # of a bank, whose rows lie further apart
    assert torch.allclose(attend_in_blocks(q, k, v, scale), attend_sdpa(q, k, v, scale), atol=1e-5)


def test_blocks_can_be_compiled_with_all_around_them() -> None:
    q, k, v = (torch.randn((1, n, 2, 16)).bfloat16() for n in (64, 128, 128))
    traced: Any = torch.compile(attend_in_blocks, fullgraph=True, backend="eager")
    assert torch.equal(traced(q, k, v), attend_in_blocks(q, k, v))


def test_in_bfloat16_a_cpu_computes_in_blocks_as_exactly_as_a_picture_needs() -> None:
    assert {k.name for k in choose_kernels("auto", LEVELS, "auto", CPU, torch.bfloat16)} == {"blocks"}
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn((1, n, 2, 64), generator=generator) for n in (256, 512, 512))
    k = k + 30 * torch.randn((1, 1, 2, 64), generator=generator)  # what all keys share must cost no precision
    made = attend_in_blocks(q.bfloat16(), k.bfloat16(), v.bfloat16()).float()
    exact = attend_sdpa(q, k.bfloat16().float(), v)
    assert float((made - exact).square().mean().sqrt() / exact.std()) < 0.03


def test_the_most_similar_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, others = torch.randn((3, 50, 8), generator=generator), torch.randn((3, 70, 8), generator=generator)
    whole = (tokens @ others.transpose(1, 2)).max(-1)
    for at_once in (1, 3 * 70, 3 * 70 * 7, 10**6):
        monkeypatch.setattr(fusion, "_COMPARED_AT_ONCE", at_once)
        similarity, index = fusion.most_similar(tokens, others)
        assert torch.equal(index, whole.indices)
        assert torch.allclose(similarity, whole.values, atol=1e-6)
