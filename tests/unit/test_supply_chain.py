"""Read off the sources: no pickles, no code of strangers, no shell, and every download pinned."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamv2v_obs.translator import presets

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "streamv2v_obs").rglob("*.py"), *(ROOT / "plugin_scripts").rglob("*.py")])
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
UNSAFE_CALLS = {
    *("torch.load", "torch.hub.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("os.system", "os.popen", "eval", "exec", "compile", "__import__"),
}
ALLOWED = {
    # An object of ruamel's, which keeps comments and makes no objects of what it reads.
    ("streamv2v_obs/rules_text.py", "yaml.load"),
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in UNSAFE_MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call) and dotted(node.func) in UNSAFE_CALLS:
            yield dotted(node.func)
        elif isinstance(node, ast.keyword):
            on = not (isinstance(node.value, ast.Constant) and node.value.value is False)
            if node.arg in ("trust_remote_code", "allow_pickle", "shell") and on:
                yield str(node.arg)


@pytest.mark.parametrize("path", SOURCES, ids=[path.relative_to(ROOT).as_posix() for path in SOURCES])
def test_nothing_unsafe_is_loaded_or_run(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = [what for what in unsafe(ast.parse(path.read_text(encoding="utf-8"))) if (name, what) not in ALLOWED]
    assert found == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("torch.load(path)", "torch.load"),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", "trust_remote_code"),
        ("np.fromfile(p); np.lib.format.read_array(f, allow_pickle=wanted)", "allow_pickle"),
        ("subprocess.run(words, shell=True)", "shell"),
        ("eval(text)", "eval"),
    ],
)
def test_the_search_finds_what_it_looks_for(line: str, what: str) -> None:
    assert list(unsafe(ast.parse(line))) == [what]


def test_every_download_is_of_one_commit_and_every_weight_of_one_hash() -> None:
    repositories = [repository for preset in presets.PRESETS.values() for repository in preset.repositories]
    assert repositories
    for repository in repositories:
        assert re.fullmatch(r"[0-9a-f]{40}", repository.revision), repository.name
        for file in repository.files:
            assert Path(file.path).suffix not in {".bin", ".ckpt", ".pt", ".pth", ".pkl"}, file.path
            if file.path.endswith(".safetensors"):
                assert re.fullmatch(r"[0-9a-f]{64}", file.sha256 or ""), f"{repository.name}: {file.path}"
