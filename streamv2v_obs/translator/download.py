"""Fetches models from the hub at one commit and verifies every file; knows nothing of torch."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from streamv2v_obs.errors import ConfigError, ModelLoadError
from streamv2v_obs.translator.presets import (
    PRESETS,
    Preset,
    Repository,
    download_command,
    preset_folder,
)
from streamv2v_obs.translator.safe_weights import weight_variant
from streamv2v_obs.translator.verification import git_hash_of, note, sha256_of, write_lock

log = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")


def _endpoint() -> str | None:
    # Read at each call: huggingface_hub reads it once, at import.
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def _hub(repository: str, revision: str, otherwise: str) -> Iterator[None]:
    """Map what the hub's client raises to ModelLoadError; ``otherwise`` says what to do without a network."""
    try:
        yield
    except GatedRepoError as error:
        raise ModelLoadError(
            f"{repository}: its owner wants you to accept terms; do so on its page, then run: hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelLoadError(f"{repository}: the hub knows no such public repository; check the name") from error
    except RevisionNotFoundError as error:
        raise ModelLoadError(f"{repository}: has no commit {revision}; check the hash after @") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelLoadError(f"{repository}: the hub cannot be reached; {otherwise}") from error
    except EntryNotFoundError as error:
        raise ModelLoadError(f"{repository}@{revision}: lacks a file that is needed ({_first_line(error)})") from error
    except HfHubHTTPError as error:
        raise ModelLoadError(f"{repository}: the hub answered: {_first_line(error)}; {otherwise}") from error
    except HTTPError as error:
        # Of whichever HTTP library this version of the client uses; no answer came, or it broke off.
        raise ModelLoadError(f"{repository}: the hub cannot be reached ({_first_line(error)}); {otherwise}") from error
    except OSError as error:
        raise ModelLoadError(f"{repository}: cannot be stored ({_first_line(error)}); {otherwise}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# --- presets ------------------------------------------------------------------------------------------------


def download_preset(name: str, folder: Path | None = None, *, progress_bar: type[Any] | None = None) -> Path:
    """Fetch what is missing of a preset and verify all of it; returns its folder.

    Resumes where a broken download ended. Shows a progress bar on a terminal; ``progress_bar`` is another tqdm
    class. Every file is checked against what the hub declares for the pinned commit (sha256 of weights, git hash of
    small files) and weights against the sha256 pinned in presets.py. The commit and hashes are noted in a lock file.
    Raises ConfigError for an unknown preset, ModelLoadError for everything else.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; allowed: {', '.join(PRESETS)}")
    preset = PRESETS[name]
    folder = folder or preset_folder(preset)
    if not preset.repositories:
        log.info("%s is embedded: nothing to download", name)
        return folder
    return fetch_preset(preset, folder, progress_bar=progress_bar)


def fetch_preset(preset: Preset, folder: Path, *, progress_bar: type[Any] | None = None) -> Path:
    """As ``download_preset``, for a preset that need not be one of ours."""
    entries: dict[str, dict[str, Any]] = {}
    for repository in preset.repositories:
        place = folder / repository.into
        otherwise = (
            f"once there is a network run: {download_command(preset)}; or put these files of commit "
            f"{repository.revision} into {place}: {', '.join(file.path for file in repository.files)}"
        )
        with _hub(repository.name, repository.revision, otherwise):
            declared = _declared(repository)
            for file in repository.files:
                entry = declared.get(file.path)
                if entry is None:
                    raise ModelLoadError(f"{repository.name}@{repository.revision}: has no file {file.path}")
                if file.sha256 is not None and entry.lfs is not None and entry.lfs.sha256 != file.sha256:
                    raise ModelLoadError(
                        f"{repository.name}/{file.path}: the hub declares sha256 {entry.lfs.sha256}, pinned is "
                        f"{file.sha256}; it is not downloaded"
                    )
                path = place / file.path
                if not (path.is_file() and _matches(path, entry, file.sha256)):
                    _fetch(repository, entry, path, progress_bar)
                    if not _matches(path, entry, file.sha256):
                        path.unlink(missing_ok=True)
                        raise ModelLoadError(
                            f"{repository.name}/{file.path}: what arrived is not what the hub declares "
                            f"(wrong hash); it was deleted; run again: {download_command(preset)}"
                        )
                entries[f"{repository.into}/{file.path}"] = note(path)
    write_lock(preset, folder, entries)
    return folder


def _declared(repository: Repository) -> dict[str, RepoFile]:
    paths = [file.path for file in repository.files]
    found = HfApi(endpoint=_endpoint()).get_paths_info(repository.name, paths, revision=repository.revision)
    return {entry.path: entry for entry in found if isinstance(entry, RepoFile)}


def _matches(path: Path, entry: RepoFile, pinned: str | None) -> bool:
    if path.stat().st_size != entry.size:
        return False
    if entry.lfs is None and pinned is None:
        return git_hash_of(path) == entry.blob_id
    actual = sha256_of(path)
    return actual == (pinned or actual) and (entry.lfs is None or actual == entry.lfs.sha256)


def _fetch(repository: Repository, entry: RepoFile, path: Path, progress_bar: type[Any] | None) -> None:
    """Bring ``path``; what a broken download left in ``path``.part is gone on with, in whatever process."""
    # hf_hub_download would begin anew in each process: gigabytes on a line that breaks would never arrive.
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    if part.is_file() and part.stat().st_size > entry.size:
        part.unlink()
    url = hf_hub_url(repository.name, entry.path, revision=repository.revision, endpoint=_endpoint())
    more: dict[str, Any] = {} if progress_bar is None else {"tqdm_class": progress_bar}
    with part.open("ab") as file:
        http_get(
            url,
            file,
            resume_size=file.tell(),
            # Compressed, the bytes of a range would not be those of the file.
            headers=build_hf_headers() | {"Accept-Encoding": "identity"},
            expected_size=entry.size,
            displayed_filename=f"{repository.name}/{entry.path}",
            **more,
        )
    part.replace(path)


# --- any repository -----------------------------------------------------------------------------------------


def _pinned(name: str, revision: str | None) -> str:
    """The commit, or ModelLoadError that says why and how where there is none."""
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    named = f"{revision!r} is a name that can move" if revision else "no commit is named"
    raise ModelLoadError(
        f"{name}: {named}, and whoever owns it could change the weights between two starts; pin it as "
        f"{name}@<commit>, the 40 hex digits that the hub's page shows under 'Files and versions' -> 'History'"
    )


def fetch_repository(name: str, revision: str | None, progress: Callable[[str], None]) -> Path:
    """A diffusers model of the hub, in its shared cache at one commit; fetched only where it is not there yet."""
    commit = _pinned(name, revision)
    otherwise = f"run the same command with a network, or give a local folder as model.name instead of {name}"
    with _hub(name, commit, otherwise):
        api = HfApi(endpoint=_endpoint())
        try:
            found = Path(snapshot_download(name, revision=commit, local_files_only=True))
            if _is_whole(found):
                return found  # else a download broke off
        except LocalEntryNotFoundError:
            pass  # not in the cache: the usual first time
        files = api.list_repo_files(name, revision=commit)
        wanted = choose_files(files)
        if not any(path.startswith("unet/") and path.endswith(".safetensors") for path in wanted):
            raise ModelLoadError(
                f"{name}@{commit}: has no unet/*.safetensors; pickled weights are never opened here; "
                "use a model or a commit with a diffusers folder of .safetensors files"
            )
        progress(f"downloading {name}")
        return Path(snapshot_download(name, revision=commit, allow_patterns=wanted, endpoint=_endpoint()))


def _is_whole(folder: Path) -> bool:
    """Whether all parts of a diffusers model lie in ``folder``."""
    weights = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
    try:
        for part, stem in weights.items():
            weight_variant(folder / part, stem, half=False)
    except ModelLoadError:
        return False
    tokenizers = (("vocab.json", "merges.txt"), ("tokenizer.json",))
    return (
        all((folder / part / "config.json").is_file() for part in weights)
        and (folder / "scheduler" / "scheduler_config.json").is_file()
        and any(all((folder / "tokenizer" / name).is_file() for name in names) for names in tokenizers)
    )


def choose_files(files: list[str]) -> list[str]:
    """What is needed of a diffusers repository: descriptions, and of each part one set of weights, fp16 if there."""
    chosen = [path for path in files if path == "model_index.json"]
    for part in ("scheduler", "tokenizer", "unet", "vae", "text_encoder"):
        inside = [path for path in files if path.startswith(f"{part}/") and path.count("/") == 1]
        chosen += [path for path in inside if path.endswith((".json", ".txt"))]
        weights = [path for path in inside if path.endswith(".safetensors") and "non_ema" not in path]
        half = [path for path in weights if ".fp16" in path]
        chosen += half or weights
    return chosen


def fetch_lora(name: str, revision: str | None) -> Path:
    """The one .safetensors file of a LoRA repository at one commit, in the hub's shared cache."""
    commit = _pinned(name, revision)
    otherwise = "run the same command with a network, or give the path of a .safetensors file"
    with _hub(name, commit, otherwise):
        files = [
            f for f in HfApi(endpoint=_endpoint()).list_repo_files(name, revision=commit) if f.endswith(".safetensors")
        ]
        if len(files) != 1:
            found = ", ".join(files) or "none"
            raise ModelLoadError(
                f"{name}@{commit}: a LoRA repository has one .safetensors file, this one: {found}; "
                "download the one you want and give its path"
            )
        return Path(hf_hub_download(name, files[0], revision=commit, endpoint=_endpoint()))
