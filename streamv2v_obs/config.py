"""From YAML, overrides and defaults to settings; every mistake becomes one clear ConfigError."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs
import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from streamv2v_obs.errors import ConfigError, named
from streamv2v_obs.settings import Settings

Tree = dict[str, Any]

_MOST_VALUES = 100_000
"""More than that stand in no settings file."""
_DEEPEST = 50
"""Nor do sections in sections as deep as that; and a file of brackets would take the parser seconds to give up."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that takes a key given twice for the mistake it is."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._checked: set[int] = set()
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self._depth >= _DEEPEST:
            problem = f"is nested {_DEEPEST} deep or more"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Here, and once: what ``<<`` merges in is written into the node, and may stand beside a key of its own.
        if id(node) not in self._checked:
            self._checked.add(id(node))
            self._refuse_doubles(node)
        super().flatten_mapping(node)

    def _refuse_doubles(self, node: yaml.MappingNode) -> None:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
            seen.add(key)


def _refuse_endless(node: yaml.Node | None, sizes: dict[int, int]) -> int:
    """How many values ``node`` stands for with its aliases written out.

    Ten lines of aliases of aliases stand for more than any memory holds, and one of itself has no end. Raises
    MarkedYAMLError.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = _MOST_VALUES  # until it is known: who finds itself inside has too many
        inside = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        sizes[id(node)] = 1 + sum(_refuse_endless(part, sizes) for part in inside)
    if sizes[id(node)] >= _MOST_VALUES:
        raise yaml.MarkedYAMLError(problem=f"holds {_MOST_VALUES} values or more", problem_mark=node.start_mark)
    return sizes[id(node)]


def default_path() -> Path:
    """Where the user's own configuration is looked for."""
    return Path(platformdirs.user_config_dir("streamv2v-obs", appauthor=False)) / "config.yaml"


