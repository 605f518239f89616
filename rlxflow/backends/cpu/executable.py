"""Running a compiled plan: inputs are checked, valid tokens compacted, pointers gathered, one call made."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Mapping

import numpy as np

from rlxflow.backends.base import CacheState, empty_state
from rlxflow.backends.cpu.checked_call import CheckedCalls
from rlxflow.backends.cpu.constants import Constants
from rlxflow.backends.cpu.form import Form, find_form
from rlxflow.backends.cpu.frame import Frame
from rlxflow.backends.cpu.host_values import HostValues
from rlxflow.backends.cpu.id_checks import check_ids
from rlxflow.backends.cpu.job import AXIS_WORDS, COUNTER_WORDS, Job
from rlxflow.backends.cpu.layout import Layout, Layouts
from rlxflow.backends.cpu.lengths import positions_of
from rlxflow.backends.cpu.llvm import LoadedCode
from rlxflow.backends.cpu.memory import Memory, address, aligned
from rlxflow.backends.cpu.packing import prepare_all
from rlxflow.backends.cpu.plan import Constant, Made, Plan
from rlxflow.backends.cpu.pointers import Pointers
from rlxflow.backends.cpu.ragged import sizes_of
from rlxflow.backends.cpu.states import States
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.team import Team
from rlxflow.backends.cpu.traced import TracedCalls
from rlxflow.backends.inputs import InputCheck, no_output
from rlxflow.dtypes import Array
from rlxflow.ir.dims import bind_shape
from rlxflow.ir.graph import Graph

_WAVE = slice(Job.CHUNKS, Job.TOGETHER)
_POSITIONS = Job.AXES + AXIS_WORDS.index(Frame.POSITION)
PARTS = 8  # of a step per thread, where threads work together, for one may be late …
FEW_TOKENS = 32  # … and 1 for up to so many tokens per thread: beginning a part costs time too
WAVE_TOKENS = 4096  # tokens per thread between two looks at signals


class CpuExecutable:
    """A plan with its code and its packed weights. See `Executable`."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        code: LoadedCode,
        constants: Constants,
        target: Target,
        team: Team,
        checks: CheckedCalls | None = None,
        trace: TracedCalls | None = None,
    ) -> None:
        self.graph = graph
        self._target, self._team = target, team
        self.code = code
        self._run = code.address("run")
        arguments = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 4
        packers = {find_form(name).packer for name in plan.forms}
        self._packers = {name: code.function(name, *arguments) for name in packers}
        self._checks = checks
        self.trace = trace
        self.plan = plan
        wanted = [c for c in plan.table if isinstance(c, Constant)]
        threads = team.size if checks is None else 1  # there is one table of bounds
        weights = prepare_all(wanted, constants, target, self._pack, threads)
        self._check_inputs = InputCheck(graph)
        self._layouts = Layouts(plan.validity, plan.table, team.size, bool(graph.states))
        made = [c.value for c in plan.table if isinstance(c, Made)]
        checked = [c.ids for c in plan.checks if not isinstance(c.ids, str)]
        past = None if plan.lengths is None else plan.lengths[0]
        self._host = HostValues(tuple(dict.fromkeys([*made, *checked])), plan.validity, past, plan.axes)
        self._single_checks = [c for c in plan.checks if c.ids in self._host.lasting]
        self._repeated_checks = [c for c in plan.checks if c.ids not in self._host.lasting]
        self._states = States(graph)
        self._pointers = Pointers(plan.table, weights)
        self._memory = Memory(Frame.SIZE * len(plan.axes))
        self._job = aligned((Job.AXES + len(AXIS_WORDS) * len(plan.axes),), np.int64)
        self._job_address = address(self._job)
        self._job_is_for: tuple[Layout, int, int] | None = None
        self._wave = 1  # chunks between two looks at signals

    @property
    def steps(self) -> list[str]:
        """What runs, in order: the op each step is named after, and its stage."""
        return list(self.plan.labels)

    @property
    def weight_bytes(self) -> int:
        """Of all weights as the kernels read them."""
        return sum(array.nbytes for array in self._pointers.weights)

    @property
    def kept(self) -> Counter[tuple[str, str]]:
        """Weights per dtype they are stored in and dtype the kernels read; packed ones stay as they are."""
        found = {
            v: c.form.split(".")[0] or "f32"
            for c in self.plan.table
            if isinstance(c, Constant)
            for v in c.values
        }
        return Counter((value.dtype.name, kept) for value, kept in found.items())

    def new_state(self, batch: int, capacity: int) -> CacheState:
        """Empty caches for `batch` sequences of up to `capacity` tokens."""
        return empty_state(self.graph, batch, capacity)

    def __call__(
        self,
        inputs: Mapping[str, Array],
        state: CacheState | None = None,
        outputs: tuple[str, ...] | None = None,
    ) -> dict[str, Array]:
        self._team.rouse()
        wanted = self.plan.outputs if outputs is None else outputs
        bits = self._bits(wanted)
        arrays, sizes = self._check_inputs(inputs)
        layout = self._layouts.of(arrays, *sizes_of(sizes, self.plan.axes))
        ragged = layout.ragged
        make = np.zeros if ragged.padded else np.empty
        results = {n: make(bind_shape(self.graph.outputs[n].shape, sizes), np.float32) for n in wanted}
        with self._team.lock:
            caches, capacity = self._states.addresses(state, sizes)
            if any(r.tokens for r in layout.axes):
                positions = positions_of(self.plan.lengths, arrays, ragged, capacity)
                made = self._host.compute(arrays, layout, positions)
                check_ids(self._repeated_checks, bits, arrays, made, ragged)
                if bits not in layout.checked:
                    check_ids(self._single_checks, bits, arrays, made, ragged)
                    layout.checked.add(bits)
                kept = [positions, *self._pointers.fill(arrays, layout, results, made, caches)]
                self._execute(layout, kept, bits, capacity)
        return results

    def _pack(self, form: Form, rows: Array, packed: Array) -> None:
        if self._checks is not None:
            self._checks.begin([rows, packed])
        self._packers[form.packer](address(rows), address(packed), 0, len(packed), *rows.shape)
        if self._checks is not None:
            self._checks.end(["packing"])

    # -- before the call -----------------------------------------------------------------------------

    def _bits(self, wanted: tuple[str, ...]) -> int:
        bits = 1 << len(self.plan.outputs)  # caches are always written
        for name in wanted:
            if name not in self.graph.outputs:
                raise no_output(self.graph, name)
            bits |= 1 << self.plan.outputs.index(name)
        return bits

    # -- the call ------------------------------------------------------------------------------------

    def _execute(self, layout: Layout, kept: list[Array], bits: int, capacity: int) -> None:
        """Run the plan over all chunks, some at a time: between those, Ctrl-C is served.

        `kept` holds what the call points at, the positions of its tokens first.
        """
        if self._job_is_for != (layout, bits, capacity):
            self._set_job(layout, bits, capacity)
        self._job[_POSITIONS] = address(kept[0])
        if self._checks is not None:
            slots = self.plan.arena.ranges(self._memory.arenas(), layout.counts)
            own = [
                self._pointers.table,
                self._job,
                *layout.arrays,
                *self._memory.arrays(),
                *self._states.arrays,
            ]
            self._checks.begin([*own, *kept, *self._pointers.weights], slots)
        if self.trace is not None:
            self.trace.begin()
        count, step = len(layout.chunks) - 1, self._wave
        for first in range(0, count, step):
            self._job[_WAVE] = (layout.chunks_address + 8 * first, min(step, count - first), 0)
            self._memory.counters.fill(0)
            self._team.run(self._run, self._job_address)
        if self.trace is not None:
            self.trace.end()
        if self._checks is not None:
            self._checks.end(self.steps)

    def _set_job(self, layout: Layout, bits: int, capacity: int) -> None:
        """Fill the job, but for positions and for what differs between waves: calls are often alike."""
        threads, together, counts = self._team.size, layout.together, layout.counts
        self._wave = min(len(layout.chunks) - 1, max(threads, WAVE_TOKENS * threads // max(counts[1:])))
        places = self._memory.reserve(
            threads,
            self.plan.scratch.floats(max(r.longest for r in layout.axes)),
            1 if together else threads,
            self.plan.arena.floats(counts),
        )
        parts = threads * (1 if max(counts[1:]) <= FEW_TOKENS * threads else PARTS)
        lines = len(self.plan.labels) * (threads + 1) * self._wave if together else 0
        axes = [
            word
            for rows, most in zip(layout.row_addresses, counts[1:], strict=True)
            for word in (*rows, most)
        ]
        self._job[:] = (
            *(self._pointers.address, 0, 0, 0, together, parts, threads, places, bits),
            *(counts[0], capacity, self._memory.reserve_counters(lines * COUNTER_WORDS), *axes),
        )
        self._job_is_for = (layout, bits, capacity)
