"""Emitting code: typed loads and stores, loops, vectors. See `Code`."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llvmlite import ir

from rlxflow.backends.cpu.target import Target

F32, I1, I8, I32, I64, PTR = ir.FloatType(), *(ir.IntType(n) for n in (1, 8, 32, 64)), ir.PointerType()
HALF = ir.HalfType()
VOID = ir.VoidType()
Value = Any  # an LLVM value
Index = Any  # an LLVM i64, or a Python int
SIZES = {F32: 4, HALF: 2, I8: 1, I32: 4, I64: 8, PTR: 8}


def _size(kind: Any) -> int:
    """Bytes of a vector, or of an integer."""
    if isinstance(kind, ir.IntType):
        return int(kind.width // 8)
    bits = kind.element.width if isinstance(kind.element, ir.IntType) else 8 * SIZES[kind.element]
    return int(kind.count * bits // 8)


def i64(x: Index) -> Value:
    return ir.Constant(I64, x) if isinstance(x, int) else x


def f32(x: float) -> Value:
    """A constant, rounded to float32."""
    return ir.Constant(F32, struct.unpack("f", struct.pack("f", x))[0])


def _splat(kind: Any, element: Value) -> Value:
    """A constant vector in LLVM's short spelling."""
    constant = ir.FormattedConstant(element.type, f"splat ({element})")
    constant.type = kind
    return constant


class Module:
    """The functions of one program.

    In checked mode every access is tested against a table of buffers; in traced mode every step is timed.
    """

    def __init__(self, target: Target, checked: bool = False, traced: bool = False) -> None:
        self.target, self.checked, self.traced = target, checked, traced
        self.ir = ir.Module("rlxflow")
        self._functions: dict[str, Any] = {}

    def function(
        self,
        key: object,
        arguments: Sequence[Any],
        body: Callable[..., Value | None],
        *,
        export: str = "",
        returns: Any = VOID,
    ) -> Any:
        """The function of this key, emitted at the first request: functions of one structure are one.

        Keys are plain data and compared as they print, which tells True from 1 and 0.0 from -0.0.
        """
        printed = repr(key)
        if printed in self._functions:
            return self._functions[printed]
        name = export or f"k{len(self._functions)}"
        function = ir.Function(self.ir, ir.FunctionType(returns, arguments), name)
        self._functions[printed] = function
        if not export:
            function.linkage = "internal"
            function.attributes.add("noinline")
        code = Code(function.append_basic_block("entry"), self)
        result = body(code, *function.args)
        if result is None:
            code.ret_void()
        else:
            code.ret(result)
        return function

    def intrinsic(self, name: str, returns: Any, arguments: Sequence[Any]) -> Any:
        known = self.ir.globals.get(name)
        return known or ir.Function(self.ir, ir.FunctionType(returns, arguments), name)

    def variable(self, name: str, kind: Any) -> Any:
        """A global, zero at first."""
        if name not in self.ir.globals:
            ir.GlobalVariable(self.ir, kind, name).initializer = ir.Constant(kind, None)
        return self.ir.globals[name]


