"""Which size of picture the model works in, for a source of a given shape."""

from __future__ import annotations

from typing import Protocol

from streamv2v_obs.settings import ModelSettings


class Sized(Protocol):
    """What has to be known of a model; ``translator.loading.Model`` is one."""

    width: int
    height: int

    @property
    def multiple(self) -> int: ...


def working_size(model: Sized, settings: ModelSettings, width: int, height: int) -> tuple[int, int]:
    """Width and height that the model works in for a source of ``width`` x ``height``.

    As set; else as many pixels as the model was made for, in the source's shape.

    A square model shows the middle of a wide screen only; the UNet is convolutional, so the same number of pixels
    in the source's own shape costs the same and shows all of it. Sides are multiples of ``model.multiple``.
    """
    chosen_width, chosen_height = settings.width, settings.height
    if chosen_width is None or chosen_height is None:
        area = model.width * model.height
        # Beyond 2:1 the short side of a small model would be a handful of latent cells; the rest is cropped.
        aspect = min(2.0, max(0.5, width / height))
        step = model.multiple
        chosen_width = chosen_width or max(step, round((area * aspect) ** 0.5 / step) * step)
        chosen_height = chosen_height or max(step, round((area / aspect) ** 0.5 / step) * step)
    return chosen_width, chosen_height