def load_settings(path: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Settings from ``path`` (none: the user's own file if it exists) with ``a.b=value`` overrides laid over it.

    Raises ConfigError naming file, line, key, value and what is allowed. Nothing is opened but this file and the
    files that secrets name.
    """
    if path is None and default_path().is_file():
        path = default_path()
    tree: Tree = {}
    nodes: yaml.Node | None = None
    if path is not None:
        tree, nodes = _read(path)
    given = dict(_split(override) for override in overrides)
    # The kind of source early: it does away with what the file says of another one, not with what was given here.
    early = [("capture",), ("capture", "kind")]
    for keys in sorted(given, key=lambda keys: early.index(keys) if keys in early else len(early)):
        _lay_over(tree, keys, _value(given[keys]))
    try:
        try:
            return Settings.model_validate(tree)
        except ValidationError as error:
            if not _put_texts_back(tree, given, error):
                raise
            return Settings.model_validate(tree)
    except ValidationError as error:
        explained = [_explain(detail, path, nodes, list(given)) for detail in error.errors()]
        raise ConfigError("; ".join(explained)) from None


def show(settings: Settings) -> str:
    """``settings`` as YAML that can be loaded again; secrets are masked."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> tuple[Tree, yaml.Node | None]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _refuse_endless(node, {})
        tree = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except (ValueError, RecursionError) as error:  # a date of month 13, a thousand brackets
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if tree is None:
        return {}, None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds {tree!r}; allowed: sections such as {', '.join(Settings.model_fields)}")
    return tree, node


def _split(override: str) -> tuple[tuple[str, ...], str]:
    """The keys that one ``a.b=value`` names, and the value's text."""
    name, equals, text = override.partition("=")
    keys = tuple(name.strip().split("."))
    if not equals or not all(keys):
        raise ConfigError(f"--set {override}: allowed is section.key=value, such as translator.steps=4")
    return keys, text


def _value(text: str) -> Any:
    """What YAML makes of the text of an override; a text that only looks like YAML stays as it is."""
    plain = text.strip()
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    if isinstance(value, dict) and not plain.startswith("{"):
        return text  # a prompt with a colon in it
    if plain.startswith("#") or (isinstance(value, str) and not plain.startswith(("'", '"', "|", ">", "!", "&"))):
        return plain  # not a comment: in a prompt, "#1" has a meaning
    return value


def _lay_over(tree: Tree, keys: tuple[str, ...], value: Any) -> None:
    """Put ``value`` where ``keys`` lead."""
    if keys[0] == "capture" and len(keys) > 1:
        tree.setdefault("capture", {"kind": "auto"})
    node = tree
    for key in keys[:-1]:
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]
    if keys == ("capture", "kind") and node.get("kind", "auto") != value:
        # Another kind of source knows other keys: what was set for the old one would only be in its way.
        for stale in [key for key in node if key not in ("fps", "fit")]:
            del node[stale]
    node[keys[-1]] = value


def _put_texts_back(tree: Tree, given: Mapping[tuple[str, ...], str], error: ValidationError) -> bool:
    """Whether a text was wanted where YAML saw a number, a date or nothing; it is put in its place as it was given."""
    found = False
    for detail in error.errors():
        keys = tuple(_without_union_tags(detail["loc"]))
        if detail["type"] in ("string_type", "path_type") and keys in given:
            _lay_over(tree, keys, given[keys].strip())
            found = True
    return found


def _explain(
    detail: ErrorDetails, path: Path | None, root: yaml.Node | None, overridden: list[tuple[str, ...]]
) -> str:
    keys = tuple(_without_union_tags(detail["loc"]))
    if any(keys[: len(o)] == o or o[: len(keys)] == keys for o in overridden if keys):
        where = "--set"
    elif path is None:
        where = "settings"
    else:
        line = _line_of(root, keys)
        where = f"{path}:{line}" if line else str(path)
    key = named(".".join(keys))
    allowed = _allowed(detail, keys)
    message = detail["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list, such as [a, b]")
    kind = detail["type"]
    if kind == "extra_forbidden":
        return f"{where}: unknown key {key}{allowed}"
    if kind == "missing":
        return f"{where}: {key} is missing"
    if kind == "union_tag_not_found":
        return f"{where}: {key}.kind is missing; allowed: {', '.join(_KINDS)}"
    if kind == "union_tag_invalid":
        return f"{where}: {key}.kind = {detail['ctx']['tag']!r}: allowed: {', '.join(_KINDS)}"
    value = detail["input"]
    telling = kind != "value_error" and not isinstance(value, (dict, Settings)) and "password" not in key
    shown = f" = {value!r}" if telling else ""
    return f"{where}: {key}{shown}: {message}{allowed}".replace(": :", ":")


_KINDS = ("auto", "screen", "camera", "video", "image", "pattern", "obs")


def _without_union_tags(location: tuple[int | str, ...]) -> Iterator[str]:
    """The keys as the user wrote them: pydantic puts the kind of a source behind ``capture`` and ``source``."""
    before: int | str | None = None
    for key in location:
        if not (before in ("capture", "source") and key in _KINDS):
            yield str(key)
        before = key


def _allowed(detail: ErrorDetails, keys: tuple[str, ...]) -> str:
    """What may stand there, where pydantic's own message does not say it."""
    if detail["type"] != "extra_forbidden":
        return ""
    model: Any = Settings
    for key in detail["loc"][:-1]:
        model = _step(model, key)
    fields = getattr(model, "model_fields", None)
    return f"; allowed: {', '.join(fields)}" if fields else ""


def _step(model: Any, key: int | str) -> Any:
    """The part of a settings type that ``key`` leads to."""
    fields = getattr(model, "model_fields", {})
    inner = fields[key].annotation if key in fields else model
    candidates = list(_sections(inner))
    for candidate in candidates:
        kind = candidate.model_fields.get("kind")
        if kind is not None and key in getattr(kind.annotation, "__args__", ()):
            return candidate
    return candidates[0] if len(candidates) == 1 else inner


def _sections(annotation: Any) -> Iterator[Any]:
    if hasattr(annotation, "model_fields"):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _sections(argument)


def _line_of(node: yaml.Node | None, keys: Sequence[str]) -> int | None:
    """The line (from 1) of the deepest of ``keys`` that the file holds."""
    line = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == key), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        else:
            break
    return line
