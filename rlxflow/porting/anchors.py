"""Which values of our graph are which activations of the reference: by the weights that make or read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rlxflow.dtypes import Array
from rlxflow.errors import GraphError
from rlxflow.ir.dims import bind_shape, dim
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value
from rlxflow.porting.activations import Activations
from rlxflow.weights.plan import WeightPlan

# op → the operands that are weights; the module's output is what the op gives, with its bias added
_READERS = {"linear": (1,), "gather": (0,), "layer_norm": (1, 2), "rms_norm": (1,)}
_MOVES = ("reshape", "slice", "transpose")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A value that the reference recorded: what went into a module, or came out of it ("in", "out")."""

    module: str
    side: str
    value: Value
    expected: Array

    @property
    def name(self) -> str:
        return self.module if self.side == "out" else f"{self.module} (its input)"


def find_anchors(
    graph: Graph, plan: WeightPlan, reference: Activations, sizes: Mapping[str, int]
) -> list[Anchor]:
    """Every anchor, operands before users; at most one per value, outputs rather than inputs.

    Graph outputs that the reference has too are anchors as well.
    """
    to_reference = _paths(graph, plan, reference)
    found: dict[Value, Anchor] = {}
    for node in graph.nodes:
        for module, columns in _modules(node, plan):
            recorded = reference.modules.get(to_reference(module), {})
            result = _with_bias(graph, node)
            sides = {"out": (result, columns), "in": (node.inputs[0], None)}
            if node.op.name == "gather":
                del sides["in"]  # ids, or positions
            for side, (value, part) in sides.items():
                expected = _fitting(recorded.get(side), value, part, sizes)
                if expected is not None and (value not in found or side == "out"):
                    found[value] = Anchor(to_reference(module), side, value, expected)
    for name, value in graph.outputs.items():
        expected = _fitting(reference.outputs.get(name), value, None, sizes)
        if expected is not None:
            found.setdefault(value, Anchor(f"output {name}", "out", value, expected))
    order = {node: i for i, node in enumerate(graph.nodes)}
    return sorted(found.values(), key=lambda a: order[a.value.node])


def weight_keys(graph: Graph) -> list[str]:
    """The modules of our own keys, without the last part (`.weight`, `.bias`)."""
    return list(dict.fromkeys(key.rpartition(".")[0] for key in graph.params))


def _paths(graph: Graph, plan: WeightPlan, reference: Activations) -> _Renamed:
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


@dataclass(frozen=True, slots=True)
class _Renamed:
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
    lead = array.shape[: min(2, array.ndim)]
    count = 1
    for size in shape:
        count *= size
    return array.reshape(shape) if array.size == count and lead[0] == shape[0] else None
