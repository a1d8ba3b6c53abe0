"""How long it takes from nothing to the first translated picture, in a process that has imported nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Annotated

import typer


def measure(steps: int, repeats: int) -> list[dict[str, float]]:
    """Of each of ``repeats`` fresh processes: import_s, load_s, and first_frame_s from the start of the process."""
    command = [sys.executable, "-m", "streamv2v_obs.bench.cold_start", "--steps", str(steps)]
    found = []
    for _ in range(repeats):
        began_at = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None  # noqa: S101 - asked for two lines above
            line = process.stdout.readline()
            first_frame_s = time.monotonic() - began_at
        if process.returncode:
            raise RuntimeError(f"the fresh process ended with exit code {process.returncode}")
        found.append(json.loads(line) | {"first_frame_s": round(first_frame_s, 3)})
    return found


def main(steps: Annotated[int, typer.Option()] = 2) -> None:
    """Translate one picture with the demo model and say how long each part took.

    By torch: the first start has neither OpenVINO nor its compiled graphs.
    """
    began_at = time.monotonic()
    from streamv2v_obs.capture.pattern import draw_pattern
    from streamv2v_obs.frames import Frame
    from streamv2v_obs.settings import ModelSettings, TranslatorSettings
    from streamv2v_obs.translator.loading import load_model
    from streamv2v_obs.translator.translator import Translator

    imported_at = time.monotonic()
    model = load_model(ModelSettings(name="demo", device="cpu", backend="torch"))
    loaded_at = time.monotonic()
    translator = Translator(model, TranslatorSettings(steps=steps))
    answer = translator.step(Frame(draw_pattern(0, translator.width, translator.height), loaded_at, 0))
    if answer is None:
        raise RuntimeError("a live translator answers from the first picture on")
    print(
        json.dumps({"import_s": round(imported_at - began_at, 3), "load_s": round(loaded_at - imported_at, 3)}),
        flush=True,
    )
    translator.close()


if __name__ == "__main__":
    typer.run(main)
