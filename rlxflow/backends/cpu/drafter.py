"""From a graph to drafts of steps, in the order they run: regions, and products of one x side by side."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from rlxflow.backends.cpu.constants import constant_values
from rlxflow.backends.cpu.describe import Describer, Source
from rlxflow.backends.cpu.domain import VIEWS, Domain, View, rows_of, rows_of_shape, token_axes
from rlxflow.backends.cpu.drafts import Coded, Draft, KeyRows, Records, Unit
from rlxflow.backends.cpu.expression import PICKED, REDUCTIONS, strip
from rlxflow.backends.cpu.form import find_form, form_for, table_form
from rlxflow.backends.cpu.kernels.attention import Attention
from rlxflow.backends.cpu.kernels.bfloat_tile import LANES
from rlxflow.backends.cpu.kernels.cached_attention import CachedAttention
from rlxflow.backends.cpu.kernels.delta_rule import DeltaRule
from rlxflow.backends.cpu.kernels.elementwise import ELEMENTWISE
from rlxflow.backends.cpu.kernels.gemm import Gemm
from rlxflow.backends.cpu.kernels.merge_ranges import MergeRanges
from rlxflow.backends.cpu.kernels.quantise import Quantise
from rlxflow.backends.cpu.kernels.rows import Out, Rows
from rlxflow.backends.cpu.lengths import lengths_inputs
from rlxflow.backends.cpu.plan import (
    Constant,
    Given,
)
from rlxflow.backends.cpu.quantised import Layout
from rlxflow.backends.cpu.regions import Region, Regions
from rlxflow.backends.cpu.relative_bias import buckets_of
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.rows import validity_inputs
from rlxflow.dtypes import f16, f32
from rlxflow.errors import BackendError
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value

if TYPE_CHECKING:
    from rlxflow.profile.sections import PrecisionProfile


class Drafter:
    """Drafts the steps of a graph of primitive ops. `apart` names what is not fused, of `regions.FUSIONS`.

    Raises `BackendError` for what this backend does not run.
    """

    def __init__(
        self, graph: Graph, target: Target, precision: PrecisionProfile, apart: Collection[str]
    ) -> None:
        self.graph, self.target, self._precision = graph, target, precision
        self._coded: set[Coded] = set()
        self._apart = apart
        self.regions = Regions(graph, constant_values(graph), self._coded_alike, apart)
        self.describe = Describer(self.regions, self._stride_of, self._table)
        self._index = {n: i for i, n in enumerate(graph.nodes)}
        self._asked = _asked(graph)
        self.lengths = lengths_inputs(graph)
        self.axes = token_axes(graph)
        if len(self.axes) > 1 and validity_inputs(graph):
            message = "the CPU backend runs tokens of several axes only where all are valid"
            hint = "use the reference backend"
            raise BackendError(message, code="RLX-B003", where=graph.name, hint=hint)
        self.units = self._units()
        self.unit_of = {r.root: u for u in self.units for r in u.members}
        for unit in self.units:
            root, below = unit.members[0].root, self._read_alone(unit.members[0])
            if below is not None:
                own = self.unit_of[root] = self.unit_of[below]
                own.over[root] = own.column(below)

    def _read_alone(self, region: Region) -> Value | None:
        """What a chain of row ops is written over: rows like its own that only it reads, column by column."""
        if region.kind != "rows" or self._coded_only(region) is not None:
            return None
        if {n.op.name for n in region.inside} & {*PICKED, "mean_pool"}:
            return None
        own = rows_of(region.root)
        for value in (v for n in region.inside for v in n.inputs if rows_of_shape(v.shape) == own):
            used = [value]
            while used[-1] not in self.regions.by_root and used[-1].node.op.name in VIEWS:
                used.append(used[-1].node.inputs[0])
            base, rows = used[-1], rows_of(used[-1])
            alike = base in self.unit_of and (rows.owner, rows.width) == (own.owner, own.width)
            if alike and base is not region.root and all(self.graph.use_counts[v] == 1 for v in used):
                return base
        return None

    def _units(self) -> list[Unit]:
        """Regions in the order they run; products of one x whose tails read constants only are joined,
        where the same outputs need them."""
        units: list[Unit] = []
        joined: dict[object, Unit] = {}
        for region in sorted(self.regions.by_root.values(), key=lambda r: self._index[r.root.node]):
            key = self._join_key(region)
            if key is not None and key in joined:
                joined[key].members.append(region)
                continue
            units.append(Unit([region]))
            if key is not None:
                joined[key] = units[-1]
        return units

    def _join_key(self, region: Region) -> object | None:
        users = self.graph.users.get(region.root, ())
        purpose = "gate-up" if any(u.op.name in ELEMENTWISE for u in users) else "qkv"
        if region.kind != "gemm" or purpose in self._apart:
            return None
        columns = (rows_of(region.root).width,)
        read = {v for n in region.inside[1:] for v in n.inputs if v.node not in region.inside}
        for value in read:
            vector = value in self.regions.constants and strip(rows_of(value).inner) == columns
            if value.node.op.name != "full" and not vector:
                return None
        tail, _ = self.describe.expression(region.inside, region.root)
        x, asked = self.regions.view(region.main.inputs[0]), self._asked[region.root.node]
        return x, tail.steps, tail.domain, self._form(region.main), asked

    def _form(self, product: Node) -> str:
        """The form of the weights of a product."""
        return form_for(product.inputs[1].dtype, self._precision, self.target)

    def _table(self, value: Value) -> Constant:
        """Weights that rows are gathered from: one array with the product that has the same ones.

        f32 tables of no product lie as they are.
        """
        name = table_form(value.dtype, self._precision, self.target)
        tied = any(r.kind == "gemm" and r.main.inputs[1] is value for r in self.regions.by_root.values())
        if name is None or len(value.shape) != 2 or (value.dtype == f32 and not tied):
            return Constant("table", (value,))
        return Constant("packed", (value,), name)

    def _stride_of(self, value: Value) -> int:
        """Floats between the rows of a value."""
        return self.target.row_stride(self.unit_of[self.regions.view(value).base].width)

    def drafts(self) -> list[Draft]:
        """Steps in the order they run, each output behind the step that makes it."""
        drafts: list[Draft] = []
        pending = dict(self.graph.outputs)
        for unit in self.units:
            kind = unit.members[0].kind
            if kind == "gemm":
                drafts += self._product(unit)
            elif kind == "attention":
                drafts.append(self._attention(unit))
            elif kind == "cached_attention":
                drafts += self._cached_attention(unit)
            elif kind == "delta_rule":
                drafts.append(self._delta_rule(unit))
            elif kind == "append":
                drafts.append(self._append(unit.members[0]))
            elif kind == "concat":
                drafts += self._concat(unit)
            elif kind == "join":
                drafts += self._join(unit)
            elif self._coded_only(unit.members[0]) is None:
                drafts.append(self._rows(unit, unit.members[0].inside, unit.members[0].root))
            for name, value in list(pending.items()):
                if self.regions.view(value).base in {r.root for r in unit.members}:
                    drafts.append(self._output(name, pending.pop(name)))
        return drafts + [self._output(name, value) for name, value in pending.items()]

    def _label(self, node: Node) -> str:
        return f"{node.op.name} ({self.graph.where(node)})"

    def _product(self, unit: Unit) -> list[Draft]:
        lead = unit.members[0]
        described = [self.describe.expression(r.inside, r.root) for r in unit.members]
        tail, sources = described[0]
        if len(unit.members) > 1:
            args = tuple(replace(a, inner=(unit.width,)) for a in tail.args)
            tail = replace(tail, inner=(unit.width,), args=args)
            together = zip(*(s for _, s in described), strict=True)
            sources = [Constant("row", tuple(v for c in row for v in _values(c))) for row in together]
        form = find_form(self._form(lead.main))
        weights = Constant("packed", tuple(r.main.inputs[1] for r in unit.members), form.name)
        drafts: list[Draft] = []
        x: View | Coded = self.regions.view(lead.main.inputs[0])
        depth, x_stride = rows_of(lead.main.inputs[0]).width, self._stride_of(lead.main.inputs[0])
        if form.x is not None:
            x, x_stride = self._quantised(lead, form.x, x_stride, drafts)
        gemm = Gemm(form.name, depth, unit.width, x_stride, self.target.row_stride(unit.width), tail)
        return [*drafts, Draft(gemm, [x, weights, *sources], (unit, 0), 2, self._label(lead.main))]

    def _quantised(
        self, region: Region, layout: Layout, x_stride: int, drafts: list[Draft]
    ) -> tuple[Coded, int]:
        """The x of a product, quantised by a step before the first one that reads it; and its stride."""
        x = region.main.inputs[0]
        coded = Coded(self.regions.view(x), layout, rows_of(x).width)
        stride = self.target.row_stride(coded.width)
        if coded not in self._coded:
            self._coded.add(coded)
            maker, label = self.regions.by_root.get(x), f"quantise for {self._label(region.main)}"
            if maker is not None and self._coded_only(maker) == layout:
                expression, sources = self.describe.expression(maker.inside, x)
                rows = Rows(expression, Out("buffer", stride, layout=layout))
                drafts.append(Draft(rows, [*sources], (coded, 0), 0, f"{self._label(x.node)}, {label}"))
                return coded, stride
            domain: Domain = "sequence" if coded.axis is None else "token"
            kernel = Quantise(layout, coded.depth, x_stride, stride, domain)
            drafts.append(Draft(kernel, [coded.x], (coded, 0), 1, label))
        return coded, stride

    def _coded_only(self, region: Region) -> Layout | None:
        """The layout in which all read a chain of row ops, see `_coded_alike`."""
        picks = any(n.op.name in PICKED for n in region.inside)  # whose ids are checked for a buffer of f32
        if region.kind != "rows" or not region.inside or picks:
            return None
        return self._coded_alike(region.root)

    def _coded_alike(self, x: Value) -> Layout | None:
        """The layout in which all read x: products, which quantise it alike; else None."""
        users = self.graph.users.get(x, ())
        if "rows" in self._apart or ("residual-norm" in self._apart and x.node.op.name in REDUCTIONS):
            return None
        if self.graph.use_counts[x] != len(users) or any(u.op.name != "linear" for u in users):
            return None
        layouts = {find_form(self._form(u)).x for u in users}
        return layouts.pop() if len(layouts) == 1 else None

    def _attention(self, unit: Unit) -> Draft:
        node, root = unit.members[0].main, unit.members[0].root
        q, k, v, mask, bias, sinks = node.operands
        assert q is not None and k is not None and v is not None
        (heads, head_dim), (kv_heads, _) = rows_of(q).inner, rows_of(k).inner
        attrs = {n: node.attrs[n] for n in ("scale", "causal", "window", "softcap")}
        strides = [self._stride_of(x) for x in (q, k, v, root)]
        buckets = None if bias is None else buckets_of(bias)
        reach = 0 if buckets is None else buckets.attrs["max_distance"]
        kernel = Attention(heads, kv_heads, head_dim, **attrs, masked=mask is not None, q_stride=strides[0],
                           k_stride=strides[1], v_stride=strides[2], out_stride=strides[3],
                           bias_reach=reach, sinks=sinks is not None,
                           apart=q.dim(1) != k.dim(1),
                           bf16=self._precision.mixed.value != "none")  # fmt: skip
        views: list[Source] = [self.regions.view(x) for x in (q, k, v)]
        valid = views[0] if mask is None else Given("mask", mask.node.attrs["key"])
        distances = views[0] if bias is None else Constant("distances", (bias,))
        own = views[0] if sinks is None else Constant("row", (sinks,))
        operands = [*views, valid, distances, own, KeyRows(k.dim(1))]
        return Draft(kernel, operands, (unit, 0), 7, self._label(node))

    def _cached_attention(self, unit: Unit) -> list[Draft]:
        """Of single tokens, ranges of keys are attended to apart, and joined by a step of their own."""
        node, root = unit.members[0].main, unit.members[0].root
        q, keys, values, *_, sinks = node.operands
        assert q is not None and keys is not None and values is not None
        (heads, head_dim), kv_heads = rows_of(q).inner, keys.dim(1)
        assert isinstance(kv_heads, int)
        attrs = {n: node.attrs[n] for n in ("scale", "window", "softcap")}
        result: Unit | Coded = self._coded_result(root, heads // kv_heads, head_dim) or unit
        layout = result.layout if isinstance(result, Coded) else None
        kernel = CachedAttention(heads, kv_heads, head_dim, **attrs, half=keys.dtype == f16,
                                 q_stride=self._stride_of(q), out_stride=self.target.row_stride(result.width),
                                 sinks=sinks is not None, layout=layout,
                                 last=rows_of(q).domain == "sequence",
                                 bf16=self._precision.mixed.value != "none")  # fmt: skip
        ranges = Records(root, kernel.range_floats)
        merge = MergeRanges(kernel)
        caches = [self._cache(v) for v in (keys, values)]
        own: Source = self.regions.view(q) if sinks is None else Constant("row", (sinks,))
        label = self._label(node)
        return [
            Draft(kernel, [self.regions.view(q), *caches, own, ranges], (result, 0), 5, label),
            Draft(merge, [ranges], (result, 0), 1, f"{label}, joined"),
        ]

    def _coded_result(self, root: Value, heads: int, head_dim: int) -> Coded | None:
        """What attention writes in a layout, the heads of a key head at a time, where only products read it.

        None where these are not whole groups of blocks, or LANES of them, as bf16 attention finishes them,
        not whole tokens."""
        users = self.graph.users.get(root, ())
        if self.graph.use_counts[root] != 1 or users[0].op.name != "reshape":
            return None
        layout = self._coded_alike(users[0].outputs[0])
        if layout is None or not layout.cuts_at(heads * head_dim) or LANES % heads:
            return None
        coded = Coded(self.regions.view(root), layout, rows_of(root).width)
        self._coded.add(coded)
        return coded

    def _delta_rule(self, unit: Unit) -> Draft:
        node, root = unit.members[0].main, unit.members[0].root
        *inputs, state, _ = node.inputs
        (heads, key_size), value_size = rows_of(inputs[0]).inner, rows_of(root).inner[-1]
        strides = tuple(self._stride_of(x) for x in (*inputs, root))
        kernel = DeltaRule(heads, key_size, value_size, node.attrs["scale"], strides)
        operands: list[Source] = [*map(self.regions.view, inputs), self._cache(state)]
        return Draft(kernel, operands, (unit, 0), 6, self._label(node), keeps=True)

    def _cache(self, version: Value) -> Given:
        """The cache that a version of a state is in."""
        while version.node.op.name == "cache_append":
            version = version.node.inputs[0]
        name = next(s.name for s in self.graph.states if s.before == version)
        return Given("state", name)

    def _append(self, region: Region) -> Draft:
        nodes = [n for n in region.inside if n is not region.main]
        expression, sources = self.describe.expression(nodes, region.value)
        inner = rows_of(region.value).inner
        expression = replace(expression, inner=inner, by_last_axis=True)
        cache = region.root
        kernel = Rows(expression, Out("cache", inner[-1], half=cache.dtype == f16))
        return Draft(kernel, [*sources], self._cache(cache), 0, self._label(cache.node))

    def _rows(self, unit: Unit, nodes: list[Node], root: Value, column: int = 0) -> Draft:
        copy = root is unit.members[0].root
        if copy:
            unit = self.unit_of[root]
            column = unit.column(root)
        expression, sources = self.describe.expression(nodes, root, copy)
        kernel = Rows(expression, Out("buffer", self.target.row_stride(unit.width)))
        return Draft(kernel, [*sources], (unit, column), 0, self._label(root.node))

    def _concat(self, unit: Unit) -> list[Draft]:
        drafts, column = [], 0
        for part in unit.members[0].main.inputs:
            drafts.append(self._rows(unit, [], part, column))
            column += rows_of(part).width
        return drafts

    def _join(self, unit: Unit) -> list[Draft]:
        drafts, joint = [], self.axes.index(unit.members[0].root.dim(1))
        axes = [self.axes.index(part.dim(1)) for part in unit.members[0].main.inputs]
        for i, part in enumerate(unit.members[0].main.inputs):
            before = tuple(axis - axes[i] for axis in axes[:i])
            expression, sources = self.describe.expression([], part)
            stride = self.target.row_stride(unit.width)
            kernel = Rows(expression, Out("joined", stride, False, joint - axes[i], before))
            label = self._label(unit.members[0].main)
            drafts.append(Draft(kernel, [*sources], (unit, 0), 0, label, axis=part.dim(1)))
        return drafts

    def _output(self, name: str, value: Value) -> Draft:
        expression, sources = self.describe.expression([], value)
        kernel = Rows(expression, Out("output", expression.width))
        given, axis = Given("output", name), rows_of(value).axis
        return Draft(kernel, [*sources], given, 0, f"output {name}", axis=axis)


def _asked(graph: Graph) -> dict[Node, int]:
    """Which outputs each node is computed for, bit by bit."""
    found = dict.fromkeys(graph.nodes, 0)
    for i, value in enumerate(graph.outputs.values()):
        found[value.node] |= 1 << i
    for node in reversed(graph.nodes):
        for value in node.inputs:
            found[value.node] |= found[node]
    return found


def _values(source: Source) -> tuple[Value, ...]:
    assert isinstance(source, Constant)
    return source.values
