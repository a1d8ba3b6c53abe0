"""Prompts to embeddings."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel

log = logging.getLogger(__name__)


class TextEncoder:
    """A tokenizer and a CLIP text model: what diffusers' ``encode_prompt`` gives without guidance."""

    def __init__(self, tokenizer: Any, module: CLIPTextModel) -> None:
        self.tokenizer = tokenizer
        self.module = module
        positions = int(module.config.max_position_embeddings)
        # A tokenizer without a stated length says 1e30.
        self.length = min(int(tokenizer.model_max_length), positions)

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:
        """[1, L, D] in the model's dtype, on its device; what does not fit into L tokens is cut off with a warning."""
        wanted = len(self.tokenizer(prompt, truncation=False, verbose=False).input_ids)
        tokens = self.tokenizer(
            prompt, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )
        if wanted > self.length:
            kept = self.tokenizer.decode(tokens.input_ids[0], skip_special_tokens=True)
            log.warning("the prompt has %d tokens, %d fit; only this part counts: %s", wanted, self.length, kept)
        mask = tokens.attention_mask if getattr(self.module.config, "use_attention_mask", False) else None
        device = self.module.device
        output = self.module(tokens.input_ids.to(device), attention_mask=None if mask is None else mask.to(device))
        embeddings: Tensor = output[0].to(self.module.dtype)
        return embeddings
