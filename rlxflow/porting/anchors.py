"""Which values of our graph are which activations of the reference: by the weights that make or read them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import GraphError
from rlxflow.ir.dims import bind_shape, dim
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value
from rlxflow.porting.activations import Activations
from rlxflow.porting.region import relative_error
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightPlan

# op → the operands that are weights; the module's output is what the op gives, with its bias added
_READERS = {"linear": (1,), "gather": (0,), "layer_norm": (1, 2), "rms_norm": (1,)}
SAME = 1e-6  # the difference below which two arrays of the reference are one
_MOVES = ("reshape", "slice", "transpose")


@dataclass(frozen=True)
class Anchor:
    """A value that the reference recorded: what went into a module, or came out of it ("in", "out"), or
    an output of the whole model ("output").

    `before` is set where one value of ours is two of the reference's: what it was before the reference did
    something to it that we do not do.
    """

    module: str
    side: str
    value: Value
    expected: Array
    before: Array | None = None

    @property
    def name(self) -> str:
        return f"{self.module} (its input)" if self.side == "in" else self.module


def find_anchors(
    graph: Graph, plan: WeightPlan, reference: Activations, sizes: Mapping[str, int]
) -> list[Anchor]:
    """Every anchor, operands before users; one per value, a second one where the reference has two arrays.

    Of a module that runs again (ALBERT's layer) the reference holds the first run, and so the first has
    anchors. Graph outputs that the reference has too are anchors as well.
    """
    to_reference = _paths(plan, reference)
    made: dict[Value, Anchor] = {}
    read: dict[Value, list[Anchor]] = {}
    ran: set[tuple[str, str]] = set()
    for node in graph.nodes:
        for module, columns in _modules(node, plan):
            recorded = reference.modules.get(to_reference(module), {})
            result = _with_bias(graph, node)
            sides = {"out": (result, columns), "in": (node.inputs[0], None)}
            if node.op.name == "gather":
                del sides["in"]  # ids, or positions
            for side, (value, part) in sides.items():
                expected = _fitting(recorded.get(side), value, part, sizes)
                own = "" if part is None else f"[{part.start}:{part.stop}]"
                name = to_reference(module) + own
                if expected is None or (name, side) in ran:
                    continue
                ran.add((name, side))
                anchor = Anchor(name, side, value, expected)
                if side == "out":
                    made[value] = anchor
                elif value.node.op.name != "input":  # which is given
                    read.setdefault(value, []).append(anchor)
    for name, value in graph.outputs.items():
        expected = _fitting(reference.outputs.get(name), value, None, sizes)
        if expected is not None:
            read.setdefault(value, []).append(Anchor(f"output {name}", "output", value, expected))
    _leave_to_readers(made, read)
    order = {node: i for i, node in enumerate(graph.nodes)}
    values = sorted({*made, *read}, key=lambda v: order[v.node])
    return [a for v in values for a in _of_value(made.get(v), read.get(v, []), reference.valid)]


def _leave_to_readers(made: dict[Value, Anchor], read: dict[Value, list[Anchor]]) -> None:
    """Drop embeddings that do more in the reference: what it recorded is what a later value of ours is."""
    elsewhere = [a for readings in read.values() for a in readings]
    for value in [v for v in made if v.node.op.name == "gather" and v not in read]:
        if any(np.array_equal(a.expected, made[value].expected) for a in elsewhere):
            del made[value]


def _of_value(made: Anchor | None, read: list[Anchor], valid: Array | None) -> list[Anchor]:
    """The anchor of a value, and the first reading of it that the reference changed before."""
    if made is None:
        return read[:1]
    changed = [a for a in read if relative_error(a.expected, made.expected, valid) > SAME]
    return [made, *(replace(a, before=made.expected) for a in changed[:1])]


def missing_modules(plan: WeightPlan, reference: Activations) -> tuple[str, ...]:
    """Our modules, under the reference's names, that it did not record."""
    to_reference = _paths(plan, reference)
    own = dict.fromkeys(to_reference(key.rpartition(".")[0]) for key in plan.tensors)
    return tuple(name for name in own if name not in reference.modules)


def _paths(plan: WeightPlan, reference: Activations) -> _Renamed:
    """The change of prefix under which most of our modules are modules of the reference."""
    own = list(dict.fromkeys(key.rpartition(".")[0] for key in plan.tensors))
    votes: Counter[tuple[str, str]] = Counter({("", ""): 0})
    known = set(reference.modules)
    for module in own:
        if module in known:
            votes["", ""] += 1
            continue
        parts = module.split(".")
        for cut in range(min(3, len(parts))):
            tail = ".".join(parts[cut:])
            before = ".".join(parts[:cut]) + "." if cut else ""
            for path in known:
                if path == tail or path.endswith(f".{tail}"):
                    votes[before, path.removesuffix(tail)] += 1
    (before, after), _ = votes.most_common(1)[0]
    return _Renamed(before, after)


@dataclass(frozen=True)
class _Renamed:
    """A change of prefix."""

    before: str
    after: str

    def __call__(self, module: str) -> str:
        return self.after + module.removeprefix(self.before) if module.startswith(self.before) else module


def _modules(node: Node, plan: WeightPlan) -> Iterator[tuple[str, slice | None]]:
    """Modules whose weight this node reads, with the columns of the module's output that it makes.

    A tied weight belongs to several modules; which of them is meant, the shape of what it gives tells.
    """
    for i in _READERS.get(node.op.name, ()):
        if i >= len(node.operands) or node.operands[i] is None:
            continue
        key, columns = weight_of(node.operands[i])
        if not key:
            continue
        planned = plan.tensors.get(key)
        for other, tensor in plan.tensors.items():
            if other == key or (tensor is not None and planned is not None and tensor.key == planned.key):
                yield other.rpartition(".")[0], columns
        return


def weight_of(value: Value | None) -> tuple[str, slice | None]:
    """The key of the weight that a value is, or is rows of; "" for another value."""
    columns: slice | None = None
    while value is not None and value.node.op.name in _MOVES:
        node = value.node
        if node.op.name == "slice" and node.attrs["axis"] % value.rank == 0 and columns is None:
            columns = slice(node.attrs["start"], node.attrs["stop"])
        value = node.inputs[0]
    if value is None or value.node.op.name != "param":
        return "", None
    return value.node.attrs["key"], columns


def _with_bias(graph: Graph, node: Node) -> Value:
    """The result of a node, or of the addition of a bias behind a linear layer."""
    result = node.outputs[0]
    if node.op.name == "linear":
        for user in graph.users.get(result, ()):
            others = [v for v in user.inputs if v is not result]
            if user.op.name == "add" and others and others[0].rank == 1 and weight_of(others[0])[0]:
                return user.outputs[0]
    return result


def _fitting(
    array: Array | None, value: Value, columns: slice | None, sizes: Mapping[str, int]
) -> Array | None:
    """The recorded array in the shape of our value; None where it has another number of elements.

    Values that no sequence owns (a table of positions) are left out.
    """
    if array is None or value.rank < 2 or value.dim(0) != dim("B"):
        return None
    if columns is not None:
        array = array[..., columns]
    try:
        shape = bind_shape(value.shape, sizes)
    except GraphError:
        return None
    if array.ndim == len(shape) == 4 and array.shape != shape:
        array = array.swapaxes(1, 2)  # heads before tokens
    same = array.shape[:2] == shape[:2] or array.shape[0] == math.prod(shape[:2])  # or tokens of all in a row
    return array.reshape(shape) if same and array.size == math.prod(shape) else None
