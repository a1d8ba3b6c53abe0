"""Downloads from a hub of our own: verified, resumed, refused when something is not what it should be."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from tqdm import tqdm

from streamv2v_obs.errors import ConfigError, ModelLoadError
from streamv2v_obs.settings import ModelSettings
from streamv2v_obs.translator import presets, verification
from streamv2v_obs.translator.download import download_preset, fetch_lora, fetch_repository
from streamv2v_obs.translator.loading import load_model
from streamv2v_obs.translator.presets import LOCK_NAME, Preset, Repository, RepositoryFile
from streamv2v_obs.translator.verification import verify_preset
from tests.rigs.fake_hub import COMMIT, FakeHub, fake_hub
from tests.rigs.tiny_loras import save_kohya
from tests.rigs.tiny_models import save_model, tiny_taesd

WEIGHTS = bytes(range(256)) * 24_000  # six megabytes
NAME = "someone/model"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        # The client writes what arrived in blocks of this size; ten megabytes are more than our files have.
        monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
        hub.files[NAME] = {"config.json": b'{"a": 1}', "weights.safetensors": WEIGHTS}
        yield hub


@pytest.fixture
def preset() -> Preset:
    files = (
        RepositoryFile("config.json"),
        RepositoryFile("weights.safetensors", hashlib.sha256(WEIGHTS).hexdigest()),
    )
    return Preset("small", "a test", "MIT", (Repository(NAME, COMMIT, "base", files),))


@pytest.fixture
def known(preset: Preset, monkeypatch: pytest.MonkeyPatch) -> Preset:
    monkeypatch.setitem(presets.PRESETS, preset.name, preset)
    return preset


def test_a_preset_arrives_verified_with_a_lock(hub: FakeHub, known: Preset, tmp_path: Path) -> None:
    folder = download_preset("small", tmp_path / "small")
    assert (folder / "base/weights.safetensors").read_bytes() == WEIGHTS
    lock = json.loads((folder / LOCK_NAME).read_text())
    assert lock["commits"] == {NAME: COMMIT}
    assert lock["files"]["base/weights.safetensors"]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    verify_preset(known, folder)
    hub.requests.clear()
    download_preset("small", folder)
    assert hub.ranges_of("weights.safetensors") == []


def test_the_progress_bar_counts_the_bytes(hub: FakeHub, known: Preset, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: object, **options: object) -> None:
            options.pop("name", None)
            super().__init__(*args, **(options | {"file": io.StringIO(), "disable": False}))

        def update(self, n: float | None = 1) -> bool | None:
            result: bool | None = super().update(n)
            seen.append((int(self.n), int(self.total) if self.total else None))
            return result

    download_preset("small", tmp_path / "small", progress_bar=Bar)
    assert (len(WEIGHTS), len(WEIGHTS)) in seen


def resumed_at(hub: FakeHub) -> int:
    """Where the last request for the weights began."""
    return int(hub.ranges_of("weights.safetensors")[-1].removeprefix("bytes=").split("-")[0] or 0)


def test_a_break_is_mended_from_where_it_happened(hub: FakeHub, known: Preset, tmp_path: Path) -> None:
    hub.cut["weights.safetensors"] = [2_050_000]
    download_preset("small", tmp_path / "small")
    assert (tmp_path / "small/base/weights.safetensors").read_bytes() == WEIGHTS
    assert resumed_at(hub) == 2_000_000


def test_after_giving_up_the_next_call_goes_on_from_there(
    hub: FakeHub, known: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits between its tries
    hub.cut["weights.safetensors"] = [2_050_000] + [0] * 50
    with pytest.raises(ModelLoadError, match="once there is a network run: streamv2v-obs download small"):
        download_preset("small", tmp_path / "small")
    assert not (tmp_path / "small/base/weights.safetensors").exists()
    hub.cut.clear()
    download_preset("small", tmp_path / "small")
    assert (tmp_path / "small/base/weights.safetensors").read_bytes() == WEIGHTS
    assert resumed_at(hub) == 2_000_000


def test_what_arrives_with_another_hash_is_deleted(hub: FakeHub, known: Preset, tmp_path: Path) -> None:
    hub.sent["weights.safetensors"] = b"\0" * len(WEIGHTS)
    with pytest.raises(ModelLoadError, match="not what the hub declares") as caught:
        download_preset("small", tmp_path / "small")
    assert "run again: streamv2v-obs download small" in str(caught.value)
    assert not (tmp_path / "small/base/weights.safetensors").exists()
    assert not (tmp_path / "small" / LOCK_NAME).exists()


def test_a_changed_small_file_is_deleted(hub: FakeHub, known: Preset, tmp_path: Path) -> None:
    hub.sent["config.json"] = b'{"a": 2}'
    with pytest.raises(ModelLoadError, match=r"config\.json: what arrived is not"):
        download_preset("small", tmp_path / "small")
    assert not (tmp_path / "small/base/config.json").exists()


def test_a_hub_that_declares_another_hash_is_not_believed(hub: FakeHub, known: Preset, tmp_path: Path) -> None:
    hub.declared["weights.safetensors"] = "f" * 64
    with pytest.raises(ModelLoadError, match="pinned is"):
        download_preset("small", tmp_path / "small")
    assert hub.ranges_of("weights.safetensors") == []


def test_a_damaged_file_is_fetched_anew(hub: FakeHub, known: Preset, tmp_path: Path) -> None:
    folder = download_preset("small", tmp_path / "small")
    (folder / "base/weights.safetensors").write_bytes(b"x" * len(WEIGHTS))
    with pytest.raises(ModelLoadError, match="is not the verified file"):
        verify_preset(known, folder)
    download_preset("small", folder)
    assert (folder / "base/weights.safetensors").read_bytes() == WEIGHTS
    verify_preset(known, folder)


def test_a_change_of_a_small_file_is_noticed_by_the_lock(hub: FakeHub, known: Preset, tmp_path: Path) -> None:
    folder = download_preset("small", tmp_path / "small")
    (folder / "base/config.json").write_text('{"a": 3}')
    with pytest.raises(ModelLoadError, match="delete it and run: streamv2v-obs download small"):
        verify_preset(known, folder)


def test_a_lock_does_not_vouch_for_what_another_version_pinned(hub: FakeHub, known: Preset, tmp_path: Path) -> None:
    folder = download_preset("small", tmp_path / "small")
    (repository,) = known.repositories
    config, weights = repository.files
    newer = dataclasses.replace(repository, files=(config, dataclasses.replace(weights, sha256="f" * 64)))
    with pytest.raises(ModelLoadError, match="is not the verified file"):
        verify_preset(dataclasses.replace(known, repositories=(newer,)), folder)


def test_files_put_there_by_hand_are_verified_once(preset: Preset, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_bytes(b"{}")
    (tmp_path / "base/weights.safetensors").write_bytes(WEIGHTS[:-1])
    with pytest.raises(ModelLoadError, match="is not the verified file"):
        verify_preset(preset, tmp_path)
    (tmp_path / "base/weights.safetensors").write_bytes(WEIGHTS)
    verify_preset(preset, tmp_path)
    assert (tmp_path / LOCK_NAME).is_file()


def test_an_unchanged_file_is_not_hashed_at_each_start(
    hub: FakeHub, known: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = download_preset("small", tmp_path / "small")

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} is hashed")

    monkeypatch.setattr(verification, "sha256_of", refuse)
    verify_preset(known, folder)


def test_without_a_network_the_folder_and_files_are_named(
    known: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # discard: nothing listens there
    with pytest.raises(ModelLoadError) as caught:
        download_preset("small", tmp_path / "small")
    message = str(caught.value)
    assert "cannot be reached" in message
    assert "streamv2v-obs download small" in message
    assert str(tmp_path / "small" / "base") in message
    assert "weights.safetensors" in message
    assert "\n" not in message


def test_faults_of_the_repository_are_told_apart(hub: FakeHub, known: Preset, tmp_path: Path) -> None:
    hub.gated = True
    with pytest.raises(ModelLoadError, match="accept terms"):
        download_preset("small", tmp_path / "small")
    hub.gated = False
    del hub.files[NAME]["config.json"]
    with pytest.raises(ModelLoadError, match=r"has no file config\.json"):
        download_preset("small", tmp_path / "small")
    hub.files.clear()
    with pytest.raises(ModelLoadError, match="no such public repository"):
        download_preset("small", tmp_path / "small")


def test_an_unknown_preset_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allowed: sd15-lcm, sd-turbo, demo"):
        download_preset("sd16", tmp_path)
    assert download_preset("demo") == presets.demo_folder()


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder).as_posix()): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_repository_at_a_commit_is_fetched_once_and_loaded(hub: FakeHub, tmp_path: Path) -> None:
    save_model(tmp_path / "model", variant="fp16")
    hub.files[NAME] = content_of(tmp_path / "model") | {
        "unet/diffusion_pytorch_model.bin": b"a pickle",
        "unet/diffusion_pytorch_model.safetensors": b"the large one",
        "safety_checker/model.safetensors": b"not wanted",
    }
    settings = ModelSettings(name=f"{NAME}@{COMMIT}", device="cpu", dtype="float32")
    assert load_model(settings).name == f"{NAME}@{COMMIT}"
    asked = {path for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path}
    assert not any("safety_checker" in path or path.endswith((".bin", "model.safetensors")) for path in asked)
    hub.requests.clear()
    load_model(settings)
    assert [path for _, path, _ in hub.requests if "/resolve/" in path] == []


@pytest.mark.parametrize("lost", ["vae/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"])
def test_what_a_broken_download_left_out_is_fetched(hub: FakeHub, tmp_path: Path, lost: str) -> None:
    save_model(tmp_path / "model")
    hub.files[NAME] = content_of(tmp_path / "model")
    found = fetch_repository(NAME, COMMIT, print)
    (found / lost).unlink()
    assert fetch_repository(NAME, COMMIT, print) == found
    assert (found / lost).read_bytes() == (tmp_path / "model" / lost).read_bytes()
    hub.requests.clear()
    fetch_repository(NAME, COMMIT, print)
    assert hub.requests == []


def test_a_repository_without_safe_weights_is_refused(hub: FakeHub) -> None:
    hub.files[NAME] = {"unet/config.json": b"{}", "unet/diffusion_pytorch_model.bin": b"a pickle"}
    with pytest.raises(ModelLoadError, match="pickled weights are never opened"):
        fetch_repository(NAME, COMMIT, print)


def test_a_commit_that_is_not_there_is_named(hub: FakeHub) -> None:
    with pytest.raises(ModelLoadError, match="has no commit"):
        fetch_repository(NAME, "f" * 40, print)


def test_a_lora_repository_gives_its_one_file(hub: FakeHub, tmp_path: Path) -> None:
    lora = save_kohya(tmp_path / "lora.safetensors", save_model(tmp_path / "model"))
    hub.files[NAME] = {"README.md": b"", "lora.safetensors": lora.read_bytes()}
    lora.unlink()
    settings = {"name": str(tmp_path / "model"), "device": "cpu", "dtype": "float32"}
    load_model(ModelSettings.model_validate(settings | {"loras": [{"path": f"{NAME}@{COMMIT}"}]}))
    hub.files[NAME]["other.safetensors"] = b""
    with pytest.raises(ModelLoadError, match=r"lora\.safetensors, other\.safetensors"):
        fetch_lora(NAME, COMMIT)
    with pytest.raises(ModelLoadError, match="pin it as"):
        fetch_lora(NAME, None)


def test_the_whole_default_preset_from_download_to_model(
    hub: FakeHub, models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sd15-lcm as it is, but for the size of its weights, and so for their hashes."""
    pipeline = save_model(tmp_path / "sd", variant="fp16")
    (tmp_path / "sd/tokenizer/special_tokens_map.json").write_text("{}")
    tiny_taesd().save_pretrained(tmp_path / "taesd")
    (tmp_path / "lora").mkdir()
    save_kohya(tmp_path / "lora/pytorch_lora_weights.safetensors", pipeline)
    places = {"base": tmp_path / "sd", "taesd": tmp_path / "taesd", "lcm-lora": tmp_path / "lora"}
    repositories = []
    for repository in presets.SD15_LCM.repositories:
        hub.files[repository.name] = content_of(places[repository.into])
        files = tuple(
            dataclasses.replace(
                file, sha256=file.sha256 and hashlib.sha256(hub.files[repository.name][file.path]).hexdigest()
            )
            for file in repository.files
        )
        repositories.append(dataclasses.replace(repository, revision=COMMIT, files=files))
    small = dataclasses.replace(presets.SD15_LCM, repositories=tuple(repositories))
    monkeypatch.setattr(presets, "SD15_LCM", small)
    monkeypatch.setitem(presets.PRESETS, "sd15-lcm", small)
    assert not next(model for model in presets.list_models() if model.name == "sd15-lcm").present
    download_preset("sd15-lcm")
    assert next(model for model in presets.list_models() if model.name == "sd15-lcm").present
    model = load_model(ModelSettings(name="sd15-lcm", device="cpu", dtype="float32"))
    assert model.autoencoder.kind == "tiny"
    plain = load_model(ModelSettings(name=str(tmp_path / "sd"), device="cpu", dtype="float32"))
    assert not bool((model.unet.conv_in.weight == plain.unet.conv_in.weight).all())


def test_lists_and_downloads_know_nothing_of_torch() -> None:
    code = (
        "import sys; from streamv2v_obs.translator import presets, download, safe_weights; presets.list_models(); "
        "print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_each_preset_is_pinned_and_its_weights_have_hashes() -> None:
    for preset in presets.PRESETS.values():
        for repository in preset.repositories:
            assert len(repository.revision) == 40
            for file in repository.files:
                assert (file.sha256 is not None) == file.path.endswith(".safetensors")
                assert file.sha256 is None or len(file.sha256) == 64


def test_the_list_names_command_licence_and_folder(models_folder: Path) -> None:
    listed = {model.name: model for model in presets.list_models()}
    assert set(listed) == {"sd15-lcm", "sd-turbo", "demo"}
    demo, big = listed["demo"], listed["sd15-lcm"]
    assert (demo.present, demo.kind, demo.download_command, demo.licence) == (True, "embedded", "", "MIT")
    assert (big.present, big.kind) == (False, "downloaded")
    assert big.download_command == "streamv2v-obs download sd15-lcm"
    assert big.folder == models_folder / "sd15-lcm"
