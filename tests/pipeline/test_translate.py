"""File to file with the demo model: nothing is lost, nothing is random, and prompt and bank make a difference."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from streamv2v_obs.config import load_settings
from streamv2v_obs.engine.translate import TranslateReport, translate_file
from streamv2v_obs.errors import ConfigError, SourceLost

FPS = Fraction(24000, 1001)
FRAMES = 16


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still scene of soft shapes under sensor noise, 640x360."""
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    y, x = np.mgrid[0:360, 0:640].astype(np.float32)
    waves = [np.sin(x / 61 + 1) + np.sin(y / 37), np.sin(x / 47) + np.sin(y / 53 + 2), np.sin((x + y) / 71)]
    scene = np.stack([128 + 55 * wave for wave in waves], -1)
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.options = {"crf": "8"}
        for _ in range(FRAMES):
            noisy = np.clip(scene + noise.normal(0, 6, scene.shape), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode())
    return path


def translated(clip: Path, target: Path, *overrides: str) -> TranslateReport:
    return translate_file(
        load_settings(None, ["model.name=demo", "model.backend=torch", *overrides]),
        clip,
        target,
        lambda done, of: None,
    )


def pictures(path: Path) -> npt.NDArray[np.float32]:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(np.float32)


def test_as_many_frames_out_as_in_at_their_rate_and_size(clip: Path, tmp_path: Path) -> None:
    report = translated(clip, tmp_path / "out.mp4")
    assert (report.frames_in, report.frames_out) == (FRAMES, FRAMES)
    assert report.bank_updates == -(-(FRAMES + 1) // 4), "every 4th call, the one that flushes the last frame included"
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (640, 360, FPS)
        times = [frame.pts * stream.time_base for frame in container.decode(video=0)]
    assert times == [n / FPS for n in range(FRAMES)]


def test_prompts_differ_seeds_repeat_and_the_bank_matters(clip: Path, tmp_path: Path) -> None:
    outcomes = {}
    for name, overrides in {
        "oil": ("translator.prompt=an oil painting",),
        "again": ("translator.prompt=an oil painting",),
        "other seed": ("translator.prompt=an oil painting", "translator.seed=1"),
        "pencil": ("translator.prompt=a pencil sketch",),
        "no bank": ("translator.prompt=an oil painting", "translator.bank.kind=off"),
    }.items():
        translated(clip, tmp_path / f"{name}.mp4", *overrides)
        outcomes[name] = pictures(tmp_path / f"{name}.mp4")
    assert (tmp_path / "oil.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()
    assert (tmp_path / "oil.mp4").read_bytes() != (tmp_path / "other seed.mp4").read_bytes()

    def distance(a: str, b: str) -> float:
        return float(np.abs(outcomes[a] - outcomes[b]).mean())

    def colourfulness(name: str) -> float:
        return float(np.ptp(outcomes[name], axis=-1).mean())

    assert distance("oil", "pencil") > 30
    assert colourfulness("oil") > 2 * colourfulness("pencil")
    assert distance("oil", "no bank") > 0.5


def test_the_command_says_what_it_did(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streamv2v_obs", "translate", str(clip), str(tmp_path / "out.mp4"), "--json"]
    options = ["--prompt", "a watercolor", "--model", "demo", "--strength", "0.5", "--steps", "1", "--bank", "queue"]
    done = subprocess.run([*command, *options, "--seed", "7"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["frames_in"], said["frames_out"], said["bank"], said["seed"]) == (FRAMES, FRAMES, "queue", 7)
    assert len(pictures(tmp_path / "out.mp4")) == FRAMES


def test_nothing_is_left_of_a_translation_that_cannot_be(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the input itself"):
        translated(clip, clip)
    with pytest.raises(SourceLost, match=r"nowhere\.mp4"):
        translated(tmp_path / "nowhere.mp4", tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []
