"""Something to measure that takes milliseconds: random weights, two levels, driven by the real translator."""

from __future__ import annotations

from typing import Any

import torch

from streamv2v_obs.bench.models import RANDOM, random_sd15
from streamv2v_obs.bench.subject import Subject
from streamv2v_obs.demo.tokenizer import new_tokenizer
from streamv2v_obs.settings import ModelSettings, Settings, TranslatorSettings
from tests.rigs.latents import attentive_unet
from tests.rigs.tiny_models import tiny_text_encoder


def tiny_subject(**changes: Any) -> Subject:
    """64x64, two steps, float32 on the CPU; ``changes`` of the translator's settings."""
    model = ModelSettings(name=RANDOM, device="cpu", dtype="float32", width=64, height=64)
    torch.manual_seed(3)
    text = tiny_text_encoder(vocabulary=max(520, len(new_tokenizer())))
    built = random_sd15(model, attentive_unet(), text)
    settings = TranslatorSettings.model_validate({"steps": 2, "fusion": {"threshold": 0.9}} | changes)
    return Subject(Settings(model=model, translator=settings), built, "random", 0.0)
