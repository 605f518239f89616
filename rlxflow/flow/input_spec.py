"""A declared input of a flow."""

from __future__ import annotations

from rlxflow.dtypes import DType
from rlxflow.ir.dims import Shape
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class InputSpec:
    """A declared input. `default` fills an input that a caller leaves out (1 for masks, 0 for type ids)."""

    name: str
    shape: Shape
    dtype: DType
    default: int | None = None
