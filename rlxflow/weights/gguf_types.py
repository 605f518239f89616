"""The tensor types of GGUF files: ggml's type ids, their block sizes, and which of them rlxflow reads.

Source: enum ggml_type in ggml.h and the block structs in ggml-common.h.
"""

from __future__ import annotations

from rlxflow import dtypes
from rlxflow.dtypes import DTYPES, DType
from rlxflow.errors import UnsupportedFile, printable
from rlxflow.weights.source import TensorInfo

_READ: dict[int, DType] = {
    0: dtypes.f32,
    1: dtypes.f16,
    2: dtypes.q4_0,
    3: dtypes.q4_1,
    6: dtypes.q5_0,
    7: dtypes.q5_1,
    8: dtypes.q8_0,
    10: dtypes.q2_k,
    11: dtypes.q3_k,
    12: dtypes.q4_k,
    13: dtypes.q5_k,
    14: dtypes.q6_k,
    15: dtypes.q8_k,
    24: dtypes.i8,
    25: dtypes.i16,
    26: dtypes.i32,
    27: dtypes.i64,
    28: dtypes.f64,
    30: dtypes.bf16,
}

# Types that are listed but not read. Their sizes are needed to check the offsets of the tensors after them.
_LISTED: dict[int, DType] = {
    9: DType("q8_1", "packed", 36, 32),
    16: DType("iq2_xxs", "packed", 66, 256),
    17: DType("iq2_xs", "packed", 74, 256),
    18: DType("iq3_xxs", "packed", 98, 256),
    19: DType("iq1_s", "packed", 50, 256),
    20: DType("iq4_nl", "packed", 18, 32),
    21: DType("iq3_s", "packed", 110, 256),
    22: DType("iq2_s", "packed", 82, 256),
    23: DType("iq4_xs", "packed", 136, 256),
    29: DType("iq1_m", "packed", 56, 256),
    34: DType("tq1_0", "packed", 54, 256),
    35: DType("tq2_0", "packed", 66, 256),
    39: DType("mxfp4", "packed", 17, 32),
    40: DType("nvfp4", "packed", 36, 64),
    41: DType("q1_0", "packed", 18, 128),
}

GGML_TYPES: dict[int, DType] = _READ | _LISTED

# Ids that ggml once used and took out again.
REMOVED_TYPES: dict[int, str] = {
    4: "q4_2",
    5: "q4_3",
    31: "q4_0_4_4",
    32: "q4_0_4_8",
    33: "q4_0_8_8",
    36: "iq4_nl_4_4",
    37: "iq4_nl_4_8",
    38: "iq4_nl_8_8",
}


def is_read(dtype: DType) -> bool:
    """True for the types whose tensors can be read, not only listed."""
    return DTYPES.get(dtype.name) == dtype


def check_read(info: TensorInfo) -> None:
    """Raise `UnsupportedFile` (W041) for a tensor type that is listed but cannot be read."""
    if not is_read(info.dtype):
        raise UnsupportedFile(
            f"tensor {printable(info.key)!r} is {info.dtype}, which rlxflow does not read",
            code="RLX-W041",
            where=info.where,
            hint="use a file quantised to Q4_0…Q8_0, Q2_K…Q6_K, F16, BF16 or F32",
        )
