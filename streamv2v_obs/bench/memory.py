"""What a card needs memory for: SD 1.5's weights, bank and work of a frame, counted over tensors without contents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from streamv2v_obs.bench import results, shapes
from streamv2v_obs.bench.models import sd15_text_encoder, sd15_unet, taesd
from streamv2v_obs.bench.shapes import CPU, place
from streamv2v_obs.bench.subject import Say
from streamv2v_obs.settings import BankSettings, SpeedSettings, TranslatorSettings
from streamv2v_obs.translator.conformance import stable_diffusion_acp
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.pixels import Autoencoder
from streamv2v_obs.translator.rungs import Rungs
from streamv2v_obs.translator.static_frame import StaticFrame
from streamv2v_obs.translator.stream_batch import Origin

GIB = 2**30
CARDS_GIB = (4, 6, 8)
NOT_OURS_GIB = 1.0
"""Estimated: CUDA's context, the libraries' workspaces, what a desktop and the allocator's gaps take."""


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes that tensors made inside it hold at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        answer = func(*args, **(kwargs or {}))
        self._forget()
        for leaf in tree_leaves(answer):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                storage = leaf.untyped_storage()
                self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())  # type: ignore[no-untyped-call]
        self.bytes = max(self.bytes, sum(size for _, size in self._live.values()))
        return answer

    @property
    def standing(self) -> int:
        """Bytes that are held now."""
        self._forget()
        return sum(size for _, size in self._live.values())

    def _forget(self) -> None:
        gone = [key for key, (held, _) in self._live.items() if held.expired()]  # type: ignore[no-untyped-call]
        for key in gone:
            del self._live[key]


def bytes_of(module: torch.nn.Module) -> int:
    """Of a module's weights."""
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def count(unet: Any, coder: Any, steps: int, size: int, bank: str) -> results.Section:
    """GiB beside the weights, by what takes them. To be called in a FakeTensorMode."""
    shape = (int(unet.config.in_channels), size // 8, size // 8)
    settings = TranslatorSettings(
        steps=steps,
        schedule="stream" if steps > 1 else "auto",
        bank=BankSettings.model_validate({"kind": bank}),
        speed=SpeedSettings(padded_heads=False),
    )
    words = torch.zeros((1, 77, int(unet.config.cross_attention_dim)), dtype=torch.float16)
    with Peak() as kept:
        core = LatentTranslator(unet, stable_diffusion_acp(), "epsilon", settings, shape, CPU, torch.float16)
        with torch.inference_mode():
            core.admit(words, Origin(0.0, 0))
    standing = kept.standing
    rungs = Rungs(graphs=False, compile=False, pinned=False, late_update=True)
    frame = StaticFrame(core, Autoencoder(coder), (size, size), rungs)
    with torch.inference_mode():
        frame.frame()
        core.depart()
        core.settle()
        core.admit(words, Origin(0.0, 1))
        with Peak() as working:
            frame.frame()
        with Peak() as updating:
            if core.bank is not None:
                partitions = [torch.zeros((steps, 2 * layer.tokens), dtype=torch.int64) for layer in core.layers]
                core.bank.prepare_update(partitions)
                core.bank.compute_update()
        core.depart()
        held = []
        with Peak() as later:
            # One interval of the bank and a frame: every kind of frame, and an update.
            for number in range(2, 3 + settings.bank.interval):
                core.admit(words, Origin(0.0, number))
                frame.frame()
                core.depart()
                core.settle()
                held.append(later.standing)
    bank_bytes = 0 if core.bank is None else core.bank.bytes
    core.close()
    found = {
        "bank_gib": bank_bytes,
        "kept_gib": standing - bank_bytes,
        "frame_gib": working.bytes,
        "update_gib": updating.bytes,
    }
    return {name: round(value / GIB, 3) for name, value in found.items()} | {"grown_bytes": max(held)}


def measure(out: Path, say: Say, sizes: tuple[int, ...] = (512, 384), small: Any = None) -> Path:
    """Write ``out``/memory_sd15.json; ``small`` makes a UNet and an autoencoder in place of the real ones."""
    load_before = results.load_now()
    with torch.device("meta"):
        unet, coder = small() if small is not None else (sd15_unet(), taesd())
        text = sd15_text_encoder()
    for module in (unet, coder, text):
        module.half().eval().requires_grad_(False)
    weights = {"unet": bytes_of(unet), "autoencoder": bytes_of(coder), "text encoder": bytes_of(text)}
    weights_gib = sum(weights.values()) / GIB
    rows: results.Section = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        place(unet)
        place(coder)
        for size in sizes:
            for steps in (1, 2, 4):
                for bank in ("dyme", "off"):
                    parts = count(unet, coder, steps, size, bank)
                    work = max(parts["frame_gib"], parts["update_gib"])
                    total = weights_gib + parts["bank_gib"] + parts["kept_gib"] + work + NOT_OURS_GIB
                    fits = [card for card in CARDS_GIB if total <= card]
                    rows[f"{size} s{steps} {bank}"] = parts | {"total_gib": round(total, 2), "fits_gib": fits}
                    say(f"{size}x{size}, {steps} steps, bank {bank}: {total:.2f} GiB, fits cards of {fits} GiB")
    path = out / "memory_sd15.json"
    return shapes.write(
        path,
        steps=1,
        size=sizes[0],
        tensors="torch's fake tensors",
        found={
            "memory": {
                "weights_mib": round(sum(weights.values()) / 2**20, 1),
                "grown_bytes": max(row["grown_bytes"] for row in rows.values()),
            },
            "fits": rows,
            "weights_gib": {name: round(value / GIB, 3) for name, value in weights.items()},
            "not_ours_gib": NOT_OURS_GIB,
        },
        notes="Nothing was run. bank: K, V and O and the current frame's; kept: joined projections, keys of the "
        "prompt, partitions and the like; frame, update: the most that tensors of their work hold at one time, "
        "attention without its matrix. grown: what the frames after the second, an update among them, left behind. "
        "not_ours: an estimate of CUDA's context, workspaces and the desktop. Banks kept for scenes to "
        "come back to are left out: each takes up to another bank_gib. config is about the first row; each "
        "row's name says its size, steps and bank.",
        load_before=load_before,
        includes=("encode", "unet", "bank-update", "scheduler", "decode"),
    )
