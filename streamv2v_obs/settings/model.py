"""Which weights compute, and on what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from streamv2v_obs.settings.section import Number, Section, Whole


class Lora(Section):
    """A low-rank change of the weights, fused into them."""

    path: str = Field(description="a .safetensors file, or a repository as owner/name@revision")
    scale: Number = Field(1.0, ge=-4, le=4)


class ModelSettings(Section):
    """Which weights, where and how precise."""

    name: str = Field("auto", description="auto, a preset, a folder, a .safetensors file, owner/name@revision")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="what computes it; auto: OpenVINO for the demo model on a CPU, where it is installed"
    )
    width: Annotated[Whole, Field(ge=64, le=2048, multiple_of=8)] | None = Field(
        None, description="none: the model's own"
    )
    height: Annotated[Whole, Field(ge=64, le=2048, multiple_of=8)] | None = None
    autoencoder: str = Field("auto", description="auto, tiny (TAESD), full (the model's VAE), or a folder")
    loras: tuple[Lora, ...] = Field((), description="fused at load, for good")
    styles: dict[str, Lora] = Field({}, description="name -> LoRA; one at a time, switched while running")
    style: str | None = Field(None, description="the style to start with")

    @model_validator(mode="after")
    def _style_is_known(self) -> ModelSettings:
        if self.style is not None and self.style not in self.styles:
            raise ValueError(f"style {self.style!r} is not among styles: {', '.join(self.styles) or 'none'}")
        return self
