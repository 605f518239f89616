"""The words a profile may use where a key takes one of a few names."""

from __future__ import annotations

from enum import StrEnum


class FusionPolicyKind(StrEnum):
    """How stages are lowered: `direct` keeps block ops, `fusable` expands them for rules to find."""

    DIRECT = "direct"
    FUSABLE = "fusable"


class FusionTargetKind(StrEnum):
    """The device family whose fusion pipeline is wanted; `auto` follows the backend that runs."""

    AUTO = "auto"
    CPU = "cpu"
    METAL = "metal"
    MLX = "mlx"
    CUDA = "cuda"
    ROCM = "rocm"
    WGPU = "wgpu"
    TPU = "tpu"


class PrecisionKind(StrEnum):
    """The floating type that weights and activations are kept in; sums are always f32."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"


class MixedPrecisionKind(StrEnum):
    """What may be computed in less: nothing, half precision where safe, or int8 in linear layers."""

    NONE = "none"
    AUTO = "auto"
    INT8 = "int8"


class KvCacheKind(StrEnum):
    """The type that cached keys and values are stored in."""

    F32 = "f32"
    F16 = "f16"


class BackendKind(StrEnum):
    """The backend that compiles: `auto` takes the fastest one that this machine has."""

    AUTO = "auto"
    REFERENCE = "reference"
    CPU = "cpu"
