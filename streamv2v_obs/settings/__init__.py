"""Every setting there is, typed and frozen; a section a file, each default a working one."""

from __future__ import annotations

from streamv2v_obs.settings.capture import (
    AutoCapture,
    CameraCapture,
    CaptureSettings,
    ImageCapture,
    ObsCapture,
    PatternCapture,
    ScreenCapture,
    VideoCapture,
)
from streamv2v_obs.settings.control import ControlSettings, HotkeyAction, LogSettings
from streamv2v_obs.settings.looks import Preset, PresetName, Rule, SceneRule
from streamv2v_obs.settings.model import Lora, ModelSettings
from streamv2v_obs.settings.obs import AudioSync, ObsSettings, ViewerSettings
from streamv2v_obs.settings.publish import BrowserSettings, PublishSettings, RecordingSettings, VirtualCameraSettings
from streamv2v_obs.settings.section import BankPolicy, BlendTime, Fps, Secret, Section, Size, Switch, Text, Unit
from streamv2v_obs.settings.translator import (
    BankSettings,
    BudgetSettings,
    FusionSettings,
    SpeedSettings,
    TranslatorSettings,
    check_steps,
    lcm_indices,
)
from streamv2v_obs.settings.whole import Settings

__all__ = [
    "AudioSync",
    "AutoCapture",
    "BankPolicy",
    "BankSettings",
    "BlendTime",
    "BrowserSettings",
    "BudgetSettings",
    "CameraCapture",
    "CaptureSettings",
    "ControlSettings",
    "Fps",
    "FusionSettings",
    "HotkeyAction",
    "ImageCapture",
    "LogSettings",
    "Lora",
    "ModelSettings",
    "ObsCapture",
    "ObsSettings",
    "PatternCapture",
    "Preset",
    "PresetName",
    "PublishSettings",
    "RecordingSettings",
    "Rule",
    "SceneRule",
    "ScreenCapture",
    "Secret",
    "Section",
    "Settings",
    "Size",
    "SpeedSettings",
    "Switch",
    "Text",
    "TranslatorSettings",
    "Unit",
    "VideoCapture",
    "ViewerSettings",
    "VirtualCameraSettings",
    "check_steps",
    "lcm_indices",
]
