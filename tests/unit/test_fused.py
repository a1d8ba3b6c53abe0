"""Operations that are one launch on a GPU: a graph rewritten with them answers the same, and so does the kernel."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from streamv2v_obs.translator.fused_graph import fuse_activations, fuse_norms
from tests.conftest import Require


class Block(nn.Module):
    """A residual block of Stable Diffusion's kind, ``beside`` concatenated, and what follows it."""

    def __init__(self, shortcut: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(8, 8, 3, padding=1)
        self.norm1, self.norm2, self.norm3 = nn.GroupNorm(4, 12), nn.GroupNorm(4, 12), nn.GroupNorm(2, 12)
        self.conv1, self.conv2 = nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
        self.shortcut = nn.Conv2d(12, 12, 1) if shortcut else nn.Identity()

    def forward(self, picture: Tensor, beside: Tensor, of_rows: Tensor) -> Tensor:
        whole = torch.cat([self.enter(picture), beside], dim=1)
        inner = self.conv1(silu(self.norm1(whole)))
        inner = silu(self.norm2(inner + of_rows[:, :, None, None]))
        answer = (self.shortcut(whole) + self.conv2(inner)) / 1.0
        summed: Tensor = self.norm3(answer) + answer
        return summed


class Activated(nn.Module):
    """TAESD's kind of block, and sums that are not one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.bare = (nn.Conv2d(4, 4, 3, padding=1, bias=n < 2) for n in range(3))

    def forward(self, picture: Tensor) -> Tensor:
        inner = nn.functional.relu(self.conv1(picture))
        inner = nn.functional.relu(self.conv2(inner) + picture)
        seen = self.conv1(inner)
        summed: Tensor = nn.functional.relu(seen) + seen + nn.functional.relu(self.bare(inner))
        return summed


def rewritten(module: nn.Module, rewrite: Callable[[Any], int], *given: Tensor) -> tuple[Tensor, int]:
    """What the module's graph answers once it was rewritten, and how often it was."""
    torch._dynamo.reset()
    found: list[int] = []
    functional = torch._dynamo.lookup_backend("aot_eager")

    def backend(graph: Any, inputs: Any) -> Any:
        found.append(rewrite(graph))
        return functional(graph, inputs)

    with torch.no_grad():
        answer: Tensor = torch.compile(module, backend=backend, fullgraph=True)(*given)
    torch._dynamo.reset()
    return answer, found[0]


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_normalisation_takes_in_what_is_around_it(shortcut: bool, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    module: Any = Block(shortcut).requires_grad_(False)
    module.to(memory_format=layout)
    given = (torch.randn(2, 8, 6, 5).to(memory_format=layout), torch.randn(2, 4, 6, 5), torch.randn(2, 12))
    answer, found = rewritten(module, fuse_norms, *given)
    assert found == 3
    assert torch.allclose(answer, module(*given), atol=1e-5)


def test_what_else_reads_a_sum_still_does() -> None:
    """Only a convolution that has a bias, and that nobody else looks at, goes into its activation."""
    torch.manual_seed(0)
    module = Activated().requires_grad_(False)
    picture = torch.randn(1, 4, 6, 6)
    answer, found = rewritten(module, fuse_activations, picture)
    assert found == 2
    assert torch.allclose(answer, module(picture), atol=1e-6)


KERNEL = """
import itertools, torch
from streamv2v_obs.translator import fused_ops, norm_kernel
torch.manual_seed(0)
for dtype, least in ((torch.float32, 1e-4), (torch.float16, 4e-3)):
    def picture(channels, mean):
        made = torch.randn(2, channels, 5, 7) * 2 + mean
        return made.to(dtype, memory_format=torch.channels_last)
    for (own, other), activated in itertools.product(((32, 0), (20, 12)), (False, True)):
        first, second = picture(own, 30), picture(own, 0)
        beside = picture(other, 1) if other else None
        rows, one, two, weight, shift = (torch.randn(n).to(dtype) for n in (2 * own, own, own, *[own + other] * 2))
        for more in ((None, None, []), (second, rows.view(2, own), [one, two]), (None, rows.view(2, own), [one])):
            given = (first, more[0], beside, *more[1:], weight, shift, 8, 1e-5)
            plain = fused_ops.sum_group_norm(*given, activated, True)
            ours = norm_kernel.launch(*given, activated=activated, keep=True)
            for a, b in zip(plain, ours, strict=True):
                assert (a.float() - b.float()).abs().max() <= least * max(1, a.abs().max()), (dtype, own, activated)
print("alike")
"""


@pytest.mark.timeout(600)
def test_the_kernel_is_torchs_normalisation(require: Require) -> None:
    """In triton's interpreter, on any machine that has triton; a mean far from zero, groups across the seam."""
    require("triton", importlib.util.find_spec("triton") is not None, "the normalisation's kernel beside torch's")
    command = [sys.executable, "-W", "ignore", "-c", KERNEL]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=560, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "alike"
