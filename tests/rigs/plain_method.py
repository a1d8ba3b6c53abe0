"""The published method written down a second time, as plainly as can be: lists, concatenation, loops, no reuse.

It writes conformance cases for settings that the published vectors do not use, so that the translator core is
compared with something that shares no line with it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

DEFAULTS: dict[str, Any] = {
    "mode": "bank",
    "t_index": [25, 37],
    "calls": 7,
    "interval": 2,
    "queue": False,
    "maxframes": 1,
    "no_ff": False,
    "ff_strength": 0.8,
    "ff_threshold": 0.9,
}


class _PlainAttention:
    """One layer: its bank is a list of (K, V, O), one for each stored frame."""

    def __init__(self, name: str, case: dict[str, Any], arrays: dict[str, Any], number: int) -> None:
        self.fuses = name.startswith(("mid_block", "up_blocks.0", "up_blocks.1")) and not case["no_ff"]
        self.case = case
        self.arrays = arrays
        self.number = number
        self.call = 0
        self.bank: list[tuple[Tensor, Tensor, Tensor]] = []

    def keep(self, what: str, tensor: Tensor) -> None:
        self.arrays[f"layer/{self.call:03d}/{self.number:02d}/{what}"] = tensor.numpy().copy()

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        self.keep("attn1_in", hidden_states)
        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        all_k = torch.cat([k, *(frame[0] for frame in self.bank)], dim=1)
        all_v = torch.cat([v, *(frame[1] for frame in self.bank)], dim=1)
        heads = []
        for one_q, one_k, one_v in zip(*(x.chunk(attn.heads, dim=-1) for x in (q, all_k, all_v)), strict=True):
            weights = torch.softmax(one_q @ one_k.transpose(1, 2) / math.sqrt(one_q.shape[-1]), dim=-1)
            heads.append(weights @ one_v)
        plain = attn.to_out[0](torch.cat(heads, dim=-1))
        output = self.fuse(plain) if self.fuses and self.bank else plain
        self.keep("attn1_out", output)
        if self.case["mode"] == "bank":
            if self.call % self.case["interval"] == 0:
                self.store(k, v, plain)
            for what, parts in zip(("key", "value", "output"), zip(*self.bank, strict=True), strict=True):
                self.keep(f"bank_{what}", torch.cat(parts, dim=1))
        self.call += 1
        return output

    def fuse(self, output: Tensor) -> Tensor:
        remembered = torch.cat([frame[2] for frame in self.bank], dim=1)
        fused = output.clone()
        best, where = torch.zeros(output.shape[:2]), torch.zeros(output.shape[:2], dtype=torch.int64)
        for row in range(output.shape[0]):
            for token in range(output.shape[1]):
                similarity = torch.cosine_similarity(output[row, token][None], remembered[row])
                q = int(similarity.argmax())
                best[row, token], where[row, token] = similarity[q], q
                if similarity[q] >= self.case["ff_threshold"]:
                    a = self.case["ff_strength"]
                    fused[row, token] = (1 - a) * output[row, token] + a * remembered[row, q]
        self.keep("ff_maxcos", best)
        self.keep("ff_idx", where)
        return fused

    def store(self, k: Tensor, v: Tensor, o: Tensor) -> None:
        if self.case["queue"]:
            self.bank = [*self.bank, (k, v, o)][-self.case["maxframes"] :]
        elif not self.bank:
            self.bank = [(k, v, o)]
        else:
            self.bank = [self.merged(*(torch.cat(pair, dim=1) for pair in zip(self.bank[0], (k, v, o), strict=True)))]

    def merged(self, k: Tensor, v: Tensor, o: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, doubled, _ = k.shape
        generator = torch.Generator().manual_seed(1000 * self.call + self.number)
        permutation = torch.stack([torch.randperm(doubled, generator=generator) for _ in range(rows)])
        self.arrays[f"perm/{self.call:03d}/{self.number:02d}"] = permutation.numpy().astype(np.int16)
        result: list[list[Tensor]] = [[], [], []]
        for row in range(rows):
            sources, destinations = permutation[row].chunk(2)
            groups: list[list[int]] = [[int(d)] for d in destinations]
            for s in sources:
                similarity = torch.cosine_similarity(k[row, s][None], k[row, destinations])
                groups[int(similarity.argmax())].append(int(s))
            for feature, into in zip((k, v, o), result, strict=True):
                into.append(torch.stack([feature[row, group].mean(0) for group in groups]))
        merged_k, merged_v, merged_o = (torch.stack(rows_of) for rows_of in result)
        return merged_k, merged_v, merged_o


@torch.no_grad()
def write_case(folder: Path, unet: UNet2DConditionModel, **changes: Any) -> Path:
    """Run the method over random latents with ``changes`` of ``DEFAULTS``, and write case.json and case.npz."""
    case = DEFAULTS | changes
    steps, calls, size = len(case["t_index"]), case["calls"], 8
    generator = torch.Generator().manual_seed(7)
    channels = unet.config.in_channels
    first = torch.randn((1, channels, size, size), generator=generator)
    latents = first + 0.3 * torch.randn((calls, channels, size, size), generator=generator)
    noise = torch.randn((steps, channels, size, size), generator=generator)
    prompts = torch.randn((steps, 5, unet.config.cross_attention_dim), generator=generator)
    timesteps = torch.tensor([999 - 20 * i for i in case["t_index"]])
    share = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)[timesteps]
    alpha, beta = share.sqrt(), (1 - share).sqrt()
    c_skip = 0.25 / ((10.0 * timesteps) ** 2 + 0.25)
    c_out = 10.0 * timesteps / ((10.0 * timesteps) ** 2 + 0.25).sqrt()

    arrays: dict[str, Any] = {
        name: value.numpy()
        for name, value in {
            "latents": latents,
            "noise": noise,
            "prompt_embeds": prompts,
            "timesteps": timesteps,
            "alpha": alpha,
            "beta": beta,
            "c_skip": c_skip,
            "c_out": c_out,
        }.items()
    }
    order: list[str] = []
    modules = {name: m for name, m in unet.named_modules() if name.endswith("attn1")}
    handles = [m.register_forward_pre_hook(lambda _, __, name=name: order.append(name)) for name, m in modules.items()]
    unet(latents[:1], 0, prompts[:1])
    for handle in handles:
        handle.remove()
    processors = {name: m.processor for name, m in modules.items()}
    for number, name in enumerate(order):
        modules[name].processor = _PlainAttention(name, case, arrays, number)

    rows = [torch.zeros((channels, size, size)) for _ in range(steps)]
    taken: dict[str, list[Tensor]] = {"x_t_new": [], "unet_in": [], "model_pred": [], "x0_batch": []}
    for latent in latents:
        rows[0] = alpha[0] * latent + beta[0] * noise[0]
        batch = torch.stack(rows)
        prediction = unet(batch, timesteps, prompts).sample
        x0 = torch.stack(
            [c_out[k] * (batch[k] - beta[k] * prediction[k]) / alpha[k] + c_skip[k] * batch[k] for k in range(steps)]
        )
        for name, tensor in zip(taken, (rows[0], batch, prediction, x0), strict=True):
            taken[name].append(tensor)
        rows = [rows[0], *(alpha[k] * x0[k - 1] + beta[k] * noise[k] for k in range(1, steps))]
    for name, module in modules.items():
        module.processor = processors[name]
    arrays |= {name: torch.stack(tensors).numpy() for name, tensors in taken.items()}
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps(case | {"steps": steps, "layers": order}), encoding="utf-8")
    np.savez_compressed(folder / "case.npz", **arrays)
    return folder
