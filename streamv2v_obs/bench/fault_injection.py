"""Faults inside an engine that cannot be had from outside: its translator is made to hang or to fail on order.

A file ``sitecustomize.py``, which Python loads first in every process that has its folder on PYTHONPATH, wraps
the end of ``Translator.step`` when that module is loaded. The program itself has no such switch.
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
        if name != "streamv2v_obs.translator.translator":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            picture = module.Translator._picture
            wounds = []
            def hurt(translator, departed):
                for fault in os.listdir(os.environ["STREAMV2V_FAULTS"]):
                    try:
                        os.remove(os.path.join(os.environ["STREAMV2V_FAULTS"], fault))
                        wounds.append(fault)
                    except OSError:
                        pass
                if "hang" in wounds:
                    time.sleep(1e6)
                if "sticky" in wounds:
                    raise RuntimeError("CUDA error: an illegal memory access was encountered")
                if "memory" in wounds:
                    import torch
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
                return picture(translator, departed)
            module.Translator._picture = hurt
        spec.loader.exec_module = exec_module
        return spec

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

    def hang(self) -> None:
        """The next picture's translation never returns; the engine's other threads live on."""
        self._order("hang")

    def sticky_error(self) -> None:
        """From now on every picture fails as a GPU does after an illegal access: for the rest of that process."""
        self._order("sticky")

    def out_of_memory(self) -> None:
        """The GPU's memory is at its end."""
        self._order("memory")

    def _order(self, name: str) -> None:
        (self._orders / name).touch()
