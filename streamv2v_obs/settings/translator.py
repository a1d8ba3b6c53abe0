"""What the picture becomes, how, and how much of the machine that may take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from streamv2v_obs.settings.section import Fps, Number, Section, Switch, Unit, Whole


class BankSettings(Section):
    """The feature bank: what a frame sees of past ones (paper section 3.2)."""

    # YAML reads a bare off as false.
    kind: Annotated[
        Literal["dyme", "queue", "off"], BeforeValidator(lambda kind: "off" if kind is False else kind)
    ] = "dyme"
    interval: Whole = Field(4, ge=1, le=1000, description="frames from one update of the bank to the next")
    length: Whole = Field(1, ge=1, le=8, description="frames that a queue bank holds; dyme always holds one")
    partition: Literal["by_age", "random"] = Field(
        "by_age", description="what dyme merges: the bank's tokens into the frame's, or random halves as published"
    )
    scenes: Whole = Field(8, ge=1, le=64, description="banks kept for OBS scenes to come back to")
    attend: bool = Field(True, description="self-attention sees the bank, equation 1; false leaves fusion alone")


class FusionSettings(Section):
    """Feature fusion, equation 2."""

    strength: Unit = Field(0.8, description="share of the bank's feature; 0 turns fusion off")
    threshold: Annotated[Number, Field(ge=-1, le=2)] = Field(
        0.98, description="least cosine similarity; above 1: never"
    )
    site: Literal["attention", "block"] = Field(
        "attention", description="what is fused: the self-attention's or the block's output"
    )
    layers: Literal["low", "all"] = Field(
        "low", description="which layers fuse; low: the middle block and the two up blocks of lowest resolution"
    )


class SpeedSettings(Section):
    """How a frame is computed, rung by rung; the picture stays the same within rounding.

    ``auto``: on where it pays and can be had. ``true``: on, and a warning where it cannot be had.
    """

    joined_qkv: Switch = Field("auto", description="one product for queries, keys and values")
    padded_heads: Switch = Field("auto", description="attention heads of 40 widened to 64; auto: measured on CUDA")
    cached_prompt: Switch = Field("auto", description="keys and values of a prompt computed once")
    cached_time: Switch = Field("auto", description="time embeddings computed once")
    late_update: Switch = Field("auto", description="the bank is updated after the picture was handed on")
    channels_last: Switch = Field("auto", description="memory layout of the convolutions")
    row_threads: Switch = Field("auto", description="each step's frame is computed by a thread of its own (CPU)")
    pinned: Switch = Field("auto", description="page-locked host memory and copies beside the work (CUDA)")
    graphs: Switch = Field("auto", description="a frame is one captured CUDA graph")
    compile: Switch = Field("auto", description="torch.compile, which takes minutes at the start; auto: not")
    fused_activations: Switch = Field(
        "auto", description="in a compiled frame a convolution and its ReLU are one launch (CUDA); auto: not"
    )
    fused_norms: Switch = Field(
        "auto", description="in a compiled frame a group normalisation is one launch (CUDA); auto: not"
    )
    folded_output: Switch = Field(
        "auto", description="a transformer's last two products are one; auto: in a frame compiled for CUDA"
    )
    direct_keys: Switch = Field(
        "auto", description="keys and values are computed into the bank, half as large again for it; auto: not"
    )


class BudgetSettings(Section):
    """What the translator leaves of the machine to others, a game on the same card say."""

    fps: Fps | None = Field(None, description="pictures a second that are translated, at most; none: no cap")
    gpu_share: Annotated[Number, Field(ge=0.1, le=1)] = Field(1, description="of the time; the rest are pauses")
    still_s: Annotated[Number, Field(ge=0, le=30)] = Field(
        0, description="how long still pictures are passed over, at most; 0: never; less than publish.hold_s"
    )
    still_level: Annotated[Number, Field(gt=0, le=50)] = Field(
        2, description="grey levels by which no part of a still picture differs"
    )


class TranslatorSettings(Section):
    """What the picture becomes, and how."""

    prompt: Annotated[str, Field(max_length=1000)] = "an oil painting"
    strength: Annotated[Number, Field(gt=0, le=1)] = Field(0.4, description="share of the noise schedule that is run")
    steps: Annotated[Whole, Field(ge=1, le=8)] = 2
    schedule: Literal["auto", "stream", "sequential"] = Field(
        "auto", description="stream: steps of several frames in one batch; sequential: no added frame delay"
    )
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 0
    noise: Literal["auto", "white", "blue"] = Field(
        "auto", description="blue: without low frequencies, which leave blotches; auto: as the model was trained"
    )
    attention: Literal["auto", "sdpa", "blocks", "flash", "cudnn", "efficient", "xformers"] = Field(
        "auto", description="auto: on CUDA the quickest for each level, by measurement; on a CPU blocks or sdpa"
    )
    guidance: Annotated[Number, Field(ge=1, le=20)] | None = Field(
        None, description="for models that were distilled with guidance (LCM checkpoints) only; none: 8.5 for those"
    )
    carry: Annotated[Number, Field(ge=0, le=0.9)] = Field(
        0, description="share of the last picture, moved as the input has moved, in the next one; 0: none"
    )
    anchor: Annotated[Number, Field(ge=0, le=0.9)] = Field(
        0, description="the same of a picture kept for long, wherever it shows the same thing; 0: none"
    )
    bank: BankSettings = BankSettings()
    fusion: FusionSettings = FusionSettings()
    speed: SpeedSettings = SpeedSettings()
    budget: BudgetSettings = BudgetSettings()

    @model_validator(mode="after")
    def _timesteps_are_distinct(self) -> TranslatorSettings:
        check_steps(self.strength, self.steps)
        return self

    @model_validator(mode="after")
    def _a_picture_of_its_own_is_left(self) -> TranslatorSettings:
        if self.carry + self.anchor > 0.9:
            raise ValueError(f"carry + anchor = {self.carry + self.anchor:g}: together they may be 0.9 at most")
        return self


def lcm_indices(strength: float, steps: int) -> tuple[int, ...]:
    """Where the rows of a stream batch stand among LCM's 50 timesteps 999, 979, .., 19.

    ``round(50 (1 - strength)) + k floor(50 strength / steps)``, k = 0 .. steps - 1.
    """
    # The small term keeps 50 * 0.58 / 29 == 1 from being floored to 0 by binary fractions.
    stride = int(50 * strength / steps + 1e-9)
    return tuple(round(50 * (1 - strength)) + k * stride for k in range(steps))


def check_steps(strength: float, steps: int) -> None:
    """Raise ValueError where the timesteps of (strength, steps) collapse or leave the schedule."""
    indices = lcm_indices(strength, steps)
    if len(set(indices)) < steps or indices[-1] > 49:
        least = -(-steps * 2 // 1) / 100
        raise ValueError(
            f"strength {strength} with {steps} steps leaves no distinct timesteps; "
            f"allowed: strength >= {max(least, 0.02):.2f} for {steps} steps"
        )
