"""The cycle of a frame: admitted into the rows, computed, departed, and at last settled into the bank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from streamv2v_obs.settings import BankSettings
from streamv2v_obs.translator.carrying import Carry
from streamv2v_obs.translator.merging import partitions
from streamv2v_obs.translator.motion import Motion
from streamv2v_obs.translator.schedules import Schedule
from streamv2v_obs.translator.stream_batch import Origin, StreamBatch
from streamv2v_obs.translator.unet_call import UNetCall


class FrameCycle:
    """A frame is ``admit``, ``compute``, ``depart``: only the one in the middle works on the device. Then ``settle``.

    ``settings`` are the bank's. ``row_by_row``: a call of S rows is S of one. ``carry`` has the last word on what
    leaves.
    """

    def __init__(
        self,
        call: UNetCall,
        rows: StreamBatch,
        schedule: Schedule,
        settings: BankSettings,
        carry: Carry | None,
        *,
        row_by_row: bool,
    ) -> None:
        self.schedule: Schedule = schedule
        self.run_update: Callable[[Callable[[], None]], None] = lambda update: update()
        """Runs the bank's update; whoever captures it in a graph puts that in its place."""
        self.seed = 0
        """Of partitions that are drawn."""
        self.frames = 0
        """Departed since the bank was empty."""
        self.closed = False
        self._call = call
        self._rows = rows
        self._bank = call.bank
        self._settings = settings
        self._carry = carry
        self._row_by_row = row_by_row
        self._update_due = False
        self._prepared = False
        self._origin: Origin | None = None

    # --- in and out, noted on the host -----------------------------------------------------------------------

    @property
    def calls_to_warm_up(self) -> int:
        """By how many calls the next frame goes ahead of itself, once ``rows.fill`` has put it in every row; 0: none.

        Where the method fills the rows by noising alone, the frame would come out of row k by S - k steps only: unlike
        every later picture, to the eye, to the bank that stores it, and once more whenever a scene's bank is restored.
        After S - 1 calls it stands in each row as a frame that came all the way.
        """
        return self._rows.size - 1 if self.schedule == "stream" and self._rows.starts else 0

    def admit(self, prompt: Tensor, origin: Origin | None, motion: Motion | None = None) -> None:
        """Note whose the next frame is; all that it needs is laid ready. ``prompt``: (1, L, D) or (S, L, D).

        ``motion`` led to it from the frame before; None: it is drawn by itself.
        """
        self.ready()
        if self._carry is not None:
            self._carry.admit(motion, alone=self.schedule == "sequential")
        if self.schedule == "stream":
            self._rows.admit(prompt, origin)
        else:
            self._origin = origin
            self._call.prompts.set_all(prompt)

    def ready(self) -> None:
        """Lay ready what a call needs. Raises RuntimeError once it is closed."""
        if self.closed:
            raise RuntimeError("this translator is closed")
        self.settle()
        # Another translator may have used the same UNet since; where none has, this costs one look-up.
        self._call.extension.install()

    def depart(self) -> Origin | None:
        """Note that a frame was computed; whose it is that left."""
        self._update_due = self._bank is not None and self.frames % self._settings.interval == 0
        self.frames += 1
        if self._carry is not None:
            self._carry.depart()
        return self._rows.depart() if self.schedule == "stream" else self._origin

    # --- on the device ---------------------------------------------------------------------------------------

    def compute(self, latent: Tensor | None) -> Tensor:
        """A frame's work on the device: the clean latent (1, C, h, w) that leaves, float32. None: no frame enters.

        Asks nothing of any tensor and notes nothing: the same operations on the same memory for every frame, as long
        as the bank is as full as it was.
        """
        rows = self._rows
        if self.schedule == "stream":
            if latent is not None:
                rows.noise_first(latent)
            if self._row_by_row:
                x0 = torch.cat([self.compute_row(row, None) for row in range(rows.size)])
                rows.noise_others(x0)
                return x0[-1:]
            every = slice(0, rows.size)
            x0 = self._call(every, rows.noised, rows.constants.of(every))
            rows.noise_others(x0)
            return self._leaving(x0[-1:])
        if latent is None:
            raise RuntimeError("one frame after another leaves none to be flushed")
        x0 = latent.to(torch.float32)
        for k in range(rows.size):
            row = slice(k, k + 1)
            constants = rows.constants.of(row)
            x0 = self._call(row, constants.alpha * x0 + constants.beta * rows.noise[row], constants)
        return self._leaving(x0)

    def compute_row(self, row: int, latent: Tensor | None) -> Tensor:
        """One row's clean latent (1, C, h, w); ``latent`` enters row 0. Threads may compute a row each.

        ``hand_down`` belongs after it.
        """
        if latent is not None:
            self._rows.noise_first(latent)
        rows = slice(row, row + 1)
        x0 = self._call(rows, self._rows.noised[rows], self._rows.constants.of(rows))
        return self._leaving(x0) if row == self._rows.size - 1 else x0

    def _leaving(self, x0: Tensor) -> Tensor:
        return x0 if self._carry is None else self._carry.compute(x0)

    @torch.inference_mode()
    def hand_down(self, x0: Tensor) -> None:
        """Noise the clean latents (S, C, h, w) of a frame's call anew, each for the row below its own."""
        self._rows.noise_others(x0)

    # --- into the bank ---------------------------------------------------------------------------------------

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
        """Lay ready what the update that is due needs, if one is: the host's work, done while the device computes."""
        if self._bank is None or self._prepared or not self.merge_due:
            return
        tokens = [layer.tokens for layer in self._bank.layers]
        how, update = self._settings.partition, self._bank.updates
        self._bank.prepare_update(partitions(how, self.seed, update, self._rows.size, tokens))
        self._prepared = True

    @property
    def filled(self) -> float:
        """How full the bank is now, 0 .. 1, no update being done for it; 1 where there is none."""
        return 1.0 if self._bank is None else self._bank.stored / self._bank.capacity

    @property
    def merge_due(self) -> bool:
        """Whether the next ``settle`` merges, and so uses partitions."""
        return self._bank is not None and self._update_due and self._bank.next_update_merges

    def go_on_from(self, frames: int) -> None:
        """Count on as after so many ``frames``; an update that was left undone is forgotten."""
        self.frames = frames
        self._update_due = self._prepared = False
