"""Rewrites the traced graph of a frame, before it is compiled, with the operations of ``fused_ops.py``.

A convolution and its ReLU, with the sum between them; and a group normalisation with the sum before it, the
concatenation before that, and the SiLU after it. What does not fit a pattern stays as it is.
"""

from __future__ import annotations

import logging
import operator
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn.functional import group_norm, relu, silu

from streamv2v_obs.translator import fused_ops
from streamv2v_obs.translator.rungs import Rungs

log = logging.getLogger(__name__)

_OPS: Any = getattr(torch.ops, fused_ops.NAMESPACE)
LARGEST_GROUP = 2**18
"""Numbers of one group: one program takes it, and a few groups of more would leave most of a GPU idle."""
_SUMS = (operator.add, torch.add)
_TAKEN_IN = (*_SUMS, operator.truediv, torch.conv2d, torch.cat, group_norm, relu, silu)
"""What is erased once nobody uses it. Of anything else an unused answer may still write into kept memory."""


def rewrite(module: GraphModule, rungs: Rungs) -> None:
    """What of this is in force, in place."""
    activations = fuse_activations(module) if rungs.fused_activations else 0
    norms = fuse_norms(module) if rungs.fused_norms else 0
    log.info("fused in the frame's graph: %d activations, %d normalisations", activations, norms)


def fuse_activations(module: GraphModule) -> int:
    """relu(convolution) and relu(convolution + x) become one operation each; how many did."""
    found = 0
    for node in _calls(module, relu):
        inner = node.args[0]
        added: Node | None = None
        if _is(inner, *_SUMS) and _own(inner) and len(set(inner.args)) == 2 and not inner.kwargs:
            # The latter of two convolutions: what is added has to be there before it.
            convolutions = [part for part in inner.args if _is_plain_convolution(part) and _own(part)]
            if not convolutions or not all(_shape(part) == _shape(inner) for part in inner.args):
                continue
            (added,) = (part for part in inner.args if part is not convolutions[-1])
            inner = convolutions[-1]
        if not _is_plain_convolution(inner) or not _own(inner) or inner.args[2] is None:
            continue
        pixels, weight, bias, stride, padding, dilation, _ = inner.args
        with module.graph.inserting_before(node):
            made = module.graph.call_function(
                _OPS.convolution_relu.default, (pixels, weight, bias, added, stride, padding, dilation)
            )
        _put(made, node)
        found += 1
    module.recompile()
    return found


def fuse_norms(module: GraphModule) -> int:
    """Each group normalisation becomes one ``sum_group_norm`` with as much around it as fits; how many did.

    Biases of convolutions go into its sum: torch's convolution on a GPU has none, and adds it by a launch of its own.
    """
    found = 0
    for node in _calls(module, group_norm):
        source, groups, weight, shift, eps = node.args  # as torch.nn.GroupNorm calls it
        shape = _shape(source)
        if len(shape) != 4 or shape[1] * shape[2] * shape[3] > LARGEST_GROUP * groups or None in (weight, shift):
            continue
        terms = _terms(source)
        keep = len(source.users) > 1 and not terms.untouched
        last = next(iter(node.users)) if _own(node) else node
        activated = _is(last, silu)
        last = last if activated else node
        graph = module.graph
        with graph.inserting_before(source.next):
            of_rows = None if terms.of_rows is None else graph.call_method("flatten", (terms.of_rows, 1))
            whole = [
                graph.call_function(torch.conv2d, (*part.args[:2], None, *part.args[3:])) if bare else part
                for part, bare in terms.whole
            ]
            second = whole[1] if len(whole) > 1 else None
            summands = (whole[0], second, terms.beside, of_rows, terms.biases)
            given = (*summands, weight, shift, groups, eps, activated, keep)
            made = graph.call_function(_OPS.sum_group_norm.default, given)
            normed = graph.call_function(operator.getitem, (made, 0))
            summed = graph.call_function(operator.getitem, (made, 1)) if keep else None
        _put(normed, last)
        if summed is not None:
            _put(summed, source)
        found += 1
    module.graph.lint()
    module.recompile()
    return found


# --- what is summed --------------------------------------------------------------------------------------------


@dataclass
class _Terms:
    """cat([whole + of_rows + biases, beside]); each of ``whole`` with whether it is a convolution to lose its bias."""

    whole: list[tuple[Node, bool]]
    biases: list[Node] = field(default_factory=list)
    of_rows: Node | None = None
    beside: Node | None = None
    untouched: bool = False
    """The sum is there already, as one tensor."""


def _terms(source: Any) -> _Terms:
    """What ``source`` is made of, as far as ``sum_group_norm`` can make it itself."""
    top, beside = source, None
    if _is(source, torch.cat) and source.kwargs.get("dim") == 1 and len(source.args[0]) == 2:
        top, beside = source.args[0]
        if not _own(top):
            return _Terms([(top, False)], beside=beside)
    found = _Terms([], beside=beside)
    for part in _parts(top, opened=True):
        shape = _shape(part)
        if shape == _shape(top):
            bare = _is_plain_convolution(part) and part.args[2] is not None and (part is top or _own(part))
            found.whole.append((part, bare))
            if bare:
                found.biases.append(part.args[2])
        elif found.of_rows is None and shape == (*_shape(top)[:2], 1, 1):
            found.of_rows = part
        else:
            found.whole.clear()
            break
    if len(found.whole) not in (1, 2) or len(found.biases) > 2:
        found = _Terms([(top, False)], beside=beside)
    found.untouched = found.whole == [(source, False)]
    return found


def _parts(node: Any, *, opened: bool) -> list[Any]:
    """The summands of ``node``; one that somebody else uses, too, is not looked into."""
    if opened and _is(node, operator.truediv) and node.args[1] == 1:
        return _parts(node.args[0], opened=_own(node.args[0]))
    if opened and _is(node, *_SUMS) and not node.kwargs and all(len(_shape(part)) == 4 for part in node.args):
        return [inner for part in node.args for inner in _parts(part, opened=_own(part))]
    return [node]


# --- nodes -----------------------------------------------------------------------------------------------------


def _calls(module: GraphModule, function: Any) -> list[Any]:
    return [node for node in module.graph.nodes if _is(node, function)]


def _is(node: Any, *functions: Any) -> TypeGuard[Any]:
    return isinstance(node, Node) and node.op == "call_function" and node.target in functions


def _own(node: Any) -> bool:
    """Whether one other node alone uses it."""
    return isinstance(node, Node) and len(node.users) == 1


def _shape(node: Any) -> tuple[int, ...]:
    value = node.meta.get("example_value") if isinstance(node, Node) else None
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _is_plain_convolution(node: Any) -> bool:
    """Of one group, as torch.nn.Conv2d calls it."""
    return (
        _is(node, torch.conv2d)
        and len(node.args) == 7
        and node.args[6] == 1
        and not any(isinstance(part, str) for part in node.args)
    )


def _put(made: Node, instead_of: Node) -> None:
    """``made`` is used where the other was, and the other goes with all that only it had used."""
    made.meta = dict(instead_of.meta)
    instead_of.replace_all_uses_with(made)
    _erase(instead_of)


def _erase(node: Node) -> None:
    if node.users or not _is(node, *_TAKEN_IN):
        return
    before = list(node.all_input_nodes)
    node.graph.erase_node(node)
    for part in before:
        if not part._erased:
            _erase(part)
