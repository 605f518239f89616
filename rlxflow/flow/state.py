"""What stages share while a flow is emitted."""

from __future__ import annotations

from dataclasses import field

from rlxflow.ir.graph import State
from rlxflow.ir.values import Value
from rlxflow.quick_dataclass import dataclass


@dataclass
class FlowState:
    """Named handles: rope tables, saved residuals, streams, outputs and cache states.

    `rope` maps a table name to (cos, sin), `failed_rope` names tables whose stage failed; `residuals` is a
    stack of (value, path of the stage that saved it); `streams` holds values stored by name; `caches` the
    states of the flow.
    """

    rope: dict[str, tuple[Value, Value]] = field(default_factory=dict)
    failed_rope: set[str] = field(default_factory=set)
    residuals: list[tuple[Value, str]] = field(default_factory=list)
    streams: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)
    caches: dict[str, State] = field(default_factory=dict)
