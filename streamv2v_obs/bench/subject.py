"""What a measurement is about: a model, the settings it runs with, and the file that its figures go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from streamv2v_obs.bench import results
from streamv2v_obs.bench.models import open_model
from streamv2v_obs.bench.timing import Arm, Timed, new_arm
from streamv2v_obs.settings import Settings, TranslatorSettings
from streamv2v_obs.translator.loading import Model

Say = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """``name`` says hardware, model and steps, as result files are called: ``h200_sd15_s4``."""

    settings: Settings
    model: Model
    weights: Literal["checkpoint", "random"]
    load_before: float

    @property
    def width(self) -> int:
        """Pixels."""
        return self.model.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.model.height

    @property
    def name(self) -> str:
        """Part of a file's name."""
        config = self.config("stream")
        return f"{hardware(self.model)}_{config['model']}_s{self.settings.translator.steps}"

    def arm(self, name: str, **changes: Any) -> tuple[Arm, str]:
        """A translator with ``changes`` of the settings, and what its input is called."""
        settings = self.translator(**changes)
        return new_arm(name, self.model, settings, self.width, self.height)

    def translator(self, **changes: Any) -> TranslatorSettings:
        """The settings with ``changes``, checked as a file's would be."""
        return TranslatorSettings.model_validate(self.settings.translator.model_dump() | changes)

    def config(self, schedule: str, backend: str = "torch") -> results.Section:
        """The schema's ``config``."""
        return results.configuration(
            self.settings,
            model=self.settings.model.name if self.settings.model.name != "auto" else self.model.name,
            dtype=str(self.model.dtype).removeprefix("torch."),
            schedule=schedule,
            width=self.width,
            height=self.height,
            weights=self.weights,
            backend=backend,
        )

    def write(
        self,
        path: Path,
        kind: results.Kind,
        used: Timed,
        protocol: results.Section,
        found: results.Section,
        notes: str,
        checks: Sequence[results.Section] = (),
    ) -> Path:
        """Write one result; ``used`` is the translator whose schedule and backend it names."""
        import torch

        device = self.model.device
        results.write(
            path,
            kind,
            command=results.command_line(),
            env=results.environment(str(device), self.load_before, torch.get_num_threads()),
            config=self.config(used.schedule, computed_by(used)) | {"path": used.path},
            protocol=protocol,
            results=found,
            checks=checks,
            notes=notes,
        )
        return path


def computed_by(used: Timed) -> str:
    """The schema's ``backend``: eager, graph, compile, compile+graph, or openvino."""
    words = used.path.split(", ")
    both = "+".join(name for name, word in (("compile", "compiled"), ("graph", "graphs")) if word in words)
    return used.backend if used.backend != "torch" else both or "eager"


def open_subject(settings: Settings) -> Subject:
    """Load the model. Raises ModelLoadError, OutOfDeviceMemory, ConfigError."""
    load_before = results.load_now()
    model, weights = open_model(settings.model)
    return Subject(settings, model, weights, load_before)


def hardware(model: Model) -> str:
    """The device in one word, for names of files: cpu, h200, rtx-4090."""
    if model.device.type != "cuda":
        return model.device.type
    import torch

    name = torch.cuda.get_device_name(model.device).lower()
    words = [word for word in name.split() if word not in ("nvidia", "geforce", "tesla")]
    known = [word for word in words if word in ("h200", "h100", "a100", "l40s", "l4", "t4")]
    return known[0] if known else "-".join(words)
