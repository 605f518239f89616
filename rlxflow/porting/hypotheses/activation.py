"""What may be wrong inside a feed-forward network: the activation, and which half is gated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlxflow.ir.op import OPS
from rlxflow.ir.values import Node, Value
from rlxflow.porting.hypotheses.cause import Cause, tried
from rlxflow.porting.region import Region

NAMES = ("gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "relu2", "tanh", "sigmoid")


def flavour(region: Region) -> Iterator[Cause]:
    """Another activation."""
    nodes = region.has(*NAMES)
    for name in NAMES if nodes else ():
        if name == nodes[0].op.name:
            continue

        def change(node: Node, operands: list[Any], name: str = name) -> Any:
            if node not in nodes:
                return None
            reference = OPS[name].reference_fn
            assert reference is not None
            return reference(*operands)

        text = f"activation: the reference uses {name} (ours: {nodes[0].op.name})"
        yield from tried(region, "activation", text, change)
    if nodes:
        text = f"activation: the reference has none (ours: {nodes[0].op.name})"
        yield from tried(region, "activation", text, lambda n, o: o[0] if n in nodes else None)


def gate(region: Region) -> Iterator[Cause]:
    """act(up) · gate for act(gate) · up."""
    for node in region.has("mul"):
        for i, value in enumerate(node.inputs[:2]):
            if value.node.op.name not in NAMES or len(node.inputs) != 2:
                continue
            activation, other = value.node, node.inputs[1 - i]

            def change(
                at: Node, _: list[Any], mul: Node = node, act: Node = activation, up: Value = other
            ) -> Any:
                if at is not mul:
                    return None
                gate_value, up_value = (region.run(target=v) for v in (act.inputs[0], up))
                return region.plain(act, [up_value]) * gate_value

            text = "gate and up are swapped: the reference activates the other one"
            yield from tried(region, "gate/up swapped", text, change)
