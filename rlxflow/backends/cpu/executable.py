"""Running a compiled plan: inputs are checked, valid tokens compacted, pointers gathered, one call made."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np

from rlxflow.backends.base import CacheState
from rlxflow.backends.cpu.checked_call import CheckedCalls
from rlxflow.backends.cpu.constants import Constants
from rlxflow.backends.cpu.emit import Job
from rlxflow.backends.cpu.frame import Frame
from rlxflow.backends.cpu.kernels.sync import COUNTER_WORDS
from rlxflow.backends.cpu.llvm import LoadedCode
from rlxflow.backends.cpu.memory import Memory, address, aligned
from rlxflow.backends.cpu.packing import prepare
from rlxflow.backends.cpu.plan import Constant, Plan
from rlxflow.backends.cpu.pointers import Pointers
from rlxflow.backends.cpu.ragged import Ragged, chunk_rows, compact, cut, sizes_of, uneven
from rlxflow.backends.cpu.scratch import Scratch
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.team import Team
from rlxflow.backends.inputs import checked_inputs
from rlxflow.backends.rows import validity_inputs
from rlxflow.dtypes import Array
from rlxflow.errors import InputError, nearest
from rlxflow.ir.dims import bind_shape
from rlxflow.ir.graph import Graph

CHUNK_TOKENS = 256  # the activations of so many tokens stay near the processor
PARTS = 2  # of a step per thread, where threads work together
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
    ) -> None:
        self.graph = graph
        self._plan, self._target, self._team = plan, target, team
        self._code = code
        self._run = code.address("run")
        self._pack_call = code.function("pack", *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 4)
        self._checks = checks
        wanted = [c for c in plan.table if isinstance(c, Constant)]
        weights = {c: prepare(c, constants, target, self._pack) for c in wanted}
        self._pointers = Pointers(plan.table, weights)
        self._scratch = Scratch(plan, target)
        self._validity = validity_inputs(graph)
        self._memory = Memory(Frame.SIZE)
        self._job = aligned((Job.SIZE,), np.int64)

    @property
    def steps(self) -> list[str]:
        """What runs, in order: the op each step is named after, and its stage."""
        return [s.label for s in self._plan.steps]

    @property
    def weight_bytes(self) -> int:
        """Of all weights as the kernels read them."""
        return sum(array.nbytes for array in self._pointers.weights)

    def new_state(self, batch: int, capacity: int) -> CacheState:
        """No caches: this backend runs encoders."""
        return CacheState({}, np.zeros(batch, np.int32), capacity)

    def __call__(
        self,
        inputs: Mapping[str, Array],
        state: CacheState | None = None,
        outputs: tuple[str, ...] | None = None,
    ) -> dict[str, Array]:
        wanted = self._plan.outputs if outputs is None else outputs
        bits = self._bits(wanted)
        arrays, sizes = checked_inputs(self.graph, inputs)
        ragged = compact([arrays[n] for n in self._validity], *sizes_of(sizes))
        self._check_ids(arrays, ragged, bits)
        make = np.zeros if ragged.padded else np.empty
        results = {n: make(bind_shape(self.graph.outputs[n].shape, sizes), np.float32) for n in wanted}
        if ragged.tokens:
            table, kept = self._pointers.fill(arrays, ragged, results)
            with self._team.lock:
                self._execute(table, kept, ragged, bits)
        return results

    def _pack(self, weights: Array, packed: Array) -> None:
        if self._checks is not None:
            self._checks.begin([weights, packed])
        self._pack_call(address(weights), address(packed), 0, len(packed), *weights.shape)
        if self._checks is not None:
            self._checks.end(["packing"])

    # -- before the call -----------------------------------------------------------------------------

    def _bits(self, wanted: tuple[str, ...]) -> int:
        bits = 0
        for name in wanted:
            if name not in self.graph.outputs:
                hint = nearest(name, self.graph.outputs) or f"outputs: {', '.join(self.graph.outputs)}"
                raise InputError(f"no output {name!r}", code="RLX-R005", where=self.graph.name, hint=hint)
            bits |= 1 << self._plan.outputs.index(name)
        return bits

    def _check_ids(self, arrays: Mapping[str, Array], ragged: Ragged, bits: int) -> None:
        """Every id of a valid token must lie in its table."""
        for check in self._plan.checks:
            if not check.outputs & bits or not ragged.tokens:
                continue
            if not check.ids:  # all positions
                low, high = 0, ragged.longest - 1
            else:
                ids = arrays[check.ids]
                ids = ids.ravel()[ragged.source if check.per_token else ragged.batch_row]
                low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= check.rows:
                message = f"id {low if low < 0 else high} is outside a table of {check.rows} rows"
                raise InputError(message, code="RLX-R001", hint=f"ids run from 0 to {check.rows - 1}")

    # -- the call ------------------------------------------------------------------------------------

    def _execute(self, table: Array, kept: list[Array], ragged: Ragged, bits: int) -> None:
        """Run the plan over all chunks, some at a time: between those, Ctrl-C is served."""
        threads = self._team.size
        chunks = cut(ragged, threads, CHUNK_TOKENS)
        together = threads > 1 and uneven(ragged, chunks, threads)
        tokens, sequences = chunk_rows(ragged, chunks)
        floats = self._plan.arena.floats(tokens, sequences)
        places = self._memory.reserve(
            threads, self._scratch.floats(ragged.longest), 1 if together else threads, floats
        )
        rows = (ragged.source, ragged.position, ragged.sequence, ragged.offsets, ragged.batch_row)
        job = self._job
        job[:] = (
            *(address(table), address(chunks), 0, 0, together, threads * PARTS, address(places), bits),
            *map(address, rows),
            *(tokens, sequences, 0),
        )
        if self._checks is not None:
            slots = self._plan.arena.ranges(self._memory.arenas(), tokens, sequences)
            own = [table, chunks, job, places, *rows, *self._memory.arrays()]
            self._checks.begin([*own, *kept, *self._pointers.weights], slots)
        count = len(chunks) - 1
        step = min(count, max(threads, WAVE_TOKENS * threads // tokens))
        words = len(self._plan.steps) * COUNTER_WORDS * step if together else 0
        for first in range(0, count, step):
            counters = np.zeros(words, np.int64)
            job[Job.COUNTERS] = address(counters)
            job[Job.CHUNKS] = address(chunks) + 8 * first
            job[Job.NUM_CHUNKS] = min(step, count - first)
            job[Job.NEXT] = 0
            self._team.run(self._run, address(job))
        if self._checks is not None:
            self._checks.end(self.steps)
