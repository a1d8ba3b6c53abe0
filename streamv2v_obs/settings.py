"""Every setting there is, typed and frozen; a section a folder, each default a working one."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator


class Section(BaseModel):
    """A frozen group of settings that knows no other keys than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _resolve_secret(value: Any) -> Any:
    """``{env: NAME}`` and ``{file: PATH}`` stand for what the variable or the file holds."""
    if not isinstance(value, dict):
        return value
    if set(value) == {"env"}:
        name = str(value["env"])
        if name not in os.environ:
            raise ValueError(f"environment variable {name} is not set")
        return os.environ[name]
    if set(value) == {"file"}:
        path = Path(str(value["file"])).expanduser()
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ValueError(f"cannot read the secret's file {path}: {error.strerror}") from error
    raise ValueError("a secret is a text, {env: NAME} or {file: PATH}")


Secret: TypeAlias = Annotated[SecretStr, BeforeValidator(_resolve_secret)]
Size: TypeAlias = Annotated[int, Field(ge=64, le=4096, multiple_of=2)]
Fps: TypeAlias = Annotated[float, Field(ge=1, le=240)]
Unit: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000)]
BankPolicy: TypeAlias = Literal["keep", "reset", "restore", "fade"]
Switch: TypeAlias = bool | Literal["auto"]
BlendTime: TypeAlias = Annotated[float, Field(ge=0, le=60)]


# --- capture: frames in -------------------------------------------------------------------------------------


class _Capture(Section):
    fps: Fps = Field(30, description="pictures a second that are asked of the source, at most")
    fit: Literal["crop", "letterbox"] = Field(
        "crop", description="how the picture meets the model's shape; letterbox bars are cut off again"
    )


class AutoCapture(_Capture):
    """The screen where there is one, else a camera, else the test pattern."""

    kind: Literal["auto"] = "auto"


class ScreenCapture(_Capture):
    """A monitor, a region of the desktop, or a window."""

    kind: Literal["screen"]
    monitor: int = Field(1, ge=0, description="0 is the whole desktop, 1 the first monitor")
    region: tuple[int, int, Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = Field(
        None, description="x, y, width, height in desktop pixels; wins over monitor"
    )
    window: Text | None = Field(None, description="part of a window's title (X11); wins over region")


class CameraCapture(_Capture):
    """A webcam, or any device that looks like one."""

    kind: Literal["camera"]
    device: int | str = Field(0, description="index, or a path such as /dev/video0")
    width: Size = 1280
    height: Size = 720


class VideoCapture(_Capture):
    """A video file."""

    kind: Literal["video"]
    path: Path
    loop: bool = True
    realtime: bool = Field(True, description="false: as fast as the translator takes them, none dropped")


class ImageCapture(_Capture):
    """A still picture."""

    kind: Literal["image"]
    path: Path


class PatternCapture(_Capture):
    """A moving test picture with a frame counter."""

    kind: Literal["pattern"]
    width: Size = 512
    height: Size = 512
    watermark: bool = Field(False, description="a faint mark that shows, in whatever is published, if it was raw")


class ObsCapture(_Capture):
    """A source or scene of OBS, by screenshots or from a window; the connection is that of section obs."""

    kind: Literal["obs"]
    source: Text | None = Field(None, description="its name in OBS; none: the program scene")
    width: Size = 512
    method: Literal["screenshot", "projector"] = Field(
        "screenshot", description="projector: a window of OBS on this X11 display, exact pixels; nothing may cover it"
    )


CaptureSettings: TypeAlias = Annotated[
    AutoCapture | ScreenCapture | CameraCapture | VideoCapture | ImageCapture | PatternCapture | ObsCapture,
    Field(discriminator="kind"),
]


# --- model and translator: pure tensors ---------------------------------------------------------------------


class Lora(Section):
    """A low-rank change of the weights, fused into them."""

    path: str = Field(description="a .safetensors file, or a repository as owner/name@revision")
    scale: float = Field(1.0, ge=-4, le=4)


class ModelSettings(Section):
    """Which weights, where and how precise."""

    name: str = Field("auto", description="auto, a preset, a folder, a .safetensors file, owner/name@revision")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="what computes it; auto: OpenVINO for the demo model on a CPU, where it is installed"
    )
    width: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = Field(
        None, description="none: the model's own"
    )
    height: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    autoencoder: str = Field("auto", description="auto, tiny (TAESD), full (the model's VAE), or a folder")
    loras: tuple[Lora, ...] = Field((), description="fused at load, for good")
    styles: dict[str, Lora] = Field({}, description="name -> LoRA; one at a time, switched while running")
    style: str | None = Field(None, description="the style to start with")

    @model_validator(mode="after")
    def _style_is_known(self) -> ModelSettings:
        if self.style is not None and self.style not in self.styles:
            raise ValueError(f"style {self.style!r} is not among styles: {', '.join(self.styles) or 'none'}")
        return self


