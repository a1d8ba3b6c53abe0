"""The published order of operations, written down plainly: the arm that ours is compared with.

Per layer and call: concatenate current and remembered keys and values, attend, project, fuse over the whole similarity
matrix, and on every 4th frame merge at once, inside the call, so that the picture waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention

from streamv2v_obs.frames import Frame, Tag
from streamv2v_obs.settings import TranslatorSettings, lcm_indices
from streamv2v_obs.translator.attention import find_layers, take_out
from streamv2v_obs.translator.lcm import clean_latent, row_constants
from streamv2v_obs.translator.loading import Model
from streamv2v_obs.translator.noise import kind_of_noise
from streamv2v_obs.translator.stream_batch import Origin, StreamBatch

Draw: TypeAlias = Callable[[int, int, int], Tensor]
"""(update, layer, rows) -> a partition, int64 (rows, 2M), of [bank, current frame]; first half sources."""


class _Layer:
    """One self-attention layer with its bank: (K, V, O) or nothing."""

    def __init__(self, owner: ReferenceTranslator, number: int, fuses: bool) -> None:
        self.owner = owner
        self.number = number
        self.fuses = fuses
        self.bank: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        queries, keys, values = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        all_keys, all_values = keys, values
        if self.bank is not None:
            all_keys, all_values = torch.cat([keys, self.bank[0]], 1), torch.cat([values, self.bank[1]], 1)

        def heads(tokens: Tensor) -> Tensor:
            return tokens.view(*tokens.shape[:2], attn.heads, -1).transpose(1, 2)

        attended = scaled_dot_product_attention(heads(queries), heads(all_keys), heads(all_values))
        plain: Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2))
        output = plain
        if self.fuses and self.bank is not None:
            output = self._fused(plain, self.bank[2])
        if self.owner.updating:
            self._store(keys, values, plain)
        return output

    def _fused(self, output: Tensor, remembered: Tensor) -> Tensor:
        settings = self.owner.settings.fusion
        similarity = normalize(output.float(), dim=-1) @ normalize(remembered.float(), dim=-1).transpose(1, 2)
        best, index = similarity.max(-1)
        nearest = torch.gather(remembered, 1, index.unsqueeze(-1).expand_as(output))
        blended = (1 - settings.strength) * output.float() + settings.strength * nearest.float()
        return torch.where((best >= settings.threshold).unsqueeze(-1), blended.to(output.dtype), output)

    def _store(self, keys: Tensor, values: Tensor, output: Tensor) -> None:
        if self.bank is None:
            self.bank = (keys, values, output)
            return
        both = [torch.cat([old, new], 1) for old, new in zip(self.bank, (keys, values, output), strict=True)]
        rows, doubled, _ = both[0].shape
        partition = self.owner.draw(self.owner.updates, self.number, rows).to(keys.device)
        first, second = partition[:, : doubled // 2], partition[:, doubled // 2 :]

        def at(tokens: Tensor, where: Tensor) -> Tensor:
            return torch.gather(tokens, 1, where.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))

        unit = normalize(both[0].float(), dim=-1).to(keys.dtype)
        nearest = (at(unit, first) @ at(unit, second).transpose(1, 2)).argmax(-1)
        merged = []
        for feature in both:
            destination = at(feature, second).float()
            where = nearest.unsqueeze(-1).expand_as(destination)
            mean = destination.scatter_reduce(1, where, at(feature, first).float(), reduce="mean", include_self=True)
            merged.append(mean.to(feature.dtype))
        self.bank = (merged[0], merged[1], merged[2])


class ReferenceTranslator:
    """Pictures in and out, as ``Translator``; dynamic merging alone. ``draw`` stands in for random partitions."""

    def __init__(
        self, model: Model, settings: TranslatorSettings, width: int, height: int, draw: Draw | None = None
    ) -> None:
        self.settings = settings
        self.updating = False
        self.updates = 0
        self._model = model
        coder = model.autoencoder
        shape = (coder.latent_channels, height // coder.factor, width // coder.factor)
        found = find_layers(model.unet, shape, settings.fusion)
        self.tokens = [layer.tokens for layer in found]
        modules = dict(model.unet.named_modules())
        self._layers = [_Layer(self, number, layer.fuses) for number, layer in enumerate(found)]
        self._attentions: list[Any] = [modules[layer.name] for layer in found]
        self._before = [attention.processor for attention in self._attentions]
        self.draw = draw or self._draw
        indices = lcm_indices(settings.strength, settings.steps)
        with torch.inference_mode():
            self._rows = StreamBatch(row_constants(model.acp, indices, model.device), shape, model.device)
            self._rows.draw_noise(settings.seed, kind_of_noise(settings.noise, model.initial_noise))
        self._calls = 0
        self.set_prompt(settings.prompt)

    def set_prompt(self, prompt: str) -> None:
        """From the next frame on."""
        self._prompt = self._model.text.encode(prompt)

    def _draw(self, update: int, layer: int, rows: int) -> Tensor:
        return torch.rand((rows, 2 * self.tokens[layer]), device=self._model.device).argsort(-1)

    @torch.inference_mode()
    def step(self, frame: Frame) -> Frame | None:
        """Take a picture; give the one that leaves."""
        if self._attentions[0].processor is not self._layers[0]:
            take_out(self._model.unet)  # ours, and what it keeps of prompts and times
            for attention, layer in zip(self._attentions, self._layers, strict=True):
                attention.processor = layer
        rows, model = self._rows, self._model
        latent = model.autoencoder.encode(frame.pixels)
        starts = rows.starts
        rows.enter(latent, self._prompt, Origin(frame.captured_at, frame.index))
        if starts:
            # Our own warm start, not the published one: the pictures are to be compared from the first one on.
            self.updating = False
            for _ in range(rows.size - 1):
                rows.noise_others(self._clean())
        self.updating = self._calls % self.settings.bank.interval == 0
        clean = self._clean()
        self._calls += 1
        self.updates += self.updating
        departed = rows.advance(clean)
        if departed.origin is None:
            return None
        pixels = model.autoencoder.decode(departed.latent.to(model.dtype))
        return Frame(pixels, departed.origin.captured_at, departed.origin.index, Tag.TRANSLATED)

    def _clean(self) -> Tensor:
        """One UNet call over all rows: their clean latents (S, C, h, w)."""
        rows, model = self._rows, self._model
        (prediction,) = model.unet(
            rows.noised.to(model.dtype),
            rows.constants.timesteps,
            encoder_hidden_states=rows.prompts,
            return_dict=False,
        )
        return clean_latent(rows.noised, prediction, rows.constants, model.prediction_type)

    def settle(self) -> None:
        """Nothing is ever left undone."""

    @property
    def schedule(self) -> Literal["stream", "sequential"]:
        """Stream batch, always."""
        return "stream"

    @property
    def backend(self) -> Literal["torch", "openvino"]:
        """torch, always."""
        return "torch"

    @property
    def path(self) -> str:
        """The published order of operations, always."""
        return "plain"

    @property
    def bank_updates(self) -> int:
        """The first store included."""
        return self.updates

    @property
    def bank_bytes(self) -> int:
        """Of what the bank holds now."""
        parts = (part for layer in self._layers if layer.bank is not None for part in layer.bank)
        return sum(part.numel() * part.element_size() for part in parts)

    def close(self) -> None:
        """Leave the UNet as it was."""
        for attention, processor in zip(self._attentions, self._before, strict=True):
            attention.processor = processor
