"""Faults inside an engine that cannot be had from outside: its translator is made to hang or to fail on order.

A file ``sitecustomize.py``, which Python loads first in every process that has its folder on PYTHONPATH, wraps
what prepares a loaded model, and the end of ``Translator.step``. The program itself has no such switch.
"""

from __future__ import annotations

import os
from pathlib import Path

_VARIABLE = "STREAMV2V_FAULTS"
_CODE = '''
"""Written by a measurement: makes the translator fail on order; see streamv2v_obs/bench/fault_injection.py."""
import importlib.abc, importlib.util, os, sys, time

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name not in HURT:
            return None
        hurt_it = HURT.pop(name)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            hurt_it(module)
        spec.loader.exec_module = exec_module
        return spec

def ordered(fault):
    try:
        os.remove(os.path.join(os.environ["STREAMV2V_FAULTS"], fault))
    except OSError:
        return False
    return True

def hurt_loading(module):
    quicken = module.quicken
    def hurt(*given):
        if ordered("memory-at-load"):
            import torch
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return quicken(*given)
    module.quicken = hurt

def hurt_translating(module):
    shown = module.Translator._shown
    wounds = []
    def hurt(translator, *made):
        wounds.extend(fault for fault in ("hang", "sticky", "memory") if ordered(fault))
        if "hang" in wounds:
            time.sleep(1e6)
        if "sticky" in wounds:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if "memory" in wounds:
            import torch
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return shown(translator, *made)
    module.Translator._shown = hurt

HURT = {
    "streamv2v_obs.translator.loading": hurt_loading,
    "streamv2v_obs.translator.translator": hurt_translating,
}
sys.meta_path.insert(0, Finder())
'''


class Injection:
    """Orders for the engine of one service, which has to be started with ``environment``."""

    def __init__(self, folder: Path) -> None:
        self._orders = folder / "orders"
        self._orders.mkdir(parents=True)
        (folder / "sitecustomize.py").write_text(_CODE, encoding="utf-8")
        before = os.environ.get("PYTHONPATH")
        self.environment = {
            _VARIABLE: str(self._orders),
            "PYTHONPATH": os.pathsep.join([str(folder), *([before] if before else [])]),
        }

    @property
    def left(self) -> set[str]:
        """Orders that have not been carried out yet."""
        return {path.name for path in self._orders.iterdir()}

    def hang(self) -> None:
        """The next picture's translation never returns; the engine's other threads live on."""
        self._order("hang")

    def sticky_error(self) -> None:
        """From now on every picture fails as a GPU does after an illegal access: for the rest of that process."""
        self._order("sticky")

    def out_of_memory(self) -> None:
        """The GPU's memory is at its end."""
        self._order("memory")

    def out_of_memory_at_load(self) -> None:
        """The GPU's memory does not take the model the next time that it is loaded."""
        self._order("memory-at-load")

    def _order(self, name: str) -> None:
        (self._orders / name).touch()