class BankSettings(Section):
    """The feature bank: what a frame sees of past ones (paper section 3.2)."""

    # YAML reads a bare off as false.
    kind: Annotated[
        Literal["dyme", "queue", "off"], BeforeValidator(lambda kind: "off" if kind is False else kind)
    ] = "dyme"
    interval: int = Field(4, ge=1, le=1000, description="frames from one update of the bank to the next")
    length: int = Field(1, ge=1, le=8, description="frames that a queue bank holds; dyme always holds one")
    scenes: int = Field(8, ge=1, le=64, description="banks kept for OBS scenes to come back to")
    attend: bool = Field(True, description="self-attention sees the bank, equation 1; false leaves fusion alone")


class FusionSettings(Section):
    """Feature fusion, equation 2."""

    strength: Unit = Field(0.8, description="share of the bank's feature; 0 turns fusion off")
    threshold: Annotated[float, Field(ge=-1, le=2)] = Field(
        0.98, description="least cosine similarity; above 1: never"
    )
    site: Literal["attention", "block"] = Field(
        "attention", description="what is fused: the self-attention's or the block's output"
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


class BudgetSettings(Section):
    """What the translator leaves of the machine to others, a game on the same card say."""

    fps: Fps | None = Field(None, description="pictures a second that are translated, at most; none: no cap")
    gpu_share: Annotated[float, Field(ge=0.1, le=1)] = Field(1, description="of the time; the rest are pauses")
    still_s: Annotated[float, Field(ge=0, le=30)] = Field(
        0, description="how long still pictures are passed over, at most; 0: never; less than publish.hold_s"
    )
    still_level: Annotated[float, Field(gt=0, le=50)] = Field(
        2, description="grey levels by which no part of a still picture differs"
    )


class TranslatorSettings(Section):
    """What the picture becomes, and how."""

    prompt: Annotated[str, Field(max_length=1000)] = "an oil painting"
    strength: Annotated[float, Field(gt=0, le=1)] = Field(0.4, description="share of the noise schedule that is run")
    steps: Annotated[int, Field(ge=1, le=8)] = 2
    schedule: Literal["auto", "stream", "sequential"] = Field(
        "auto", description="stream: steps of several frames in one batch; sequential: no added frame delay"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    attention: Literal["auto", "sdpa", "flash", "cudnn", "efficient", "xformers"] = Field(
        "auto", description="auto: on CUDA the quickest for each level, by measurement; else sdpa"
    )
    guidance: Annotated[float, Field(ge=1, le=20)] | None = Field(
        None, description="for models that were distilled with guidance (LCM checkpoints) only; none: 8.5 for those"
    )
    bank: BankSettings = BankSettings()
    fusion: FusionSettings = FusionSettings()
    speed: SpeedSettings = SpeedSettings()
    budget: BudgetSettings = BudgetSettings()

    @model_validator(mode="after")
    def _timesteps_are_distinct(self) -> TranslatorSettings:
        check_steps(self.strength, self.steps)
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


# --- publish: frames out ------------------------------------------------------------------------------------


class VirtualCameraSettings(Section):
    """The virtual camera of the system."""

    device: str | None = Field(None, description="name or path; none: the first free one")
    pixel_format: Literal["auto", "rgb", "i420", "nv12", "yuyv", "uyvy"] = "auto"


class BrowserSettings(Section):
    """A page and a stream on the control port."""

    quality: int = Field(85, ge=1, le=100, description="of the JPEG pictures")


class RecordingSettings(Section):
    """An mp4 file that stays playable whatever happens."""

    path: Path | None = None
    bitrate_kbps: int = Field(6000, ge=100, le=200_000)


class PublishSettings(Section):
    """Where pictures go, how often, and what is shown when there is none."""

    outputs: tuple[Literal["auto", "camera", "browser", "recording"], ...] = Field(
        ("auto",), min_length=1, description="auto: the camera if one can be opened, else the browser"
    )
    fps: Fps = 30
    width: Size | None = Field(None, description="none: the model's picture as it is")
    height: Size | None = None
    fit: Literal["crop", "letterbox"] = "letterbox"
    hold_s: Annotated[float, Field(ge=0.1, le=60)] = Field(3, description="how long the last picture is held")
    slate: Annotated[str, Field(max_length=200)] = Field("", description="a line on the slate")
    camera: VirtualCameraSettings = VirtualCameraSettings()
    browser: BrowserSettings = BrowserSettings()
    recording: RecordingSettings = RecordingSettings()

    @model_validator(mode="after")
    def _whole_pairs(self) -> PublishSettings:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height belong together: give both or neither")
        if "recording" in self.outputs and self.recording.path is None:
            raise ValueError("outputs name a recording, so recording.path is needed")
        return self


# --- steering -----------------------------------------------------------------------------------------------


def _preset_name(name: str) -> str:
    if name != name.strip() or name.isdecimal() or name in ("next", "previous"):
        raise ValueError(f"{name!r} may not be a name, since presets are called by number, next and previous, too")
    return name


PresetName: TypeAlias = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_preset_name)]


