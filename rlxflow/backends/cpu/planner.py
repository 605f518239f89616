"""From a graph to a plan: drafts of steps get their buffers and addresses."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from rlxflow.backends.cpu.arena import Need, assign
from rlxflow.backends.cpu.describe import Source
from rlxflow.backends.cpu.domain import View, rows_of
from rlxflow.backends.cpu.drafter import Drafter
from rlxflow.backends.cpu.drafts import Buffer, Coded, Draft, KeyRows, Records, Unit
from rlxflow.backends.cpu.plan import (
    Address,
    Constant,
    GatherCheck,
    Given,
    InFrame,
    InSlot,
    InTable,
    Made,
    Plan,
    PlanStep,
)
from rlxflow.backends.cpu.scratch import scratch_of
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.rows import batch_independent, validity_inputs
from rlxflow.errors import BackendError
from rlxflow.ir.dims import Dim
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Value

if TYPE_CHECKING:
    from rlxflow.profile.sections import PrecisionProfile


def make_plan(graph: Graph, target: Target, precision: PrecisionProfile, apart: Collection[str] = ()) -> Plan:
    """The plan of a graph of primitive ops; `apart` names what is not fused, of `regions.FUSIONS`.

    Raises `BackendError` for what this backend does not run.
    """
    hint = 'use backend.name = "reference"'
    if not batch_independent(graph):
        message = "the sequences of a batch depend on each other"
        raise BackendError(message, code="RLX-B003", where=graph.name, hint=hint)
    return _Planner(Drafter(graph, target, precision, apart)).plan()


class _Planner:
    def __init__(self, drafter: Drafter) -> None:
        self.graph, self.target, self.axes = drafter.graph, drafter.target, drafter.axes
        self._drafter, self._unit_of = drafter, drafter.unit_of

    def plan(self) -> Plan:
        drafts = self._drafter.drafts()
        self._mark_outputs(drafts)
        needs = self._needs(drafts)
        arena = assign(needs, 1 + len(self.axes))
        table: dict[Constant | Given | Made, int] = {}

        def address(source: Source | Coded | Records | KeyRows | tuple[Buffer, int]) -> Address:
            if isinstance(source, KeyRows):
                return InFrame(self.axes.index(source.axis))
            if isinstance(source, (Coded, Records)):
                return InSlot(arena.slot_of[source])
            if isinstance(source, tuple):
                return InSlot(arena.slot_of[source[0]], source[1])
            if isinstance(source, View):
                unit = self._unit_of[source.base]
                return InSlot(arena.slot_of[unit], source.offset + unit.column(source.base))
            offset = source.offset if isinstance(source, Given) else 0
            entry = replace(source, offset=0) if isinstance(source, Given) else source
            return InTable(table.setdefault(entry, len(table)), offset)

        steps = []
        for draft in drafts:
            addresses = [address(s) for s in draft.operands]
            addresses.insert(draft.result_at, address(draft.result))
            axis = draft.axis
            if axis is None and isinstance(draft.result, tuple):
                axis = draft.result[0].axis
            number = max(self._axis(axis), 0)
            steps.append(PlanStep(draft.kernel, tuple(addresses), draft.outputs, number))
        return Plan(
            labels=tuple(draft.label for draft in drafts),
            arena=arena,
            scratch=scratch_of((step.kernel for step in steps), self.target),
            table=tuple(table),
            outputs=tuple(self.graph.outputs),
            checks=self._checks(drafts),
            validity=validity_inputs(self.graph),
            lengths=self._drafter.lengths,
            axes=self.axes,
            steps=tuple(steps),
        )

    def _axis(self, axis: Dim | None) -> int:
        """Its index; -1 for sequences."""
        return -1 if axis is None else self.axes.index(axis)

    def _reads(self, draft: Draft) -> Iterable[Buffer]:
        for source in draft.operands:
            if isinstance(source, (Coded, Records)):
                yield source
            elif isinstance(source, View) and source.base in self._unit_of:
                yield self._unit_of[source.base]

    def _mark_outputs(self, drafts: list[Draft]) -> None:
        """Which outputs need which step."""
        wanted: dict[Buffer, int] = {}
        for draft in reversed(drafts):
            names = list(self.graph.outputs)
            if isinstance(draft.result, Given):
                state = draft.result.kind == "state"
                draft.outputs = 1 << (len(names) if state else names.index(draft.result.name))
            else:
                draft.outputs = wanted.get(draft.result[0], 0) | (draft.keeps << len(names))
            for buffer in self._reads(draft):
                wanted[buffer] = wanted.get(buffer, 0) | draft.outputs

    def _needs(self, drafts: list[Draft]) -> list[Need]:
        first: dict[Buffer, int] = {}
        last: dict[Buffer, int] = {}
        for i, draft in enumerate(drafts):
            touched = [*self._reads(draft)]
            if not isinstance(draft.result, Given):
                touched.append(draft.result[0])
            for buffer in touched:
                first.setdefault(buffer, i)
                last[buffer] = i
        return [
            Need(b, 1 + self._axis(b.axis), self.target.row_stride(b.width), first[b], last[b]) for b in first
        ]

    def _checks(self, drafts: list[Draft]) -> tuple[GatherCheck, ...]:
        """What the references of the ops check at run time."""
        needed: dict[Value, int] = {}
        for draft in drafts:
            if isinstance(draft.result, tuple) and isinstance(draft.result[0], Unit):
                for region in draft.result[0].members:
                    for node in region.inside:
                        needed[node.outputs[0]] = draft.outputs
        found: dict[GatherCheck, None] = {}
        for node in self.graph.nodes:
            if node.op.name == "gather" and node.outputs[0] in needed:
                table, ids = node.inputs
                rows = rows_of(table).inner[0]
            elif node.op.name == "select_token" and node.outputs[0] in needed:
                ids, rows = node.inputs[1], 0
            else:
                continue
            name = ids.node.attrs["key"] if ids.node.op.name == "input" else ids
            token = rows_of(ids).domain == "token"
            found[GatherCheck(name, token, rows, needed[node.outputs[0]])] = None
        return tuple(found)
