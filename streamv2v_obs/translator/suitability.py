"""Which UNets the method can be put into: those whose every self-attention is one that it knows how to extend."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention

from streamv2v_obs.errors import ModelLoadError

_FAMILY = "what can be used: Stable Diffusion 1.x and 2.x, and UNets of their blocks"


def check_attention(unet: UNet2DConditionModel) -> None:
    """Raise ModelLoadError where a self-attention would silently stay without memory, or be computed otherwise.

    Equation 1 stands in for the plain attention of diffusers' transformer blocks; there are UNet blocks with
    attention of their own, and attention with norms, residuals and inputs that it does not have.
    """
    known: set[int] = set()
    extended = 0
    for name, block in unet.named_modules():
        if not isinstance(block, BasicTransformerBlock):
            continue
        known.update(id(part) for part in (block.attn1, block.attn2) if part is not None)
        if block.only_cross_attention:
            continue
        if block.attn2 is not None and not block.attn2.is_cross_attention:
            raise ModelLoadError(f"this UNet cannot be used: {name}.attn2 is self-attention, too; {_FAMILY}")
        if said := what_is_not_plain(block.attn1):
            raise ModelLoadError(f"this UNet cannot be used: {name}.attn1 has {said}; {_FAMILY}")
        extended += 1
    for name, module in unet.named_modules():
        if isinstance(module, Attention) and id(module) not in known:
            raise ModelLoadError(
                f"this UNet cannot be used: {name} is attention outside transformer blocks; {_FAMILY}"
            )
    if not extended:
        raise ModelLoadError(f"this UNet cannot be used: it has no self-attention, and so no memory; {_FAMILY}")


def what_is_not_plain(attention: Attention) -> str:
    """What equation 1 would leave out of this attention; empty where nothing."""
    oddities = {
        "a group norm": attention.group_norm is not None,
        "a spatial norm": attention.spatial_norm is not None,
        "normalised queries or keys": attention.norm_q is not None or attention.norm_k is not None,
        "a residual of its own": attention.residual_connection,
        "a rescaled output": attention.rescale_output_factor != 1,
        "another scale of its logits": not attention.scale_qk,
        "added keys": attention.added_kv_proj_dim is not None,
        "fewer heads of keys": attention.inner_kv_dim != attention.inner_dim,
        "another width inside": attention.inner_dim != attention.query_dim,
        "a causal mask": attention.is_causal,
    }
    return next((what for what, there in oddities.items() if there), "")
