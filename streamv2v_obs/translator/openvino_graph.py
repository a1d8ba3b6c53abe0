"""A torch module as an OpenVINO graph on the CPU: converted and compiled once, then read from the cache folder."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import logging
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from torch import Tensor, nn

from streamv2v_obs.errors import ModelLoadError

log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]

# What the graphs of a handful of picture sizes take; the least recently used ones go first.
_CACHE_BYTES = 512 * 2**20


def installed() -> bool:
    """Whether the extra ``openvino`` is installed; does not import it."""
    return importlib.util.find_spec("openvino") is not None


def cache_folder() -> Path:
    """Where compiled graphs are kept: the user's cache folder, or what STREAMV2V_CACHE names."""
    named = os.environ.get("STREAMV2V_CACHE")
    base = Path(named) if named else Path(platformdirs.user_cache_dir("streamv2v-obs", appauthor=False))
    return base / "openvino"


class Graph:
    """A compiled graph. Called with one array or tensor for each input; gives views that the next call overwrites.

    Several threads may call it at the same time, up to its number of streams without waiting for each other.
    """

    def __init__(self, compiled: Any, *, fresh: bool) -> None:
        self._compiled = compiled
        self._of_thread = threading.local()
        self._outputs = range(len(compiled.outputs))
        self.fresh = fresh
        """Whether it was converted just now."""

    def __call__(self, *inputs: Array) -> list[Array]:
        request = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = self._compiled.create_infer_request()
        request.infer(list(inputs), share_inputs=True)
        return [request.get_output_tensor(i).data for i in self._outputs]


def fingerprint(module: nn.Module, facts: Sequence[object], dtype: torch.dtype) -> str:
    """Of all that a graph depends on, as 40 hex digits: weights, settings, our code, libraries, CPU."""
    import openvino

    cpu = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    versions = (openvino.get_version(), torch.__version__, cpu, str(dtype))
    digest = hashlib.sha256(repr((versions, tuple(facts))).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:40]


@dataclass(frozen=True)
class Sharing:
    """The processor's threads that one graph takes, and how many calls at once share them."""

    threads: int
    streams: int = 1


def graph(
    name: str,
    key: str,
    make: Callable[[], nn.Module],
    example: tuple[Tensor, ...],
    dtype: torch.dtype,
    sharing: Sharing,
) -> Graph:
    """The graph of the module that ``make`` gives, for inputs of exactly the shapes and types of ``example``.

    ``make`` is called only where the cache does not hold ``name`` under ``key``; its module computes in float32, the
    graph in ``dtype``. Raises ModelLoadError for a network that OpenVINO cannot take.
    """
    import openvino

    core = openvino.Core()
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": sharing.streams,
        "INFERENCE_NUM_THREADS": sharing.threads,
        "INFERENCE_PRECISION_HINT": "bf16" if dtype is torch.bfloat16 else "f32",
        # Pinned threads would wait for a core that a game holds while another one is free.
        "ENABLE_CPU_PINNING": False,
    }
    path = cache_folder() / f"{name}-{key}.blob"
    if path.is_file():
        try:
            found = Graph(core.import_model(io.BytesIO(path.read_bytes()), "CPU", options), fresh=False)
            path.touch()
            return found
        except (RuntimeError, OSError) as error:
            log.warning("%s cannot be used (%s): the graph is made anew", path, " ".join(str(error).split())[:200])
    blob = io.BytesIO()
    try:
        compiled = core.compile_model(_convert(make(), example), "CPU", options)
        compiled.export_model(blob)
    except Exception as error:  # whatever it and the tracing raise over a network that they cannot take
        said = " ".join(str(error).split())
        raise ModelLoadError(
            f"OpenVINO cannot take this model's {name} ({type(error).__name__}: {said[:200]}); "
            "set model.backend to torch"
        ) from error
    _keep(path, blob.getvalue())
    return Graph(compiled, fresh=True)


def _convert(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
    # Not openvino.convert_model: it reports each conversion to its maker over the network.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        # Shapes are meant to become constants, and torch calls its own tracing, which OpenVINO reads, out of date.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False, strict=False)  # type: ignore[no-untyped-call]
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=example)
        model = frontend.convert(frontend.load(decoder))
    model.reshape({port: list(tensor.shape) for port, tensor in zip(model.inputs, example, strict=True)})
    return model


def _keep(path: Path, content: bytes) -> None:
    """Write whole or not at all, since another process may read it; a cache that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.replace(path)
        kept = sorted(path.parent.glob("*.blob"), key=lambda blob: blob.stat().st_mtime, reverse=True)
        total = 0
        for blob in kept:
            total += blob.stat().st_size
            if total > _CACHE_BYTES:
                blob.unlink()
    except OSError as error:
        log.warning("%s cannot be written (%s): the graph will be made anew at each start", path, error.strerror)


def noted_agreement(key: str) -> float | None:
    """What ``note_agreement`` kept under ``key``, in dB."""
    try:
        return float(json.loads((cache_folder() / f"{key}.json").read_text(encoding="utf-8"))["psnr_db"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_agreement(key: str, psnr_db: float) -> None:
    """Keep how well the graphs under ``key`` agree with torch, so that it is measured once."""
    _keep(cache_folder() / f"{key}.json", json.dumps({"psnr_db": psnr_db}).encode())