class Preset(Section):
    """A named set-up of the prompt, applied at one stroke; what is not set stays as it is."""

    name: PresetName
    prompt: Text
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    style: str | None = Field(None, description="a name among model.styles; '' for none")
    bank: Literal["keep", "reset", "fade"] = Field("keep", description="only scenes have banks to bring back")
    blend_s: BlendTime = Field(0, description="time from the prompt before to this one, and for a bank to fade")


class Rule(Section):
    """What happens when a scene of OBS goes on air; what is not set stays as it is."""

    preset: PresetName | None = Field(None, description="a name among presets; what is set here wins over it")
    prompt: Text | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    steps: Annotated[int, Field(ge=1, le=8)] | None = Field(None, description="another number empties the bank")
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    style: str | None = Field(None, description="a name among model.styles; '' for none")
    source: CaptureSettings | None = None
    bank: BankPolicy = "keep"
    blend_s: BlendTime = Field(0, description="time from the prompt before to this one, and for a bank to fade")
    when: Literal["start", "end"] = Field("end", description="of the transition")
    output: Literal["translated", "slate", "bypass"] | None = Field(
        None, description="slate and bypass last as long as the scene; translated ends a bypass by hand, too"
    )


class SceneRule(Rule):
    """The rule of one scene, or of those that a glob fits."""

    scene: Text = Field(description="its name in OBS, its UUID (websocket 5.4 on), or a glob such as 'Game *'")


class AudioSync(Section):
    """A sound that is held back as long as the picture takes."""

    input: Text = Field(description="its name in OBS, a microphone say")
    extra_ms: Annotated[int, Field(ge=-950, le=5000)] = Field(
        0, description="added to what is measured, for the way from the camera into OBS"
    )


class ViewerSettings(Section):
    """Prompts that viewers may ask for, through a custom event of a chat bot or the text source."""

    length: int = Field(120, ge=1, le=1000, description="characters of a prompt, at most")
    blocked: tuple[Text, ...] = Field(
        (), description="no prompt may hold these, whatever their case, accents, gaps and digits for letters"
    )
    cooldown_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        15, description="from one prompt to the next, and from one wish of a viewer to his next"
    )
    queue: int = Field(10, ge=1, le=100, description="prompts that may wait")
    revert_s: Annotated[float, Field(ge=1, le=86_400)] | None = Field(
        60, description="then the prompt before comes back; null: never"
    )
    approve: bool = Field(True, description="the streamer approves each one, in the panel or by POST /v1/viewers")
    text: bool = Field(False, description="what the text source prompt_text says comes from viewers, too")


