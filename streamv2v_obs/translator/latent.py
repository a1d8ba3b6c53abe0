"""The translator one level below pictures: clean latents in, translated clean latents out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import TranslatorSettings, check_steps, lcm_indices
from streamv2v_obs.translator.attention import ExtendedAttention, Observer, attend_sdpa, find_layers, levels_of
from streamv2v_obs.translator.bank import FeatureBank, FeaturesSnapshot
from streamv2v_obs.translator.kernels import choose_kernels, described
from streamv2v_obs.translator.lcm import GUIDANCE, PredictionType, clean_latent, guidance_condition, row_constants
from streamv2v_obs.translator.merging import draw_partitions
from streamv2v_obs.translator.row_prompts import RowPrompts, cross_attentions
from streamv2v_obs.translator.row_times import RowTimes
from streamv2v_obs.translator.rows_in_call import rows_in_call
from streamv2v_obs.translator.stream_batch import Departed, Origin, RowsSnapshot, StreamBatch


@dataclass(frozen=True)
class BankSnapshot:
    """A bank and the frames in flight beside it, as they stood between two frames (features None: bank off)."""

    features: FeaturesSnapshot | None
    rows: RowsSnapshot
    calls: int


@dataclass(frozen=True)
class CallTrace:
    """What one UNet call took and gave, each float32 (rows, C, h, w)."""

    unet_in: Tensor
    prediction: Tensor
    x0: Tensor


class PredictingGraph(Protocol):
    """A UNet call by other means than torch: it reads the bank and writes the frame's features into it itself."""

    @property
    def ready(self) -> bool: ...
    def __call__(self, rows: slice, noised: Tensor, timesteps: Tensor, prompts: Tensor) -> Tensor: ...


