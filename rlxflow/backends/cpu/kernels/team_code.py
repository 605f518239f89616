"""The native half of the thread team: what a worker does between jobs, and how one is handed out."""

from __future__ import annotations

from enum import IntEnum

from llvmlite import ir

from rlxflow.backends.cpu.code import I32, I64, PTR, VOID, Code, Module, Value, i64
from rlxflow.backends.cpu.kernels.sync import relax, wait_until
from rlxflow.backends.cpu.target import Target

IDLE_SPINS = 5000  # looks for a new job before a worker sleeps; about a tenth of a millisecond
FUTEX = {"x86_64": 202, "aarch64": 98}  # system call numbers of Linux
WAIT_PRIVATE, WAKE_PRIVATE = 128, 129
NAP = 200  # microseconds between looks where the system has no futex


class Shared(IntEnum):
    """Words of a team; those that different threads write lie in different cache lines."""

    EPOCH = 0  # counts jobs
    DONE = 8  # workers that have finished the job
    FUNCTION = 16
    JOB = 17
    STOP = 18
    SLEEPERS = 24  # workers that sleep, or are about to
    SIZE = 32


def emit_team(target: Target) -> str:
    """A module with `work(team, thread, epoch)`, `lead(team, function, job, workers)`, `rouse(team)` and
    `stop(team)`."""
    module = Module(target)
    module.function("work", [PTR, I64, I64], _work, export="work")
    module.function("lead", [PTR, PTR, PTR, I64], _lead, export="lead")
    module.function("rouse", [PTR], _rouse, export="rouse")
    module.function("stop", [PTR], _stop, export="stop")
    return str(module.ir)


def _word(code: Code, team: Value, word: Shared) -> Value:
    return code.at(team, int(word), I64)


def _work(code: Code, team: Value, thread: Value, epoch: Value) -> None:
    """Run every job after `epoch`; return when stopped."""
    before = code.block
    head, run, done = (code.append_basic_block(n) for n in ("next", "job", "stopped"))
    code.branch(head)
    code.position_at_end(head)
    seen = code.phi(I64)
    seen.add_incoming(epoch, before)
    _sleep_while(code, team, seen)
    stop = code.load_atomic(_word(code, team, Shared.STOP), "acquire", 8, typ=I64)
    code.cbranch(code.icmp_unsigned("!=", stop, i64(0)), done, run)
    code.position_at_end(run)
    _call_job(code, team, thread)
    code.atomic_rmw("add", _word(code, team, Shared.DONE), i64(1), "release")
    seen.add_incoming(code.add(seen, i64(1)), code.block)
    code.branch(head)
    code.position_at_end(done)


def _call_job(code: Code, team: Value, thread: Value) -> None:
    function = code.get(_word(code, team, Shared.FUNCTION), 0, PTR)
    job = code.get(_word(code, team, Shared.JOB), 0, PTR)
    kind = ir.FunctionType(VOID, [PTR, I64])
    code.call(_Pointer(function, kind), [job, thread])


class _Pointer:
    """An address that is called as a function of this type."""

    def __init__(self, address: Value, kind: ir.FunctionType) -> None:
        self.function_type, self.type, self._address = kind, address.type, address

    def get_reference(self) -> str:
        reference: str = self._address.get_reference()
        return reference


def _lead(code: Code, team: Value, function: Value, job: Value, workers: Value) -> None:
    """Hand a job to the workers, do thread 0's part, return when all are done."""
    code.put(function, _word(code, team, Shared.FUNCTION))
    code.put(job, _word(code, team, Shared.JOB))
    code.put(i64(0), _word(code, team, Shared.DONE))
    _announce(code, team)
    _call_job(code, team, i64(0))
    wait_until(code, _word(code, team, Shared.DONE), workers)


def _stop(code: Code, team: Value) -> None:
    code.atomic_rmw("xchg", _word(code, team, Shared.STOP), i64(1), "release")
    _announce(code, team)


def _announce(code: Code, team: Value) -> None:
    """A new epoch; sleepers wake."""
    code.atomic_rmw("add", _word(code, team, Shared.EPOCH), i64(1), "seq_cst")
    _rouse(code, team)


def _rouse(code: Code, team: Value) -> None:
    """Sleepers wake, and look for a job as if they had just done one."""
    number = _futex_number(code)
    if number:
        sleepers = code.load_atomic(_word(code, team, Shared.SLEEPERS), "seq_cst", 8, typ=I64)
        with code.if_then(code.icmp_signed(">", sleepers, i64(0))):
            _system_call(code, number, _word(code, team, Shared.EPOCH), WAKE_PRIVATE, i64(1 << 30))


def _sleep_while(code: Code, team: Value, epoch: Value) -> None:
    """Return when the epoch is no longer this one; looks IDLE_SPINS times, then sleeps until it is roused."""
    place = _word(code, team, Shared.EPOCH)
    before = code.block
    head, again, done = (code.append_basic_block(n) for n in ("look", "rest", "awake"))
    code.branch(head)
    code.position_at_end(head)
    tries = code.phi(I64)
    tries.add_incoming(i64(0), before)
    now = code.load_atomic(place, "acquire", 8, typ=I64)
    code.cbranch(code.icmp_unsigned("==", now, epoch), again, done)
    code.position_at_end(again)
    patient = code.icmp_unsigned("<", tries, i64(IDLE_SPINS))
    with code.if_else(patient) as (then, otherwise):
        with then:
            relax(code)
            more = code.add(tries, i64(1))
            then_block = code.block
        with otherwise:
            _sleep(code, team, epoch)
            otherwise_block = code.block
    following = code.phi(I64)
    following.add_incoming(more, then_block)
    following.add_incoming(i64(0), otherwise_block)
    tries.add_incoming(following, code.block)
    code.branch(head)
    code.position_at_end(done)


def _sleep(code: Code, team: Value, epoch: Value) -> None:
    """Sleep, unless the epoch is another one already; for a while where the system has no futex."""
    number = _futex_number(code)
    if not number:
        code.call(code.owner.intrinsic("usleep", I32, [I32]), [ir.Constant(I32, NAP)])
        return
    sleepers = _word(code, team, Shared.SLEEPERS)
    code.atomic_rmw("add", sleepers, i64(1), "seq_cst")
    expected = code.and_(epoch, i64(0xFFFFFFFF))
    _system_call(code, number, _word(code, team, Shared.EPOCH), WAIT_PRIVATE, expected)
    code.atomic_rmw("sub", sleepers, i64(1), "seq_cst")


def _futex_number(code: Code) -> int | None:
    triple = code.owner.target.triple
    return FUTEX.get(triple.split("-")[0]) if "linux" in triple else None


def _system_call(code: Code, number: int, place: Value, operation: int, value: Value) -> None:
    """futex(place, operation, value, no timeout); the low half of the word is compared."""
    name = "syscall"
    known = code.owner.ir.globals.get(name)
    call = known or ir.Function(code.owner.ir, ir.FunctionType(I64, [I64], var_arg=True), name)
    code.call(call, [i64(number), place, i64(operation), value, ir.Constant(PTR, None)])
