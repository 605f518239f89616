"""A table of a flow: stages, shapes, parameters, memory."""

from __future__ import annotations

from math import prod

from rlxflow.flow.declared import declare
from rlxflow.flow.flow import ModelFlow
from rlxflow.flow.lowering import lower
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class Summary:
    """Rows of (stage path, shape after it, parameters); `unknown` counts weights of undeclared size."""

    name: str
    rows: tuple[tuple[str, str, int], ...]
    parameters: int
    unknown: int

    def __str__(self) -> str:
        width = max([len(path) for path, _, _ in self.rows] + [5])
        lines = [f"{self.name}", f"  {'stage':<{width}}  {'parameters':>13}  value"]
        lines += [f"  {path:<{width}}  {count:>13,}  {shape}" for path, shape, count in self.rows]
        note = f", and {self.unknown} weights whose size only the checkpoint tells" if self.unknown else ""
        lines.append(f"  {self.parameters:,} parameters, {self.parameters * 4 / 2**20:,.1f} MiB in f32{note}")
        return "\n".join(lines)


def summarize(flow: ModelFlow) -> Summary:
    """The summary of a flow; works without weights, and on a flow with wiring problems."""
    lowered = lower(flow)
    counted: set[str] = set()
    rows, total, unknown = [], 0, 0
    for (_, specs), (path, value) in zip(declare(flow).specs, lowered.trace, strict=True):
        stored = {s.tied_to or s.key: s for s in specs}
        fresh = [s for key, s in stored.items() if key not in counted]
        counted.update(stored)
        count = sum(_size(s) for s in fresh)
        rows.append((path, str(value.type) if value is not None else "?", count))
        total += count
        unknown += sum(None in s.shape for s in fresh)
    return Summary(flow.name, tuple(rows), total, unknown)


def _size(spec: WeightSpec) -> int:
    return 0 if None in spec.shape else prod(d for d in spec.shape if d is not None)