class ObsSettings(Section):
    """The link to OBS."""

    enabled: bool = False
    required: bool = Field(False, description="end with exit code 6 when OBS cannot be reached at start")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 4455
    password: Secret = SecretStr("")
    timeout_s: Annotated[float, Field(ge=0.5, le=60)] = 3
    rules: tuple[SceneRule, ...] = ()
    default: Rule | None = Field(None, description="the rule of all scenes without one")
    prompt_text: Text | None = Field(None, description="a text source in OBS; what it says is the prompt")
    custom_events: bool = Field(True, description='other clients of OBS may steer by {"streamv2v": {..}}')
    viewers: ViewerSettings | None = Field(None, description="prompts of viewers; none: they may not ask")
    bypass_by_event: bool = Field(False, description="they may switch bypass on, too; off they always may")
    preset_items: bool = Field(False, description="an item named like a preset, switched on in the program scene")
    preset_filters: bool = Field(False, description="a filter named like a preset, switched on")
    status_text: Text | None = Field(None, description="a text source in OBS that is to show the status")
    audio_sync: AudioSync | None = Field(None, description="hold a sound back by the age of the picture shown")
    stop_with_obs: bool = Field(False, description="end the service when OBS is closed")

    @model_validator(mode="after")
    def _words_go_one_way(self) -> ObsSettings:
        if self.prompt_text is not None and self.prompt_text == self.status_text:
            raise ValueError(
                f"prompt_text and status_text are both {self.prompt_text!r}: the status would be the prompt; "
                "allowed: two text sources"
            )
        if self.viewers is not None and self.viewers.text and self.prompt_text is None:
            raise ValueError("viewers.text is true, so prompt_text has to name the text source")
        return self

    @property
    def all_rules(self) -> tuple[SceneRule, ...]:
        """The rules, the default one as the last: a glob that fits every scene."""
        if self.default is None:
            return self.rules
        return (*self.rules, SceneRule(scene="*", **self.default.model_dump(exclude_unset=True)))


def _loopback_or_address(host: str) -> str:
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError("allowed: localhost or an address in digits, such as 127.0.0.1 or ::1") from None
    return host


_MODIFIERS = ("ctrl", "alt", "shift", "cmd")
_ALONE = (*(f"f{number}" for number in range(1, 21)), "pause", "scroll_lock")
_NAMED = (
    *_ALONE,
    *("left", "right", "up", "down", "home", "end", "page_up", "page_down", "insert", "delete", "space"),
)


def _combination(text: str) -> str:
    """ctrl+alt+p, in one order and spelling."""
    *modifiers, key = [part.strip().lower() for part in text.split("+")]
    known = set(modifiers) <= set(_MODIFIERS) and len(set(modifiers)) == len(modifiers)
    if not known or not (key in _NAMED or (len(key) == 1 and key.isprintable())):
        raise ValueError(
            f"{text!r}: allowed are {', '.join(_MODIFIERS)} and one key behind them, such as ctrl+alt+p; "
            f"a key is one character, f1 to f20, {', '.join(_NAMED[20:])}"
        )
    if key not in _ALONE and set(modifiers) <= {"shift"}:
        raise ValueError(f"{text!r}: whoever types would press it; allowed: together with ctrl, alt or cmd")
    return "+".join([*(one for one in _MODIFIERS if one in modifiers), key])


# None switches bypass on: what shows the raw picture must not be a slip of a finger.
HotkeyAction: TypeAlias = Literal[
    "panic",
    "panic off",
    "bypass off",
    "bank reset",
    "next",
    "previous",
    "preset 1",
    "preset 2",
    "preset 3",
    "preset 4",
    "preset 5",
    "preset 6",
    "preset 7",
    "preset 8",
    "preset 9",
]


