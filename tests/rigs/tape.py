"""Fake of a CUDA graph, on a CPU: operations are taped with the memory they touch, and played again without Python.

What would go wrong with a real one goes wrong here: a Python value is frozen, another tensor than the one that was
taped is never read, and what asks a tensor for its contents, or makes one of Python's numbers, is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Entry = tuple[Any, tuple[Any, ...], dict[str, Any], Any]

REFUSED = ("_local_scalar_dense", "is_nonzero", "nonzero", "lift_fresh", "item", "randn", "rand", "randperm")


class _Taping(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: list[Entry] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in REFUSED:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        out = func(*args, **(kwargs or {}))
        self.entries.append((func, args, kwargs or {}, out))
        return out


class Tape:
    """Stands in for ``CudaRecorder``. Unlike a graph's, this recording has run once when it is made: state is put back
    by whoever records (``kept``)."""

    def __init__(self, kept: Callable[[], list[Tensor]] = list) -> None:
        self._kept = kept
        self.lengths: list[int] = []

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        before = [(tensor, tensor.clone()) for tensor in self._kept()]
        with _Taping() as taping:
            work()
        for tensor, contents in before:
            tensor.copy_(contents)
        entries = taping.entries
        self.lengths.append(len(entries))

        def play() -> None:
            for func, args, kwargs, out in entries:
                again = func(*args, **kwargs)
                if func._schema.is_mutable:
                    continue
                for old, new in zip(_tensors(out), _tensors(again), strict=True):
                    if old.data_ptr() != new.data_ptr():  # else a view
                        old.copy_(new)

        return play


def _tensors(answer: Any) -> list[Tensor]:
    if isinstance(answer, Tensor):
        return [answer]
    return [part for part in answer if isinstance(part, Tensor)]
