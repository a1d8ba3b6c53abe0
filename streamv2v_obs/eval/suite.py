"""Which clips an evaluation runs over, and what it measures of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamv2v_obs.capture.video import VideoSource
from streamv2v_obs.demo.clips import HIDDEN_FRAMES, draw_clip, draw_hidden
from streamv2v_obs.demo.evaluate import sharpness, style_features
from streamv2v_obs.demo.photographs import HELD_OUT, square
from streamv2v_obs.errors import ConfigError, EndOfSource
from streamv2v_obs.eval.arms import ARMS, Arm, Run, carries, run_arm
from streamv2v_obs.eval.attention import AttentionMeter
from streamv2v_obs.eval.metrics import (
    LAGS,
    Track,
    error_map,
    estimated_tracks,
    exact_tracks,
    feature_cosine,
    new_track,
    static_std,
    warp_mse,
)
from streamv2v_obs.frames import Pixels
from streamv2v_obs.settings import TranslatorSettings, VideoCapture
from streamv2v_obs.shape import fit_to
from streamv2v_obs.translator.loading import Model
from streamv2v_obs.translator.motion import MotionEstimator

MOVING = ("pan", "zoom", "rotation", "parallax", "occluder", "fast", "loop")
_EVERY = 4
"""Guards are taken of each fourth frame."""

WATCHED = ("dyme", "foreign")
"""Arms of which it is told whom they attend to: of the same bank, and of one that has nothing to do with the clip."""

Record = dict[str, Any]


@dataclass(frozen=True)
class ClipSpec:
    """A drawn clip of a kind of motion and a seed, over a photograph or a drawn scene; or a video file."""

    name: str
    kind: str
    seed: int = 0
    photograph: str | None = None
    path: Path | None = None

    def frames(self, wished: int) -> int:
        """How many it is made of; a video may have fewer."""
        return HIDDEN_FRAMES if self.kind == "hidden" else wished


def _drawn(base: int, moving: int, still: int) -> tuple[ClipSpec, ...]:
    specs: list[ClipSpec] = []
    for kind, count in (*((kind, moving) for kind in MOVING), ("still", still)):
        for number in range(count):
            # Every other one over a photograph that nothing was trained on.
            photograph = HELD_OUT[len(specs) // 2 % 2] if number % 2 == 0 else None
            specs.append(ClipSpec(f"{kind} {number + 1}", kind, base + len(specs), photograph))
    return tuple(specs)


def _hidden(base: int, count: int) -> tuple[ClipSpec, ...]:
    photographs = (HELD_OUT[0], None, HELD_OUT[1], None)
    return tuple(ClipSpec(f"hidden {n + 1}", "hidden", base + n, photographs[n % 4]) for n in range(count))


SUITES = {
    "held-out": _drawn(1_000_000_000, moving=6, still=6),
    "development": _drawn(2_000_000_000, moving=1, still=2),
    "quick": _drawn(3_000_000_000, moving=1, still=3),
    "demo": _drawn(3_000_000_000, moving=2, still=8),
    "hidden": _hidden(4_000_000_000, 12),
    "hidden-development": _hidden(5_000_000_000, 4),
}
"""Settings are chosen on ``development``; ``held-out``, six clips of each kind, serves the reported tables alone.

