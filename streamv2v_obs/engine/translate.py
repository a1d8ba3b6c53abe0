"""A video file in, a translated video file out: the engine's own parts in a row, without the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from streamv2v_obs.capture.video import VideoSource
from streamv2v_obs.engine.working_size import working_size
from streamv2v_obs.errors import ConfigError, EndOfSource
from streamv2v_obs.frames import Frame
from streamv2v_obs.publish.recording import VideoWriter
from streamv2v_obs.settings import Settings, VideoCapture
from streamv2v_obs.shape import cut_bars, fit_to
from streamv2v_obs.translator.origins import check_name


@dataclass(frozen=True)
class TranslateReport:
    """What was done; ``width`` and ``height`` are the file's, ``model_width`` and ``model_height`` the model's."""

    source: str
    target: str
    frames_in: int
    frames_out: int
    fps: float
    width: int
    height: int
    model: str
    model_width: int
    model_height: int
    device: str
    dtype: str
    backend: str
    attention: str
    schedule: str
    bank: str
    bank_updates: int
    seed: int
    seconds: float
    translated_per_s: float


def translate_file(
    settings: Settings, source: Path, target: Path, progress: Callable[[int, int | None], None]
) -> TranslateReport:
    """Translate every frame of ``source`` into ``target``, at its rate and in its size unless publish says another.

    ``progress`` is told how many frames are written, of how many (None: the file does not say). ``target`` appears
    when it is whole. Raises SourceLost, ModelLoadError, SinkLost, ConfigError.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise ConfigError(f"{target} is the input itself; allowed: another file")
    began_at = time.monotonic()
    video = VideoSource(VideoCapture(kind="video", path=source, loop=False, realtime=False, fit=settings.capture.fit))
    try:
        check_name(settings.model.name)
        fit = settings.capture.fit
        width = settings.publish.width or max(2, video.width // 2 * 2)
        height = settings.publish.height or max(2, video.height // 2 * 2)
        frames_in = frames_out = 0
        with VideoWriter(target, width, height, video.fps) as writer:
            # Not before: torch takes seconds to import, and a wrong file or model is said at once.
            from streamv2v_obs.translator.loading import load_model
            from streamv2v_obs.translator.translator import Translator

            model = load_model(settings.model)
            model_width, model_height = working_size(model, settings.model, video.width, video.height)
            translator = Translator(model, settings.translator, width=model_width, height=model_height, live=False)
            try:
                for frame in _frames(video):
                    frames_in += 1
                    shaped = fit_to(frame.pixels, translator.width, translator.height, fit)
                    answer = translator.step(replace(frame, pixels=shaped))
                    frames_out += _write(writer, answer, video, width, height, settings)
                    progress(frames_out, video.frames)
                for answer in translator.flush():
                    frames_out += _write(writer, answer, video, width, height, settings)
                    progress(frames_out, video.frames)
            finally:
                translator.close()
    finally:
        video.close()
    seconds = time.monotonic() - began_at
    return TranslateReport(
        source=str(source),
        target=str(target),
        frames_in=frames_in,
        frames_out=frames_out,
        fps=float(video.fps),
        width=width,
        height=height,
        model=model.name,
        model_width=model_width,
        model_height=model_height,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        backend=translator.backend,
        attention=translator.attention,
        schedule=translator.schedule,
        bank=settings.translator.bank.kind,
        bank_updates=translator.bank_updates,
        seed=settings.translator.seed,
        seconds=round(seconds, 3),
        translated_per_s=round(frames_out / seconds, 2),
    )


def _frames(video: VideoSource) -> Iterator[Frame]:
    while True:
        try:
            yield video.read()
        except EndOfSource:
            return


def _write(
    writer: VideoWriter, answer: Frame | None, video: VideoSource, width: int, height: int, settings: Settings
) -> int:
    if answer is None:
        return 0
    shown = cut_bars(answer.pixels, video.width, video.height, settings.capture.fit)
    writer.write(fit_to(shown, width, height, settings.publish.fit))
    return 1
