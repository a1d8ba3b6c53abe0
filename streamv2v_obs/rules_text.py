"""Other scene rules in the text of a settings file, in which nothing else changes by a letter."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml as pyyaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.scalarstring import DoubleQuotedScalarString


@dataclass(frozen=True)
class _Item:
    """A rule as it stands in the file: its lines, with the comments above it."""

    heading: list[str]
    body: list[str]
    rule: Mapping[str, Any]


def with_rules(text: str, rules: Sequence[Mapping[str, Any]]) -> str:
    """``text`` with ``obs.rules`` replaced. A rule whose scene was there, or that got another one, keeps its comments,
    and its lines as they are if it did not change. Raises YAMLError, or ValueError for a section obs that is none.
    """
    rules = _quoted(rules)
    yaml = _yaml()
    tree = yaml.load(text)
    if tree is None:  # empty, or comments only, which belong to nothing that could be kept
        made = CommentedMap(obs=CommentedMap(rules=CommentedSeq([CommentedMap(rule) for rule in rules])))
        return text + ("\n" if text and not text.endswith("\n") else "") + (_dumped(yaml, made) if rules else "")
    if not isinstance(tree, CommentedMap) or not isinstance(tree.setdefault("obs", CommentedMap()), CommentedMap):
        raise ValueError("obs is no section")
    was = tree["obs"].get("rules")
    if isinstance(was, CommentedSeq) and was and not was.fa.flow_style():
        lines = text.splitlines(keepends=True)
        first, last, indent, items = _items(yaml.compose(text), lines, was)
        if not rules:
            key, colon, rest = lines[first - 1].partition(":")
            return "".join([*lines[: first - 1], f"{key}{colon} []{rest}", *lines[last:]])
        return "".join([*lines[:first], *_written(items, rules, " " * indent), *lines[last:]])
    if not rules and was is None:
        return text
    fresh = CommentedSeq([CommentedMap(rule) for rule in rules])
    if not rules:
        fresh.fa.set_flow_style()
    tree["obs"]["rules"] = fresh
    return _dumped(yaml, tree)


def _quoted(value: Any) -> Any:
    """``value`` with quotes about each text that would be read back as something else.

    Settings are read by PyYAML, to which Off is false and 1:30 is 90 (YAML 1.1), but here they are texts (1.2).
    """
    if isinstance(value, Mapping):
        return {key: _quoted(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_quoted(inner) for inner in value]
    if not isinstance(value, str):
        return value
    read_as = pyyaml.resolver.Resolver().resolve(pyyaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]
    return value if read_as == "tag:yaml.org,2002:str" else DoubleQuotedScalarString(value)


def _yaml() -> YAML:
    yaml = YAML()  # the round-trip kind: it keeps comments, order and quotes
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _dumped(yaml: YAML, tree: Any) -> str:
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


def _items(root: Any, lines: Sequence[str], was: CommentedSeq) -> tuple[int, int, int, list[_Item]]:
    """First line, line after the last, column of the dash, and what is in between."""
    key, rules = _member(_member(root, "obs")[1], "rules")
    begin = first = key.end_mark.line + 1
    indent = rules.start_mark.column
    items = []
    for node, rule in zip(rules.value, was, strict=True):
        start = node.start_mark.line
        if lines[start][: node.start_mark.column].strip() != "-":
            raise ValueError(f"line {start + 1}: a rule that does not begin right behind its dash is not edited here")
        end = max(_ends(node)) + 1
        while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
            end -= 1
        body = list(lines[start:end])
        if not body[-1].endswith("\n"):
            body[-1] += "\n"
        items.append(_Item(list(lines[begin:start]), body, rule))
        begin = end
    return first, begin, indent, items


def _member(node: Any, name: str) -> tuple[Any, Any]:
    found: tuple[Any, Any] = next((key, value) for key, value in node.value if key.value == name)
    return found


def _ends(node: Any) -> Iterator[int]:
    """Last lines of all that is in ``node``; a block's own end is where the next thing begins, comments skipped."""
    if isinstance(node, ScalarNode):
        # A value left empty stands where the next thing begins; its key says where it ends.
        if node.start_mark.index < node.end_mark.index:
            yield node.end_mark.line - (node.style in ("|", ">"))
    elif node.flow_style:
        yield node.end_mark.line
    else:
        for part in node.value:
            for inner in part if isinstance(part, tuple) else (part,):
                yield from _ends(inner)


def _written(items: Sequence[_Item], rules: Sequence[Mapping[str, Any]], indent: str) -> Iterator[str]:
    known = {item.rule.get("scene"): item for item in items}
    scenes = {rule["scene"] for rule in rules}
    for place, rule in enumerate(rules):
        item = known.get(rule["scene"])
        if item is None and place < len(items) and items[place].rule.get("scene") not in scenes:
            item = items[place] if _renamed(items[place].rule, rule) else None
        yield from item.heading if item is not None else ()
        if item is not None and dict(item.rule) == rule:
            yield from item.body
        else:
            yield from _edited(item.body if item is not None else None, rule, indent)


def _renamed(was: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """Whether it is the same rule under another scene's name, and not another one in the place of one removed."""
    others = [key for key in was if key != "scene"]
    return any(rule.get(key) == was[key] for key in others) or not others


def _edited(body: Sequence[str] | None, rule: Mapping[str, Any], indent: str) -> Iterator[str]:
    yaml = _yaml()
    yaml.indent(mapping=2, sequence=2, offset=0)
    if body is None:
        tree = CommentedSeq([CommentedMap(rule)])
    else:
        tree = yaml.load("".join(line.removeprefix(indent) for line in body))
        node = tree[0]
        for key in [key for key in node if key not in rule]:
            del node[key]
        for key, value in rule.items():
            if key not in node or node[key] != value:
                node[key] = value
    for line in _dumped(yaml, tree).splitlines(keepends=True):
        yield indent + line if line.strip() else line
