"""Who may import whom, read off the syntax trees: the publishing process cannot reach a raw frame or torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "streamv2v_obs"
LEAVES = {"errors", "frames", "mailbox", "settings", "commands", "presets", "stats", "config", "shape", "worker"}

# part -> (parts of ours, third-party packages); what is not listed is forbidden.
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "__init__": (set(), set()),
    "errors": (set(), set()),
    "frames": (set(), {"numpy"}),
    "mailbox": (set(), set()),
    "worker": (set(), set()),
    "processes": (set(), set()),
    "shape": ({"frames"}, {"cv2", "numpy"}),
    "settings": (set(), {"pydantic"}),
    "commands": ({"settings"}, set()),
    "presets": ({"commands", "errors", "settings"}, set()),
    "stats": (set(), set()),
    "config": ({"errors", "settings"}, {"pydantic", "pydantic_core", "yaml", "platformdirs"}),
    "reload": ({"commands", "settings"}, set()),
    "rules_text": (set(), {"ruamel", "yaml"}),
    "settings_file": ({"errors", "settings", "config", "rules_text", "worker"}, {"ruamel"}),
    "translator": (
        {"errors", "frames", "settings", "stats", "demo"},
        {"torch", "diffusers", "transformers", "xformers", "safetensors", "huggingface_hub", "numpy", "rich"}
        | {"platformdirs", "httpx", "tokenizers", "pydantic", "openvino", "cv2", "triton"},
    ),
    "capture": (
        {"errors", "frames", "settings", "shape", "obs.client"},
        {"mss", "cv2", "av", "numpy", "Xlib"},
    ),
    "publish": (
        {"errors", "frames", "mailbox", "settings", "stats", "shape", "engine.slot"},
        {"pyvirtualcam", "av", "cv2", "numpy", "anyio"},
    ),
    "obs": (
        {"errors", "settings", "commands", "presets", "stats", "frames", "worker"},
        {"obsws_python", "websocket", "pydantic"},
    ),
    "control": (
        {"errors", "frames", "settings", "commands", "presets", "reload", "stats", "worker", "publish.browser"},
        {"starlette", "uvicorn", "pydantic", "platformdirs", "filelock", "httpx", "anyio", "prometheus_client"}
        | {"typing_extensions", "pynput"},
    ),
    "engine": (LEAVES | {"capture", "translator", "publish.recording"}, {"numpy", "psutil"}),
    "demo": (
        LEAVES | {"translator", "processes"},
        {
            "cv2",
            "numpy",
            "skimage",
            "torch",
            "diffusers",
            "transformers",
            "tokenizers",
            "safetensors",
            "rich",
            "typer",
        },
    ),
    "bench": (
        LEAVES
        | {"translator", "engine", "capture", "demo", "eval", "control.endpoint", "obs.client"}
        | {"publish.browser", "publish.outputs", "publish.recording"},
        {"numpy", "torch", "diffusers", "transformers", "rich", "psutil", "typer", "cv2", "httpx", "yaml", "pydantic"}
        # Displays, windows and an OBS to break: they lie with the tests, and only a checkout has them.
        | {"av", "tests"},
    ),
    "eval": (
        LEAVES | {"translator", "capture.video", "demo", "bench.results", "processes"},
        {"numpy", "torch", "cv2", "platformdirs"},
    ),
    "in_force": ({"errors", "reload", "settings", "settings_file", "translator.presets"}, {"pydantic"}),
    "input_view": ({"worker", "engine.slot", "publish.browser"}, set()),
    "service": (
        LEAVES
        | {"in_force", "input_view", "reload", "settings_file", "capture", "publish", "obs", "control", "engine"},
        {"numpy"},
    ),
    "doctor": (LEAVES | {"capture", "publish", "obs", "control", "translator.presets"}, {"psutil", "platformdirs"}),
    "cli": (
        LEAVES
        | {
            "capture",
            "publish",
            "obs",
            "control",
            "engine",
            "service",
            "doctor",
            "cli",
            "translator",
            "bench",
            "eval",
            "settings_file",
        },
        {"typer", "click", "rich", "httpx", "platformdirs", "filelock", "psutil", "pydantic"},
    ),
    "__main__": ({"cli"}, set()),
}
TORCH_FREE = ("cli", "service", "doctor", "config", "capture.source", "publish.sink", "obs.policy", "control.api")


def part_of(path: Path) -> str:
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return next((part for part in ("cli", "doctor") if name.startswith(f"{part}_")), name)


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "streamv2v_obs":
                yield from (f"streamv2v_obs.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=[str(p.relative_to(PACKAGE)) for p in SOURCES])
def test_a_part_imports_only_what_the_table_allows(path: Path) -> None:
    part = part_of(path)
    ours, outside = TABLE[part]
    for name in imports_of(path):
        if name.startswith("streamv2v_obs"):
            inner = name.removeprefix("streamv2v_obs").removeprefix(".")
            top = inner.split(".")[0]
            allowed = top in ("", "__version__", part) or top in ours or inner in ours
            families = {"cli", "doctor"} & {part, *ours}
            allowed = allowed or any(top.startswith(f"{family}_") for family in families)
        else:
            top = name.split(".")[0]
            allowed = top in outside or top in sys.stdlib_module_names
        assert allowed, f"{path.relative_to(PACKAGE)} imports {name}, which the table does not allow"


def test_obs_scripts_need_nothing_but_the_standard_library() -> None:
    for path in (PACKAGE.parent / "plugin_scripts").rglob("*.py"):
        for name in imports_of(path):
            assert name.split(".")[0] in {*sys.stdlib_module_names, "obspython"}, f"{path} imports {name}"


def test_the_service_side_starts_without_torch() -> None:
    modules = ", ".join(f"streamv2v_obs.{name}" for name in TORCH_FREE)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_blob_of_code_is_never_loaded() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                name = f"{getattr(node.value, 'id', '')}.{node.attr}"
                assert name not in {"torch.load", "pickle.load", "pickle.loads"}, f"{path} unpickles"
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert getattr(node.value, "value", None) is False, f"{path} runs a repository's code"


POSIX_ONLY = {"os.fork", "os.kill", "os.chmod", "os.geteuid", "os.getuid", "os.setsid", "signal.SIGKILL"}
PLATFORM_MODULES = ("linux", "posix", "windows", "macos", "x11")


def test_posix_only_calls_stand_in_adapters_named_after_their_platform() -> None:
    for path in SOURCES:
        if any(name in path.stem for name in PLATFORM_MODULES):
            continue
        text = path.read_text(encoding="utf-8")
        assert not {"fcntl", "resource", "termios"} & set(imports_of(path)), path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute):
                name = f"{getattr(node.value, 'id', '')}.{node.attr}"
                assert name not in POSIX_ONLY, f"{path.relative_to(PACKAGE)} calls {name}"
