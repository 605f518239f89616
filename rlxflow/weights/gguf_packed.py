"""Packed linear layers as plain containers, for programs that multiply with them by themselves.

A flow needs none of this: it takes packed weights from any source, in the bytes of the file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlxflow.dequantize import dequantize
from rlxflow.dtypes import Array, DType
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.source import WeightSource, missing


@dataclass(frozen=True, eq=False)
class GgufPackedLinear:
    """y = x · Wᵀ + bias, with W [out_dim, in_dim] packed by `scheme` (a dtype such as q4_k).

    `w_q` is uint8 [out_dim, bytes of a row], as GGUF files hold it; `bias` is f32 [out_dim] or None.
    """

    w_q: Array
    scheme: DType
    in_dim: int
    out_dim: int
    bias: Array | None = None

    def dequantized(self) -> Array:
        """W in f32, [out_dim, in_dim]."""
        return dequantize(self.scheme, self.w_q).reshape(self.out_dim, self.in_dim)


@dataclass(frozen=True, eq=False)
class GgufPackedParams:
    """The packed linear layers of a model, by the key of their weight."""

    linears: Mapping[str, GgufPackedLinear]

    @classmethod
    def from_source(cls, source: WeightSource) -> GgufPackedParams:
        """Every packed matrix of a source, with its bias where there is one. Reads their data."""
        known = set(source.keys())
        linears = {}
        for key in source.keys():  # noqa: SIM118 (a source is no mapping)
            info = source.info(key)
            if info.dtype.packed and len(info.shape) == 2:
                out_dim, in_dim = info.shape
                beside = key.removesuffix(".weight") + ".bias"
                bias = source.read(beside).astype(np.float32) if beside in known else None
                linears[key] = GgufPackedLinear(source.read(key), info.dtype, in_dim, out_dim, bias)
        return cls(linears)

    def get_linear(self, key: str) -> GgufPackedLinear:
        """The layer whose weight has this key; raises `MissingTensor`."""
        if key not in self.linears:
            raise missing(key, self.linears, "packed parameters")
        return self.linears[key]
