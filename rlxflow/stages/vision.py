"""From images to tokens: patches, class token, positions; and the pooling of SigLIP."""

from __future__ import annotations

from dataclasses import dataclass

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.elementwise import add, cast
from rlxflow.ops.norm import layer_norm
from rlxflow.ops.resize import resize_grid
from rlxflow.ops.shape import broadcast_to, concat, reshape, slice_, transpose
from rlxflow.stages.ffn import MlpStage
from rlxflow.weights.plan import WeightSpec

Grid = tuple[int, int]


@dataclass(frozen=True)
class PatchEmbedStage:
    """A convolution whose stride is its kernel: images [B, C, H, W] → tokens [B, N, hidden_size].

    The patches, [C, P, Q] each, in reading order, times `{prefix}.weight` [hidden_size, C, P, Q], plus
    `{prefix}.bias`. `grid` is the number of patches (down, across); N is their product.
    """

    prefix: str
    hidden_size: int
    channels: int
    patch: Grid
    grid: Grid

    def weights(self) -> tuple[WeightSpec, ...]:
        h = self.hidden_size
        kernel = WeightSpec(f"{self.prefix}.weight", (h, self.channels, *self.patch))
        return kernel, WeightSpec(f"{self.prefix}.bias", (h,))

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        (down, across), (p, q), c, batch = self.grid, self.patch, self.channels, x.dim(0)
        x = slice_(slice_(x, axis=2, start=0, stop=down * p), axis=3, start=0, stop=across * q)
        cells = transpose(reshape(x, shape=(batch, c, down, p, across, q)), perm=(0, 2, 4, 1, 3, 5))
        patches = reshape(cells, shape=(batch, down * across, c * p * q))
        kernel = reshape(e.weight(f"{self.prefix}.weight"), shape=(self.hidden_size, c * p * q))
        return matmul_bias_act(patches, kernel, e.weight(f"{self.prefix}.bias"))


@dataclass(frozen=True)
class PrependTokensStage:
    """Learned tokens in front: x [B, N, H] → [B, T + N, H]; the weight `key` is [1, T, H]."""

    key: str
    hidden_size: int
    count: int = 1

    def weights(self) -> tuple[WeightSpec, ...]:
        return (WeightSpec(self.key, (1, self.count, self.hidden_size)),)

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        tokens = _as(e.weight(self.key), x)
        shape = (x.dim(0), self.count, self.hidden_size)
        return concat(broadcast_to(tokens, shape=shape), x, axis=1)


@dataclass(frozen=True)
class AddPositionGridStage:
    """x + W for tokens on a grid, with `extra` tokens in front; x: [B, extra + N, H].

    W: [1, extra + N', H], or without the 1 where `flat`, for N' = grid₀ · grid₁ patches. Where the `grid` of
    the table is not that of the images (`wanted`), its patches are resized bicubically, as DINOv2 does.
    """

    key: str
    hidden_size: int
    grid: Grid
    wanted: Grid
    extra: int = 1
    flat: bool = False

    def weights(self) -> tuple[WeightSpec, ...]:
        rows = self.extra + self.grid[0] * self.grid[1]
        shape = (rows, self.hidden_size) if self.flat else (1, rows, self.hidden_size)
        return (WeightSpec(self.key, shape),)

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        rows = self.extra + self.grid[0] * self.grid[1]
        table = e.weight(self.key)
        if self.grid == self.wanted:
            return add(x, table)
        table = reshape(table, shape=(rows, self.hidden_size))
        patches = slice_(table, axis=0, start=self.extra, stop=rows)
        resized = resize_grid(patches, old=self.grid, new=self.wanted)
        if self.extra:
            front = _as(slice_(table, axis=0, start=0, stop=self.extra), x)
            resized = concat(front, resized, axis=0)
        return add(x, resized)


@dataclass(frozen=True)
class AttentionPoolStage:
    """SigLIP's head: p = attention of a learned probe to the tokens; y = p + mlp(LN(p)): [B, N, H] → [B, H].

    Keys below `{prefix}.`: probe [1, 1, H]; attention.in_proj_weight [3H, H] and in_proj_bias, the rows of q,
    k and v; attention.out_proj; layernorm.
    """

    prefix: str
    hidden_size: int
    num_heads: int
    eps: float
    mlp: MlpStage

    def weights(self) -> tuple[WeightSpec, ...]:
        p, h = self.prefix, self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "probe": (1, 1, h),
            "attention.in_proj_weight": (3 * h, h),
            "attention.in_proj_bias": (3 * h,),
            "attention.out_proj.weight": (h, h),
            "attention.out_proj.bias": (h,),
            "layernorm.weight": (h,),
            "layernorm.bias": (h,),
        }
        own = tuple(WeightSpec(f"{p}.{name}", shape) for name, shape in shapes.items())
        return (*own, *self.mlp.weights())

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        p, h, heads, batch = self.prefix, self.hidden_size, self.num_heads, x.dim(0)
        joined = [e.weight(f"{p}.attention.in_proj_{kind}") for kind in ("weight", "bias")]
        parts = [[slice_(w, axis=0, start=i * h, stop=(i + 1) * h) for w in joined] for i in range(3)]
        probe = broadcast_to(_as(e.weight(f"{p}.probe"), x), shape=(batch, 1, h))
        q, k, v = (
            reshape(matmul_bias_act(y, *part), shape=(batch, y.dim(1), heads, h // heads))
            for y, part in zip((probe, x, x), parts, strict=True)
        )
        context = reshape(attention(q, k, v, scale=(h // heads) ** -0.5), shape=(batch, 1, h))
        out = [e.weight(f"{p}.attention.out_proj.{kind}") for kind in ("weight", "bias")]
        pooled = matmul_bias_act(context, *out)
        norm = [e.weight(f"{p}.layernorm.{kind}") for kind in ("weight", "bias")]
        y = add(pooled, self.mlp.emit(e, layer_norm(pooled, *norm, eps=self.eps)))
        return reshape(y, shape=(batch, h))


def _as(weight: Value, x: Value) -> Value:
    """A weight as an activation, in the dtype of `x`."""
    return weight if weight.dtype == x.dtype else cast(weight, dtype=x.dtype)