class ControlSettings(Section):
    """The HTTP API and the panel."""

    host: Annotated[str, AfterValidator(_loopback_or_address)] = Field(
        "127.0.0.1", description="0.0.0.0 or an address of this machine: others in the network, too, with lan"
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8770, description="0: any free one")
    lan: bool = Field(False, description="let whoever has a link in from the network; what is sent is not encrypted")
    hotkeys: dict[HotkeyAction, Annotated[str, AfterValidator(_combination)]] = Field(
        {}, description="keys that steer whatever window is in front, such as panic: ctrl+alt+p; needs pynput"
    )

    @model_validator(mode="after")
    def _each_key_means_one_thing(self) -> ControlSettings:
        for action, keys in self.hotkeys.items():
            for other, others in self.hotkeys.items():
                if action != other and set(keys.split("+")) <= set(others.split("+")):
                    raise ValueError(f"hotkeys: {others} ({other}) would be {keys} ({action}), too; allowed: others")
        return self

    @model_validator(mode="after")
    def _the_network_is_asked_for(self) -> ControlSettings:
        if not self.lan and self.host != "localhost" and not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError(
                f"host = {self.host!r}: others in the network could reach it; allowed: 127.0.0.1, ::1 or localhost, "
                "or together with lan: true"
            )
        return self


class LogSettings(Section):
    """What is told, and how much of it."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """All sections."""

    capture: CaptureSettings = AutoCapture()
    model: ModelSettings = ModelSettings()
    translator: TranslatorSettings = TranslatorSettings()
    publish: PublishSettings = PublishSettings()
    presets: tuple[Preset, ...] = ()
    obs: ObsSettings = ObsSettings()
    control: ControlSettings = ControlSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _parts_fit(self) -> Settings:
        if self.obs.required and not self.obs.enabled:
            raise ValueError("obs.required is true, so obs.enabled has to be true as well")
        still_s, hold_s = self.translator.budget.still_s, self.publish.hold_s
        if still_s >= hold_s:
            raise ValueError(
                f"translator.budget.still_s = {still_s:g}: a still picture would become the slate; allowed: less than "
                f"publish.hold_s = {hold_s:g}"
            )
        names = [preset.name for preset in self.presets]
        for number, preset in enumerate(self.presets):
            if preset.name in names[:number]:
                raise ValueError(f"presets.{number}.name {preset.name!r} is given twice")
        for where, look in self._looks():
            if isinstance(look, Rule) and look.preset is not None and look.preset not in names:
                known = ", ".join(names) or "none"
                raise ValueError(f"{where}.preset {look.preset!r} is not among presets: {known}")
            try:
                self._check_look(look)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        return self

    def check_look(self, strength: float | None, style: str | None) -> None:
        """Raise ValueError for a strength or a style that cannot be had with these settings."""
        self._check_look(Rule.model_construct(strength=strength, style=style))

    def _looks(self) -> Iterator[tuple[str, Preset | Rule]]:
        yield from ((f"presets.{number}", preset) for number, preset in enumerate(self.presets))
        yield from ((f"obs.rules.{number}", rule) for number, rule in enumerate(self.obs.rules))
        if self.obs.default is not None:
            yield "obs.default", self.obs.default

    def _check_look(self, look: Preset | Rule) -> None:
        if look.style and look.style not in self.model.styles:
            allowed = ", ".join([*self.model.styles, "'' for none"])
            raise ValueError(f"style = {look.style!r}: not among model.styles; allowed: {allowed}")
        # What a rule does not set stays as another one set it, so each must go with all.
        looks = [look for _, look in self._looks()]
        steps = getattr(look, "steps", None)
        all_steps = {self.translator.steps, *(n for look in looks if (n := getattr(look, "steps", None)))}
        strengths = {self.translator.strength, *(look.strength for look in looks if look.strength)}
        if look.strength is not None or steps is not None:
            for one_strength in [look.strength] if look.strength is not None else sorted(strengths):
                for one_steps in [steps] if steps is not None else sorted(all_steps):
                    check_steps(one_strength, one_steps)