class Code(ir.IRBuilder):  # type: ignore[misc, unused-ignore]
    """Writes instructions, one after the other. `lanes` counts f32 lanes; a *vector* has that many."""

    def __init__(self, block: Any, module: Module) -> None:
        super().__init__(block)
        self.owner = module
        self.lanes = module.target.lanes
        self.vector = ir.VectorType(F32, self.lanes)
        self.ints = ir.VectorType(I32, self.lanes)
        self.bools = ir.VectorType(I1, self.lanes)

    # -- memory --------------------------------------------------------------------------------------

    def at(self, pointer: Value, index: Index, kind: Any = F32) -> Value:
        """The address of element `index`."""
        return self.gep(pointer, [i64(index)], source_etype=kind)

    def get(self, pointer: Value, index: Index = 0, kind: Any = F32) -> Value:
        """One element."""
        return self.load(self._checked(self.at(pointer, index, kind), SIZES[kind]), typ=kind)

    def put(self, value: Value, pointer: Value, index: Index = 0) -> None:
        address = self.at(pointer, index, value.type)
        self.store(value, self._checked(address, SIZES[value.type]))

    def get_vector(self, pointer: Value, index: Index = 0, lanes: int | None = None) -> Value:
        """A vector; with `lanes`, only the first ones are read and the others are zero."""
        count = self.lanes if lanes is None else lanes
        address = self._checked(self.at(pointer, index), 4 * count)
        if count == self.lanes:
            return self.load(address, typ=self.vector, align=4)
        load = self.owner.intrinsic(
            f"llvm.masked.load.v{self.lanes}f32.p0", self.vector, [PTR, I32, self.bools, self.vector]
        )
        return self.call(load, [address, ir.Constant(I32, 4), self.first(count), self.zero])

    def put_vector(self, value: Value, pointer: Value, index: Index = 0, lanes: int | None = None) -> None:
        """Write a vector, or its first `lanes`."""
        count = self.lanes if lanes is None else lanes
        address = self._checked(self.at(pointer, index), 4 * count)
        if count == self.lanes:
            self.store(value, address, align=4)
            return
        store = self.owner.intrinsic(
            f"llvm.masked.store.v{self.lanes}f32.p0", VOID, [self.vector, PTR, I32, self.bools]
        )
        self.call(store, [value, address, ir.Constant(I32, 4), self.first(count)])

    def get_as(self, pointer: Value, kind: Any, word: Index = 0) -> Value:
        """A vector of another kind, or an integer, from 4-byte word `word` on, at any address."""
        return self.load(self._checked(self.at(pointer, word), _size(kind)), typ=kind, align=1)

    def get_words(self, pointer: Value, word: Index, count: int) -> Value:
        """The first words of a vector of integers, at any address; the others are zero."""
        if count == self.lanes:
            return self.get_as(pointer, self.ints, word)
        address = self._checked(self.at(pointer, word), 4 * count)
        load = self.owner.intrinsic(
            f"llvm.masked.load.v{self.lanes}i32.p0", self.ints, [PTR, I32, self.bools, self.ints]
        )
        return self.call(load, [address, I32(1), self.first(count), self.nothing])

    def put_as(self, value: Value, pointer: Value, word: Index = 0) -> None:
        """Write a vector of any kind."""
        self.store(value, self._checked(self.at(pointer, word), _size(value.type)), align=1)

    def get_half(self, pointer: Value, index: Index = 0, lanes: int | None = None) -> Value:
        """A vector of f16, widened; with `lanes`, the others are zero."""
        count = self.lanes if lanes is None else lanes
        kind = ir.VectorType(HALF, self.lanes)
        address = self._checked(self.at(pointer, index, HALF), 2 * count)
        if count == self.lanes:
            return self.fpext(self.load(address, typ=kind, align=2), self.vector)
        arguments = [PTR, I32, self.bools, kind]
        load = self.owner.intrinsic(f"llvm.masked.load.v{self.lanes}f16.p0", kind, arguments)
        none = ir.Constant(kind, None)
        narrow = self.call(load, [address, ir.Constant(I32, 2), self.first(count), none])
        return self.fpext(narrow, self.vector)

    def put_half(self, value: Value, pointer: Value, index: Index = 0, lanes: int | None = None) -> None:
        """Write a vector, or its first `lanes`, rounded to f16."""
        count = self.lanes if lanes is None else lanes
        kind = ir.VectorType(HALF, self.lanes)
        address = self._checked(self.at(pointer, index, HALF), 2 * count)
        narrow = self.fptrunc(value, kind)
        if count == self.lanes:
            self.store(narrow, address, align=2)
            return
        arguments = [kind, PTR, I32, self.bools]
        store = self.owner.intrinsic(f"llvm.masked.store.v{self.lanes}f16.p0", VOID, arguments)
        self.call(store, [narrow, address, ir.Constant(I32, 2), self.first(count)])

    def prefetch(self, pointer: Value, index: Index, near: bool = True) -> None:
        """Begin to read a line into the first-level cache, or else into the second."""
        fetch = self.owner.intrinsic("llvm.prefetch.p0", VOID, [PTR, I32, I32, I32])
        level = 3 if near else 2
        self.call(fetch, [self.at(pointer, index), *(ir.Constant(I32, n) for n in (0, level, 1))])

    def prefetch_to_write(self, pointer: Value, index: Index) -> None:
        """Begin to own a line that will be written."""
        fetch = self.owner.intrinsic("llvm.prefetch.p0", VOID, [PTR, I32, I32, I32])
        self.call(fetch, [self.at(pointer, index), *(ir.Constant(I32, n) for n in (1, 3, 1))])

    def in_order(self) -> None:
        """The compiler moves no load from behind this place to before it, and none the other way."""
        barrier = ir.InlineAsm(ir.FunctionType(VOID, []), "", "~{memory}", side_effect=True)
        self.call(barrier, [])

    def _checked(self, address: Value, size: int) -> Value:
        if not self.owner.checked:
            return address
        from rlxflow.backends.cpu.checked import checker

        return self.call(checker(self.owner), [address, i64(size)])

    # -- integers and control ------------------------------------------------------------------------

    def minimum(self, a: Index, b: Index) -> Value:
        return self.select(self.icmp_signed("<", i64(a), i64(b)), i64(a), i64(b))

    def maximum(self, a: Index, b: Index) -> Value:
        return self.select(self.icmp_signed(">", i64(a), i64(b)), i64(a), i64(b))

    def wide(self, value: Value) -> Value:
        """An integer as i64."""
        return value if value.type == I64 else self.sext(value, I64)

    def loop(
        self,
        start: Index,
        stop: Index,
        step: Index,
        body: Callable[[Value, tuple[Value, ...]], Iterable[Value] | None],
        carried: Sequence[Value] = (),
    ) -> tuple[Value, ...]:
        """`for i in range(start, stop, step): carried = body(i, carried)`; the last values carried."""
        before = self.block
        head, inside, done = (self.append_basic_block(name) for name in ("head", "body", "done"))
        self.branch(head)
        self.position_at_end(head)
        i = self.phi(I64)
        i.add_incoming(i64(start), before)
        kept = []
        for value in carried:
            kept.append(self.phi(value.type))
            kept[-1].add_incoming(value, before)
        self.cbranch(self.icmp_signed("<", i, i64(stop)), inside, done)
        self.position_at_end(inside)
        new = tuple(body(i, tuple(kept)) or ())
        following = self.add(i, i64(step), flags=("nsw",))
        for phi, value in zip((i, *kept), (following, *new), strict=True):
            phi.add_incoming(value, self.block)
        self.branch(head)
        self.position_at_end(done)
        return tuple(kept)

    def choose(self, selector: Value, cases: Iterable[int], emit: Callable[[int], None]) -> None:
        """Run `emit(c)` for the case that equals the selector; nothing where none does."""
        done = self.append_basic_block("chosen")
        switch = self.switch(selector, done)
        for case in cases:
            block = self.append_basic_block(f"case{case}")
            switch.add_case(i64(case), block)
            self.position_at_end(block)
            emit(case)
            self.branch(done)
        self.position_at_end(done)

    # -- vectors -------------------------------------------------------------------------------------

    @property
    def zero(self) -> Value:
        return ir.Constant(self.vector, None)

    @property
    def nothing(self) -> Value:
        """A vector of integer zeros."""
        return ir.Constant(self.ints, None)

    def fill(self, x: float) -> Value:
        """A constant vector of one value."""
        return _splat(self.vector, f32(x))

    def fill_int(self, x: int) -> Value:
        return _splat(self.ints, ir.Constant(I32, x))

    def byte_bits(self, word: Value, shift: int, mask: int) -> Value:
        """(byte >> shift) & mask in every byte, for bits that stay within it; a negative shift goes up."""
        if shift:
            count = self.fill_int(abs(shift))
            word = self.lshr(word, count) if shift > 0 else self.shl(word, count)
        return self.and_(word, self.fill_int(mask * 0x01010101))

    def splat(self, scalar: Value) -> Value:
        """A scalar in every lane."""
        kind = self.vector if scalar.type == F32 else self.ints
        one = self.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
        return self.shuffle_vector(one, one, ir.Constant(self.ints, None))

    def first(self, lanes: int) -> Value:
        """Mask of the first lanes."""
        return ir.Constant(self.bools, [i < lanes for i in range(self.lanes)])

    def below(self, limit: Value) -> Value:
        """Mask of the lanes with an index below an i64."""
        numbers = ir.Constant(self.ints, list(range(self.lanes)))
        return self.icmp_signed("<", numbers, self.splat(self.trunc(limit, I32)))

    def per_lane(self, name: str, *operands: Value) -> Value:
        """An LLVM intrinsic on vectors, such as `sqrt`."""
        kind = self.vector
        return self.call(
            self.owner.intrinsic(f"llvm.{name}.v{self.lanes}f32", kind, [kind] * len(operands)), operands
        )

    def fma_(self, a: Value, b: Value, c: Value) -> Value:
        """a·b + c, rounded once where the processor can."""
        return self.per_lane("fma", a, b, c) if self.owner.target.fma else self.fadd(self.fmul(a, b), c)

    def reduce(self, combine: Callable[[Value, Value], Value], vector: Value) -> Value:
        """All lanes combined in a fixed tree; the result is a scalar."""
        width = self.lanes
        while width > 1:
            width //= 2
            high = [min(i + width, self.lanes - 1) for i in range(self.lanes)]
            vector = combine(vector, self.shuffle_vector(vector, vector, ir.Constant(self.ints, high)))
        return self.extract_element(vector, ir.Constant(I32, 0))

    def larger(self, a: Value, b: Value) -> Value:
        """max(a, b) per lane; b where either is NaN."""
        return self.select(self.fcmp_ordered(">", a, b), a, b)

    def interleaved(self, a: Value, b: Value) -> tuple[Value, Value]:
        """a[0], b[0], a[1], b[1] and so on, as two vectors."""
        numbers = [x for i in range(self.lanes) for x in (i, self.lanes + i)]
        low, high = (ir.Constant(self.ints, half) for half in (numbers[: self.lanes], numbers[self.lanes :]))
        return self.shuffle_vector(a, b, low), self.shuffle_vector(a, b, high)

    def transposed(self, rows: list[Value]) -> list[Value]:
        """`lanes` vectors as the rows of a square; its columns."""
        half = self.lanes // 2
        for _ in range(self.lanes.bit_length() - 1):
            rows = [v for i in range(half) for v in self.interleaved(rows[i], rows[i + half])]
        return rows