``quick`` is for a first look; ``demo`` for the embedded model's own figures, in `bench demo-quality`.
In ``hidden`` a thing is seen again after an occlusion of 60 frames; its error is that between before and after.
"""


def donor_of(specs: Sequence[ClipSpec], number: int) -> ClipSpec:
    """The next clip of another scene, for the foreign control: over one photograph, a bank is not foreign.

    Where there is no other scene it is the next clip.
    """
    own = specs[number].photograph
    following = [specs[(number + step) % len(specs)] for step in range(1, len(specs) + 1)]
    return next((spec for spec in following if own is None or spec.photograph != own), following[0])


def videos(folder: Path) -> tuple[ClipSpec, ...]:
    """The video files of a folder. Raises ConfigError where there is none, or two of one name."""
    endings = {".mp4", ".mkv", ".mov", ".webm", ".avi"}
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in endings)
    if not found:
        raise ConfigError(f"--videos {folder}: holds no video; looked for {', '.join(sorted(endings))}")
    named: dict[str, Path] = {}
    for path in found:
        other = named.setdefault(path.stem, path)
        if other is not path:
            raise ConfigError(
                f"--videos {folder}: {other.name} and {path.name} are both called {path.stem}; rename one"
            )
    return tuple(ClipSpec(name, "video", path=path) for name, path in named.items())


@dataclass(frozen=True)
class Footage:
    """Frames uint8 [side, side, 3], where their pixels go, and whether nothing moves but sensor noise."""

    frames: list[Pixels]
    tracks: list[Track]
    still: bool


def open_clip(spec: ClipSpec, frames: int, side: int, lags: Sequence[int] = LAGS, *, track: bool = True) -> Footage:
    """Draw or read a clip; without ``track`` no tracks, where only the pictures are wanted.

    A clip of something hidden is as long as it has to be, and has one lag.
    """
    if spec.path is not None:
        pictures = _read(spec.path, frames, side)
        return Footage(pictures, estimated_tracks(pictures, lags) if track else [], False)
    scene = square(spec.photograph, 2 * side) if spec.photograph else None
    if spec.kind == "hidden":
        clip = draw_hidden(np.random.default_rng(spec.seed), side=side, scene=scene)
        passages = clip.again.items() if track else ()
        tracks = [
            new_track(flow.astype(np.float64), seen, first, second - first)
            for (first, second), (flow, seen) in passages
        ]
        return Footage(clip.frames, tracks, False)
    clip = draw_clip(np.random.default_rng(spec.seed), spec.kind, frames=frames, side=side, scene=scene)
    return Footage(clip.frames, exact_tracks(clip, lags) if track else [], spec.kind == "still")


def _read(path: Path, frames: int, side: int) -> list[Pixels]:
    source = VideoSource(VideoCapture(kind="video", path=path, loop=False, realtime=False))
    try:
        pictures: list[Pixels] = []
        while len(pictures) < frames:
            pictures.append(fit_to(source.read().pixels, side, side, "crop"))
    except EndOfSource:
        if len(pictures) < 2:
            raise ConfigError(f"{path}: too short to flicker; needs two frames") from None
    finally:
        source.close()
    return pictures


@dataclass(frozen=True)
class Pictures:
    """What an arm made of a clip, for eyes."""

    clip: str
    prompt: str
    arm: str
    frames: list[Pixels]
    error: NDArray[np.float64]
    """[H, W], ``error_map`` of the shortest lag."""


def measure_clip(
    model: Model,
    spec: ClipSpec,
    donor: ClipSpec,
    *,
    base: TranslatorSettings,
    prompt: str,
    seeds: Sequence[int],
    arms: Sequence[Arm] = ARMS,
    frames: int = 20,
    side: int = 256,
    lags: Sequence[int] = LAGS,
) -> tuple[list[Record], list[Pictures]]:
    """A record of each arm and seed, and the first seed's pictures. Controls run with the first seed only.

    ``donor`` is the clip whose bank the foreign control sees.
    """
    footage = open_clip(spec, frames, side, lags)
    coder = model.autoencoder
    latents = [coder.encode(frame) for frame in footage.frames]
    estimator = MotionEstimator(*latents[0].shape[2:], anchors=True)
    began_at = time.perf_counter()
    motions = [estimator.to(frame) for frame in footage.frames]
    motion_ms = 1000 * (time.perf_counter() - began_at) / len(motions)
    records: list[Record] = []
    shown: list[Pictures] = []
    for seed in seeds:
        foreign: Run | None = None
        for arm in arms:
            if arm.control is not None and seed != seeds[0]:
                continue
            settings = arm.settings(base, prompt, seed)
            if arm.control == "foreign":
                taken = open_clip(donor, len(latents), side, track=False).frames
                taken = (taken * len(latents))[: len(latents)]  # a video may be shorter
                published = next(one for one in ARMS if one.name == "dyme")
                foreign = run_arm(
                    model,
                    published,
                    published.settings(base, prompt, seed),
                    [coder.encode(frame) for frame in taken],
                    remember=True,
                )
            memories = foreign.memories if foreign is not None else ()
            run = run_arm(model, arm, settings, latents, motions, foreign=memories)
            meter = None
            if seed == seeds[0] and arm.name in WATCHED:  # apart, since it takes time that is not the arm's
                meter = AttentionMeter()
                run_arm(model, arm, settings, latents, motions, foreign=memories, meter=meter)
            made = [coder.decode(latent.to(model.dtype)) for latent in run.latents]
            features = [latent[0].float().cpu().numpy() for latent in run.latents]
            records.append(
                {"clip": spec.name, "kind": spec.kind, "prompt": prompt, "seed": seed, "arm": arm.name}
                | _figures(made, features, footage)
                | {"ms": run.ms + (motion_ms if carries(settings) else 0.0), "bank_mib": run.bank_mib}
                | ({} if meter is None else {"attention": meter.told()})
            )
            if seed == seeds[0]:
                shown.append(Pictures(spec.name, prompt, arm.name, made, _where(made, footage)))
    if shown:
        given = footage.frames
        shown.insert(0, Pictures(spec.name, prompt, "input", given, _where(given, footage)))
    return records, shown


def _where(frames: Sequence[Pixels], footage: Footage) -> NDArray[np.float64]:
    shortest = min((track.lag for track in footage.tracks), default=0)
    return error_map(frames, footage.tracks, shortest)


def _figures(made: Sequence[Pixels], features: Sequence[NDArray[np.float32]], footage: Footage) -> Record:
    lags = sorted({track.lag for track in footage.tracks})
    errors = {str(lag): warp_mse(made, footage.tracks, lag) for lag in lags}
    guarded = made[::_EVERY]
    return {
        "warp_mse": {lag: error for lag, error in errors.items() if error is not None},
        "static_std": static_std(made) if footage.still else None,
        "feat_cos": feature_cosine(features),
        "sharpness": float(np.mean([sharpness(frame) for frame in guarded])),
        "style": np.mean([style_features(frame) for frame in guarded], axis=0).tolist(),
    }
