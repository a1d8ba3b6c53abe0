"""What the UNet makes of each row's timestep: constants until the strength or the weights change."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D, ResnetBlockCondNorm2D
from torch import Tensor, nn

from streamv2v_obs.translator.rows_in_call import RowsInCall, RowsOfAll


class RowTimes:
    """The time embedding of S rows as every residual block takes it, in memory that stays.

    ``put_in`` makes the UNet read from here, ``take_out`` undoes it: weights and modules are those of before.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        rows: int,
        condition: Tensor | None,
        *,
        cached: bool,
        in_call: RowsInCall | None = None,
    ) -> None:
        self.in_call = in_call or RowsOfAll()
        self._unet: Any = unet
        self._condition = condition
        # Blocks of other kinds read the embedding itself, and so would an activation after it.
        odd = unet.config.get("time_embedding_act_fn") is not None
        odd = odd or any(isinstance(module, ResnetBlockCondNorm2D) for module in unet.modules())
        self._cached = cached and not odd
        blocks = [module for module in unet.modules() if isinstance(module, ResnetBlock2D)] if self._cached else []
        self._blocks: list[Any] = [block for block in blocks if block.time_emb_proj is not None]
        parameter = next(unet.parameters())
        self._own = (unet.time_proj, unet.time_embedding)
        self._projections = [block.time_emb_proj for block in self._blocks]
        self._skipped = [block.skip_time_act for block in self._blocks]
        self._given = [
            torch.zeros((rows, projection.out_features), device=parameter.device, dtype=parameter.dtype)
            for projection in self._projections
        ]
        # Embedding and its sinusoid are not read any more; the UNet asks for something all the same.
        self._nothing = torch.zeros((1, 1), device=parameter.device, dtype=parameter.dtype)
        self._put = False

    def compute(self, timesteps: Tensor) -> None:
        """The embeddings of all rows anew, in place; ``timesteps`` int64 (S,)."""
        if not self._cached:
            return
        sinusoid, embedding = self._own
        dtype = self._nothing.dtype
        condition = None if self._condition is None else self._condition.expand(len(timesteps), -1)
        embedded = embedding(sinusoid(timesteps).to(dtype), condition)
        for block, projection, skipped, given in zip(
            self._blocks, self._projections, self._skipped, self._given, strict=True
        ):
            given.copy_(projection(embedded if skipped else block.nonlinearity(embedded)))

    def put_in(self) -> None:
        """Make the UNet read from here."""
        if self._put or not self._cached:
            return
        self._put = True
        self._unet.time_proj, self._unet.time_embedding = _Nothing(self._nothing), _Nothing(self._nothing)
        for block, given in zip(self._blocks, self._given, strict=True):
            block.time_emb_proj = _Given(self, given)
            block.skip_time_act = True

    def take_out(self) -> None:
        """Put back what was there."""
        if not self._put:
            return
        self._put = False
        self._unet.time_proj, self._unet.time_embedding = self._own
        for block, projection, skipped in zip(self._blocks, self._projections, self._skipped, strict=True):
            block.time_emb_proj = projection
            block.skip_time_act = skipped


class _Nothing(nn.Module):
    """Gives what nobody reads."""

    def __init__(self, nothing: Tensor) -> None:
        super().__init__()
        self._nothing = nothing

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return self._nothing


class _Given(nn.Module):
    """A residual block's share of the time embedding, (rows, C)."""

    def __init__(self, owner: RowTimes, given: Tensor) -> None:
        super().__init__()
        # Past nn.Module's own care, which would enter the owner's UNet here as a part of itself.
        object.__setattr__(self, "owner", owner)
        self._given = given

    def forward(self, _: Tensor) -> Tensor:
        owner: RowTimes = self.owner  # type: ignore[assignment]
        return self._given[owner.in_call.rows]
