"""The translator one level below pictures: clean latents in, translated clean latents out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import TranslatorSettings, check_steps, lcm_indices
from streamv2v_obs.translator.attention import Observer
from streamv2v_obs.translator.bank import FeatureBank, FeaturesSnapshot
from streamv2v_obs.translator.carrying import Carry
from streamv2v_obs.translator.frame_cycle import FrameCycle
from streamv2v_obs.translator.lcm import PredictionType, row_constants
from streamv2v_obs.translator.motion import Motion
from streamv2v_obs.translator.noise import NoiseKind, kind_of_noise
from streamv2v_obs.translator.schedules import Schedule
from streamv2v_obs.translator.stream_batch import Departed, Origin, RowsSnapshot, StreamBatch
from streamv2v_obs.translator.unet_call import CallTrace, PredictingGraph, UNetCall


@dataclass(frozen=True)
class BankSnapshot:
    """A bank and the frames in flight beside it, as they stood between two frames (features None: bank off)."""

    features: FeaturesSnapshot | None
    rows: RowsSnapshot
    calls: int


class LatentTranslator:
    """Stream batch, feature bank and UNet together. One thread, the one that made it, calls all of it.

    ``latent_shape`` is (C, h, w). ``schedule: stream`` makes one UNet call of S rows a frame and answers S-1 frames
    late; ``sequential`` makes S calls of one row, each with that row's bank, and answers at once; ``auto`` is stream
    but for S = 1, where both are the same. What is computed beside the rows of the model's type is float32.

    ``row_by_row``: a call of S rows is S calls of one, so that threads may share them out among themselves.
    ``initial_noise`` is what the model was trained with; the settings may want another one.
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
        initial_noise: NoiseKind = "white",
    ) -> None:
        self.settings = settings
        self._noise_kind = kind_of_noise(settings.noise, initial_noise)
        self.looks = 0
        """Goes up wherever the next picture may look unlike those before it."""
        self.row_by_row = row_by_row
        self.unet = unet
        self._acp = acp
        self._device = device
        if indices is None:
            indices = lcm_indices(settings.strength, settings.steps)
        self.steps = len(indices)
        schedule: Schedule = "sequential" if settings.schedule == "sequential" or self.steps == 1 else "stream"
        self._unet_call = call = UNetCall(
            unet,
            prediction_type,
            settings,
            latent_shape,
            device,
            dtype,
            rows=self.steps,
            rows_in_a_call=self._rows_in_a_call(schedule),
            by_threads=row_by_row,
            observer=observer,
            trace=trace,
            keep_all_outputs=keep_all_outputs,
        )
        self.layers, self.attention, self.condition = call.layers, call.attention, call.condition
        self.prompts, self.times, self.extension = call.prompts, call.times, call.extension
        self.direct_keys, self.folds_output = call.direct_keys, call.folded.count > 0
        with torch.inference_mode():
            self.rows = StreamBatch(row_constants(acp, indices, device), latent_shape, device, self.prompts)
            self.times.compute(self.rows.constants.timesteps)
            self._carry = (
                Carry(settings.carry, self.steps, latent_shape, device, anchor_share=settings.anchor)
                if settings.carry > 0 or settings.anchor > 0
                else None
            )
        self._cycle = cycle = FrameCycle(call, self.rows, schedule, settings.bank, self._carry, row_by_row=row_by_row)
        # The parts of a frame's cycle, for whoever drives it in another way than ``step`` does.
        self.admit, self.compute, self.depart = cycle.admit, cycle.compute, cycle.depart
        self.compute_row, self.hand_down = cycle.compute_row, cycle.hand_down
        self.settle, self.prepare_update = cycle.settle, cycle.prepare_update
        self.set_seed(settings.seed)

    # --- frames ----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(
        self, latent: Tensor, prompt: Tensor, origin: Origin | None = None, motion: Motion | None = None
    ) -> Departed:
        """Take the clean latent (1, C, h, w) of a new frame; give what leaves, which says whose it is.

        ``prompt``: (1, L, D) of this frame, which keeps it to its end; or (S, L, D), which overwrites every row's.
        ``motion`` led from the frame before to this one; without it nothing is carried on into it.
        The bank's update is left for ``settle``, so that it delays nobody's picture.
        """
        warm_up = self.calls_to_warm_up
        if warm_up:
            self.rows.fill(latent)
        self.admit(prompt, origin, motion)
        for _ in range(warm_up):
            self.compute(latent)
        clean = self.compute(latent)
        return Departed(clean, self.depart())

    @property
    def calls_to_warm_up(self) -> int:
        """By how many calls the next frame goes ahead of itself, once ``rows.fill`` put it in every row; 0: none."""
        return self._cycle.calls_to_warm_up

    @torch.inference_mode()
    def flush(self) -> list[Departed]:
        """Advance the frames in flight without a new one until all have left; the next ``step`` starts warm."""
        departed = []
        while self.rows.waiting:
            self._cycle.ready()
            clean = self.compute(None)
            out = Departed(clean, self.depart())
            if out.origin is not None and not out.origin.copy:
                departed.append(out)
        self.forget_in_flight()
        return departed

    # --- what computes them ----------------------------------------------------------------------------------

    @property
    def schedule(self) -> Schedule:
        """The one in force."""
        return self._cycle.schedule

    @property
    def rows_in_a_call(self) -> int:
        """How many rows a UNet call holds."""
        return self._rows_in_a_call(self.schedule)

    def _rows_in_a_call(self, schedule: Schedule) -> int:
        return 1 if self.row_by_row or schedule == "sequential" else self.steps

    @property
    def graph(self) -> PredictingGraph | None:
        """Computes instead of the UNet where it is set and ready."""
        return self._unet_call.graph

    @graph.setter
    def graph(self, graph: PredictingGraph | None) -> None:
        self._unet_call.graph = graph

    @property
    def run_update(self) -> Callable[[Callable[[], None]], None]:
        """Runs the bank's update; whoever captures it in a graph puts that in its place."""
        return self._cycle.run_update

    @run_update.setter
    def run_update(self, run: Callable[[Callable[[], None]], None]) -> None:
        self._cycle.run_update = run

    # --- the bank --------------------------------------------------------------------------------------------

    @property
    def filled(self) -> float:
        """How full the bank is now, 0 .. 1, no update being done for it; 1 where there is none."""
        return self._cycle.filled

    @property
    def merge_due(self) -> bool:
        """Whether the next ``settle`` merges, and so uses partitions."""
        return self._cycle.merge_due

    @property
    def bank(self) -> FeatureBank | None:
        """The bank with every update done; None where it is off."""
        self.settle()
        return self._unet_call.bank

    def reset_bank(self) -> None:
        """As a new translator: empty the bank and start warm with the next frame.

        The frames in flight are dropped, since an old scene's rows must not write into a new bank.
        """
        self.forget_bank()
        self.forget_in_flight()

    def forget_in_flight(self) -> None:
        """Drop the frames in flight; the next one starts warm, and the bank stays."""
        self.rows.restart()
        self.forget_motion()

    def forget_motion(self) -> None:
        """Carry nothing of the pictures so far on into the next one."""
        self.looks += 1
        if self._carry is not None:
            self._carry.forget()

    def forget_bank(self) -> None:
        """Empty the bank, and leave the frames in flight alone; the next frame is stored whole."""
        self._cycle.go_on_from(0)
        if self._unet_call.bank is not None:
            self._unet_call.bank.clear()

    @torch.inference_mode()
    def snapshot(self) -> BankSnapshot:
        """A copy of all that a frame leaves behind; prompt, seed and strength are settings, and not in it."""
        bank = self.bank
        return BankSnapshot(bank.snapshot() if bank is not None else None, self.rows.snapshot(), self._cycle.frames)

    @torch.inference_mode()
    def restore(self, snapshot: BankSnapshot, *, in_flight: bool = True) -> None:
        """Go on from ``snapshot`` exactly as if nothing had happened since, but that nothing is carried into the next.

        ``in_flight=False`` brings back the bank alone and starts warm with the next frame: coming back to a scene,
        nobody wants to see the frames that were in flight when it was left. Raises ConfigError, with everything as it
        was, for a snapshot of another kind of bank, number of steps or size of picture.
        """
        bank = self._unet_call.bank
        same_rows = snapshot.rows.noised.shape == self.rows.noise.shape
        if (snapshot.features is None) != (bank is None) or not same_rows:
            raise ConfigError(
                "this bank was saved with another bank.kind, steps or picture size than now; reset the bank instead"
            )
        if bank is not None and snapshot.features is not None:
            bank.restore(snapshot.features)
        self._cycle.go_on_from(snapshot.calls)
        # One frame after the other leaves none in flight: those of a stream's snapshot would come out at the end.
        self.forget_in_flight()
        if in_flight and self.schedule == "stream":
            self.rows.restore(snapshot.rows)

    # --- what a live user changes, between two frames --------------------------------------------------------

    @torch.inference_mode()
    def set_seed(self, seed: int) -> None:
        """Another fixed noise from the next call on, and other partitions; the bank stays."""
        self.settle()
        self._cycle.seed = seed
        self.rows.draw_noise(seed, self._noise_kind)
        self.forget_motion()

    @torch.inference_mode()
    def set_strength(self, strength: float) -> None:
        """Other timesteps for all rows from the next call on; raises ConfigError where they would not be distinct."""
        try:
            check_steps(strength, self.steps)
        except ValueError as error:
            raise ConfigError(f"translator.strength: {error}") from error
        indices = lcm_indices(strength, self.steps)
        self.rows.set_constants(row_constants(self._acp, indices, self._device))
        self.forget_motion()
        self.times.compute(self.rows.constants.timesteps)

    def set_schedule(self, schedule: Schedule) -> None:
        """The other schedule from the next frame on; the bank stays, the frames in flight are dropped."""
        if schedule != self.schedule and self.steps > 1:
            self.settle()
            self._cycle.schedule = schedule
            self.forget_in_flight()

    @torch.inference_mode()
    def refresh(self) -> None:
        """The UNet's weights have changed: compute anew what is kept of them, in place."""
        self.forget_motion()
        self.extension.refresh()
        self.prompts.refresh()
        self.times.compute(self.rows.constants.timesteps)
        self._unet_call.folded.refresh()

    @torch.inference_mode()
    def set_fusion(self, strength: float) -> None:
        """Another share of the bank's feature from the next call on; without effect where fusion is off."""
        self.extension.strength.fill_(strength)

    def close(self) -> None:
        """Take everything out of the UNet again; no step after it."""
        self._cycle.closed = True
        self.extension.remove()
