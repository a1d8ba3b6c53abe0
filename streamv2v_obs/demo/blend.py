"""One model moved the way that led from another to a third: weights between two models of a training, or beyond."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamv2v_obs.errors import ConfigError

WEIGHTS = (
    "unet/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)


def blend(first: Path, second: Path, out: Path, *, share: float, since: Path | None = None, only: str = "") -> None:
    """Write ``first + share (second - since)`` to ``out``, all else as in ``first``, which stands in for no ``since``.

    Then a share of 0 is the first model and 1 the second; below or above, the line is followed further. Models that
    were trained on from one another lie in one basin, so that what lies between them is a model, too (Wortsman et al.
    2022, "Model soups"), and what training did can be done a little more (Ilharco et al. 2023, "Editing models with
    task arithmetic"). ``only``: a regular expression; weights in whose name (``unet.conv_in.weight``) it is not found
    stay the first one's. Raises ConfigError where their architectures differ, or where ``out`` is there already.
    """
    if out.exists():
        raise ConfigError(f"{out} is there already; a blend is written into a new folder")
    try:
        wanted = re.compile(only)
    except re.error as error:
        raise ConfigError(f"--only {only}: not a regular expression ({error})") from error
    mixed = {}
    for name in WEIGHTS:
        part = name.partition("/")[0]
        own = _read(first / name)
        to, origin = (_read(folder / name, own) for folder in (second, since or first))
        mixed[name] = {
            key: _moved(tensor, to[key], origin[key], share) if wanted.search(f"{part}.{key}") else tensor
            for key, tensor in own.items()
        }
    shutil.copytree(first, out)
    for name, tensors in mixed.items():
        save_file(tensors, out / name, metadata={"format": "pt"})


def _moved(tensor: Tensor, to: Tensor, since: Tensor, share: float) -> Tensor:
    """In the first one's type."""
    return (tensor.float() + share * (to.float() - since.float())).to(tensor.dtype)


def _read(path: Path, like: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: no weights to blend ({said})") from error
    if like is not None and {k: t.shape for k, t in tensors.items()} != {k: t.shape for k, t in like.items()}:
        raise ConfigError(f"{path}: weights of another architecture than those it is to be blended with")
    return tensors