class LatentTranslator:
    """Stream batch, feature bank and UNet together. One thread, the one that made it, calls all of it.

    ``latent_shape`` is (C, h, w). ``schedule: stream`` makes one UNet call of S rows a frame and answers S-1 frames
    late; ``sequential`` makes S calls of one row, each with that row's bank, and answers at once; ``auto`` is stream
    but for S = 1, where both are the same. What is computed beside the rows of the model's type is float32.

    ``row_by_row``: a call of S rows is S calls of one, so that threads may share them out among themselves.
    ``indices`` stand in for the timesteps that strength and steps give. ``observer`` sees every layer, ``trace``
    every UNet call, ``keep_all_outputs`` stores O where nothing is fused, too: all three for conformance runs.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        acp: Tensor,
        prediction_type: PredictionType,
        settings: TranslatorSettings,
        latent_shape: tuple[int, int, int],
        device: torch.device,
        dtype: torch.dtype,
        *,
        indices: Sequence[int] | None = None,
        observer: Observer | None = None,
        trace: Callable[[CallTrace], None] | None = None,
        keep_all_outputs: bool = False,
        row_by_row: bool = False,
    ) -> None:
        self.settings = settings
        self.row_by_row = row_by_row
        self.unet = unet
        self._acp = acp
        self._prediction_type = prediction_type
        self._device = device
        self._dtype = dtype
        self._trace = trace
        if indices is None:
            indices = lcm_indices(settings.strength, settings.steps)
        self.steps = len(indices)
        self.schedule: Literal["stream", "sequential"] = (
            "sequential" if settings.schedule == "sequential" or self.steps == 1 else "stream"
        )
        speed = settings.speed
        layers = find_layers(unet, latent_shape, settings.fusion)
        capacity = 0 if settings.bank.kind == "off" else settings.bank.length if settings.bank.kind == "queue" else 1
        levels = levels_of(unet, layers, self.rows_in_a_call, capacity)
        kernels = choose_kernels(settings.attention, levels, speed.padded_heads, device, dtype)
        self.attention = described(levels, kernels)
        self.layers = layers = tuple(
            replace(layer, widened=level.heads * kernel.width if kernel.width > level.width else None)
            for layer, level, kernel in zip(layers, levels, kernels, strict=True)
        )
        self.condition = self._guidance_condition()
        self._in_call = rows_in_call(by_threads=row_by_row)
        with torch.inference_mode():
            cached = cross_attentions(unet) if speed.cached_prompt else ()
            self.prompts = RowPrompts(self.steps, device, dtype, tuple(cached), self._in_call)
            self.times = RowTimes(
                unet, self.steps, self.condition, cached=bool(speed.cached_time), in_call=self._in_call
            )
            self.rows = StreamBatch(row_constants(acp, indices, device), latent_shape, device, self.prompts)
            self.times.compute(self.rows.constants.timesteps)
            self._bank: FeatureBank | None = None
            if settings.bank.kind != "off":
                self._bank = FeatureBank(
                    layers,
                    self.steps,
                    kind=settings.bank.kind,
                    length=settings.bank.length,
                    attended=settings.bank.attend,
                    device=device,
                    dtype=dtype,
                    keep_all_outputs=keep_all_outputs,
                )
            self.extension = ExtendedAttention(
                unet,
                layers,
                self._bank,
                settings.fusion,
                attend_sdpa,
                observer,
                kernels=kernels,
                joined=bool(speed.joined_qkv),
                companions=(self.prompts, self.times),
                in_call=self._in_call,
            )
        self.graph: PredictingGraph | None = None
        """Computes instead of the UNet where it is set and ready."""
        self.run_update: Callable[[Callable[[], None]], None] = lambda update: update()
        """Runs the bank's update; whoever captures it in a graph puts that in its place."""
        self._calls = 0
        self._update_due = False
        self._prepared = False
        self._origin: Origin | None = None
        self._closed = False
        self._seed = settings.seed
        self.set_seed(settings.seed)

    # --- frames ----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(self, latent: Tensor, prompt: Tensor, origin: Origin | None = None) -> Departed:
        """Take the clean latent (1, C, h, w) of a new frame; give what leaves, which says whose it is.

        ``prompt``: (1, L, D) of this frame, which keeps it to its end; or (S, L, D), which overwrites every row's.
        The bank's update is left for ``settle``, so that it delays nobody's picture.
        """
        warm_up = self.calls_to_warm_up
        if warm_up:
            self.rows.fill(latent)
        self.admit(prompt, origin)
        for _ in range(warm_up):
            self.compute(latent)
        clean = self.compute(latent)
        return Departed(clean, self.depart())

    @property
    def calls_to_warm_up(self) -> int:
        """By how many calls the next frame goes ahead of itself, once ``rows.fill`` has put it in every row; 0: none.

        Where the method fills the rows by noising alone, the frame would come out of row k by S - k steps only: unlike
        every later picture, to the eye, to the bank that stores it, and once more whenever a scene's bank is restored.
        After S - 1 calls it stands in each row as a frame that came all the way.
        """
        return self.steps - 1 if self.schedule == "stream" and self.rows.starts else 0

    @torch.inference_mode()
    def flush(self) -> list[Departed]:
        """Advance the frames in flight without a new one until all have left; the next ``step`` starts warm."""
        departed = []
        while self.rows.waiting:
            self._ready()
            clean = self.compute(None)
            out = Departed(clean, self.depart())
            if out.origin is not None and not out.origin.copy:
                departed.append(out)
        self.rows.restart()
        return departed

    # A frame is ``admit``, ``compute``, ``depart``: only the one in the middle works on the device.

    def admit(self, prompt: Tensor, origin: Origin | None) -> None:
        """Note whose the next frame is; all that it needs is laid ready."""
        self._ready()
        if self.schedule == "stream":
            self.rows.admit(prompt, origin)
        else:
            self._origin = origin
            self.prompts.set_all(prompt)

    def _ready(self) -> None:
        if self._closed:
            raise RuntimeError("this translator is closed")
        self.settle()
        # Another translator may have used the same UNet since; where none has, this costs one look-up.
        self.extension.install()

    def compute(self, latent: Tensor | None) -> Tensor:
        """A frame's work on the device: the clean latent (1, C, h, w) that leaves, float32. None: no frame enters.

        Asks nothing of any tensor and notes nothing: the same operations on the same memory for every frame, as long
        as the bank is as full as it was.
        """
        if self.schedule == "stream":
            if latent is not None:
                self.rows.noise_first(latent)
            if self.row_by_row:
                x0 = torch.cat([self.compute_row(row, None) for row in range(self.steps)])
            else:
                x0 = self._call(slice(0, self.steps), self.rows.noised)
            self.rows.noise_others(x0)
            return x0[-1:]
        if latent is None:
            raise RuntimeError("one frame after another leaves none to be flushed")
        x0 = latent.to(torch.float32)
        for k in range(self.steps):
            constants = self.rows.constants.of(slice(k, k + 1))
            x0 = self._call(slice(k, k + 1), constants.alpha * x0 + constants.beta * self.rows.noise[k : k + 1])
        return x0

    def compute_row(self, row: int, latent: Tensor | None) -> Tensor:
        """One row's clean latent (1, C, h, w); ``latent`` enters row 0. Threads may compute a row each.

        ``hand_down`` belongs after it.
        """
        if latent is not None:
            self.rows.noise_first(latent)
        rows = slice(row, row + 1)
        return self._call(rows, self.rows.noised[rows])

    @torch.inference_mode()
    def hand_down(self, x0: Tensor) -> None:
        """Noise the clean latents (S, C, h, w) of a frame's call anew, each for the row below its own."""
        self.rows.noise_others(x0)

    def depart(self) -> Origin | None:
        """Note that a frame was computed; whose it is that left."""
        self._update_due = self._bank is not None and self._calls % self.settings.bank.interval == 0
        self._calls += 1
        return self.rows.depart() if self.schedule == "stream" else self._origin

    def _call(self, rows: slice, noised: Tensor) -> Tensor:
        """One UNet call over ``rows``: their clean latents, float32."""
        embeddings = self.prompts.embeddings
        if embeddings is None:
            raise RuntimeError("no frame has entered yet")
        constants = self.rows.constants.of(rows)
        if self.graph is not None and self.graph.ready:
            prediction = self.graph(rows, noised, constants.timesteps, embeddings[rows])
        else:
            self._in_call.rows = rows
            (prediction,) = self.unet(
                noised.to(self._dtype),
                constants.timesteps,
                timestep_cond=None if self.condition is None else self.condition.expand(len(noised), -1),
                encoder_hidden_states=embeddings[rows].to(self._dtype),
                return_dict=False,
            )
        x0 = clean_latent(noised, prediction, constants, self._prediction_type)
        if self._trace is not None:
            self._trace(CallTrace(noised.clone(), prediction.float(), x0))
        return x0

    def _guidance_condition(self) -> Tensor | None:
        width = self.unet.config.get("time_cond_proj_dim")
        wanted = self.settings.guidance
        if width is not None:
            return guidance_condition(wanted or GUIDANCE, width).to(self._device, self._dtype)
        if wanted is not None:
            raise ConfigError(
                f"translator.guidance = {wanted:g}: this model was not distilled with guidance, and classifier-free "
                "guidance would double the work of each frame; allowed: null"
            )
        return None

    @property
    def rows_in_a_call(self) -> int:
        """How many rows a UNet call holds."""
        return 1 if self.row_by_row or self.schedule == "sequential" else self.steps

    # --- the bank --------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def settle(self, partitions: Sequence[Tensor] | None = None) -> None:
        """Do the bank's update that the last frame left undone, if it left one.

        Meant to be called once the frame was handed on; whatever needs the bank does it first where nobody did.
        ``partitions`` stand in for the drawn ones: for each layer int64 (S, 2M), indices into [bank, current frame].
        """
        if self._bank is None or not self._update_due:
            return
        if partitions is not None:
            self._bank.prepare_update(partitions)
        else:
            self.prepare_update()
        self.run_update(self._bank.compute_update)
        self._bank.count_update()
        self._update_due = self._prepared = False

    @torch.inference_mode()
    def prepare_update(self) -> None:
        """Draw what the update that is due needs, if one is: the host's work, done while the device computes."""
        if self._bank is None or self._prepared or not self.merge_due:
            return
        tokens = [layer.tokens for layer in self.layers]
        self._bank.prepare_update(draw_partitions(self._seed, self._bank.updates, self.steps, tokens))
        self._prepared = True

    @property
    def filled(self) -> float:
        """How full the bank is now, 0 .. 1, no update being done for it; 1 where there is none."""
        return 1.0 if self._bank is None else self._bank.stored / self._bank.capacity

    @property
    def merge_due(self) -> bool:
        """Whether the next ``settle`` merges, and so uses partitions."""
        return self._bank is not None and self._update_due and self._bank.next_update_merges

    @property
    def bank(self) -> FeatureBank | None:
        """The bank with every update done; None where it is off."""
        self.settle()
        return self._bank

    def reset_bank(self) -> None:
        """As a new translator: empty the bank and start warm with the next frame.

        The frames in flight are dropped, since an old scene's rows must not write into a new bank.
        """
        self.forget_bank()
        self.forget_in_flight()

    def forget_in_flight(self) -> None:
        """Drop the frames in flight; the next one starts warm, and the bank stays."""
        self.rows.restart()

    def forget_bank(self) -> None:
        """Empty the bank, and leave the frames in flight alone; the next frame is stored whole."""
        self._update_due = self._prepared = False
        self._calls = 0
        if self._bank is not None:
            self._bank.clear()

    @torch.inference_mode()
    def snapshot(self) -> BankSnapshot:
        """A copy of all that a frame leaves behind; prompt, seed and strength are settings, and not in it."""
        bank = self.bank
        return BankSnapshot(bank.snapshot() if bank is not None else None, self.rows.snapshot(), self._calls)

    @torch.inference_mode()
    def restore(self, snapshot: BankSnapshot, *, in_flight: bool = True) -> None:
        """Go on from ``snapshot`` exactly as if nothing had happened since.

        ``in_flight=False`` brings back the bank alone and starts warm with the next frame: coming back to a scene,
        nobody wants to see the frames that were in flight when it was left. Raises ConfigError, with everything as it
        was, for a snapshot of another kind of bank, number of steps or size of picture.
        """
        same_rows = snapshot.rows.noised.shape == self.rows.noise.shape
        if (snapshot.features is None) != (self._bank is None) or not same_rows:
            raise ConfigError(
                "this bank was saved with another bank.kind, steps or picture size than now; reset the bank instead"
            )
        if self._bank is not None and snapshot.features is not None:
            self._bank.restore(snapshot.features)
        self._update_due = self._prepared = False
        self._calls = snapshot.calls
        # One frame after the other leaves none in flight: those of a stream's snapshot would come out at the end.
        if in_flight and self.schedule == "stream":
            self.rows.restore(snapshot.rows)
        else:
            self.rows.restart()

    # --- what a live user changes, between two frames --------------------------------------------------------

    @torch.inference_mode()
    def set_seed(self, seed: int) -> None:
        """Another fixed noise from the next call on, and other partitions; the bank stays."""
        self.settle()
        self._seed = seed
        self.rows.draw_noise(seed)

    @torch.inference_mode()
    def set_strength(self, strength: float) -> None:
        """Other timesteps for all rows from the next call on; raises ConfigError where they would not be distinct."""
        try:
            check_steps(strength, self.steps)
        except ValueError as error:
            raise ConfigError(f"translator.strength: {error}") from error
        indices = lcm_indices(strength, self.steps)
        self.rows.set_constants(row_constants(self._acp, indices, self._device))
        self.times.compute(self.rows.constants.timesteps)

    def set_schedule(self, schedule: Literal["stream", "sequential"]) -> None:
        """The other schedule from the next frame on; the bank stays, the frames in flight are dropped."""
        if schedule != self.schedule and self.steps > 1:
            self.settle()
            self.schedule = schedule
            self.rows.restart()

    @torch.inference_mode()
    def refresh(self) -> None:
        """The UNet's weights have changed: compute anew what is kept of them, in place."""
        self.extension.refresh()
        self.prompts.refresh()
        self.times.compute(self.rows.constants.timesteps)

    @torch.inference_mode()
    def set_fusion(self, strength: float) -> None:
        """Another share of the bank's feature from the next call on; without effect where fusion is off."""
        self.extension.strength.fill_(strength)

    def close(self) -> None:
        """Take everything out of the UNet again; no step after it."""
        self._closed = True
        self.extension.remove()
