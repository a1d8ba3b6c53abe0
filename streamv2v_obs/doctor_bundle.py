"""A report to send along with a question: the doctor's lines, the settings and the log, without secrets."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from streamv2v_obs import __version__
from streamv2v_obs.config import show
from streamv2v_obs.doctor_check import Check
from streamv2v_obs.errors import StreamV2VError
from streamv2v_obs.settings import Settings

_LOG_BYTES = 400_000
_SECRET = "(secret)"  # noqa: S105 - what stands in its place
_PATTERNS = (
    re.compile(r"(key=)[\w-]{8,}"),
    re.compile(r"(?i)(bearer\s+)[\w.-]{8,}"),
    re.compile(r"(?i)((?:password|token|secret)[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]{3,}"),
)


def write_bundle(target: Path, settings: Settings, checks: Iterable[Check], log: Path) -> list[str]:
    """Make the zip file ``target``; returns the names of what is in it. Raises StreamV2VError if it cannot be."""
    from streamv2v_obs.control.endpoint import find_endpoint

    try:
        endpoint = find_endpoint()
    except StreamV2VError:
        endpoint = None
    secrets = [settings.obs.password.get_secret_value(), endpoint.token if endpoint else "", _stream_key()]
    parts = {
        "doctor.txt": "".join(
            f"{c.verdict:4} {c.name}: {c.detail}{'  ->  ' + c.fix if c.fix else ''}\n" for c in checks
        ),
        "settings.yaml": show(settings),
        "system.json": json.dumps(_system(), indent=2),
        "status.json": _status(),
        "log.txt": _tail(log),
    }
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
            for name, text in parts.items():
                file.writestr(name, redact(text, secrets))
    except OSError as error:
        raise StreamV2VError(f"{target}: cannot be written: {error.strerror}") from error
    return list(parts)


def redact(text: str, secrets: Iterable[str]) -> str:
    """``text`` without ``secrets``, anything that looks like one, the user's folder and the machine's name."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, _SECRET)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<1>{_SECRET}", text)
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~").replace(home.replace("\\", "\\\\"), "~")
    for private in (platform.node(), os.environ.get("USER") or os.environ.get("USERNAME") or ""):
        if len(private) > 2:
            text = re.sub(rf"\b{re.escape(private)}\b", "(private)", text)
    return text


def _system() -> Mapping[str, object]:
    packages = {(found.metadata["Name"] or "?"): found.version for found in importlib.metadata.distributions()}
    return {
        "streamv2v-obs": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "session": {name: os.environ.get(name) for name in ("XDG_SESSION_TYPE", "WAYLAND_DISPLAY", "DISPLAY")},
        "packages": dict(sorted(packages.items())),
    }


def _status() -> str:
    from streamv2v_obs.control.client import ServiceClient
    from streamv2v_obs.control.endpoint import require_endpoint

    try:
        return json.dumps(ServiceClient(require_endpoint()).get("/v1/status"), indent=2)
    except StreamV2VError as error:
        return str(error)


def _stream_key() -> str:
    from streamv2v_obs.control.auth import stream_key_file

    try:
        return stream_key_file().read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _tail(log: Path) -> str:
    try:
        data = log.read_bytes()
    except OSError as error:
        return f"{log}: {error.strerror}"
    return data[-_LOG_BYTES:].decode("utf-8", "replace")
