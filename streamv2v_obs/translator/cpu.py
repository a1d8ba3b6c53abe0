"""What a CPU computes by another way than a GPU, because that way is faster there."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm

# torch's kernel for half precision in channels_last takes groups of this many channels element by element.
_SLOW_FROM = 8


class FloatGroupNorm(nn.GroupNorm):
    """A group norm that computes in float32, to and fro included in a fifth of bfloat16's time."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ..) in any type and layout: the same, normalised."""
        weight, bias = self.weight.float(), self.bias.float()
        return group_norm(input.float(), self.num_groups, weight, bias, self.eps).to(input.dtype)


def quicken(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Exchange what is slow in ``module`` in this type on this device; its weights stay the same tensors."""
    if device.type != "cpu" or dtype is torch.float32:
        return
    for parent in module.modules():
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.GroupNorm and norm.affine and norm.num_channels >= _SLOW_FROM * norm.num_groups:
                other = FloatGroupNorm(norm.num_groups, norm.num_channels, norm.eps, device="meta")
                other.weight, other.bias = norm.weight, norm.bias
                setattr(parent, name, other.eval())
