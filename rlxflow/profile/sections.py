"""The sections of a compile profile: every key with its type, default and effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlxflow.profile.kinds import (
    BackendKind,
    FusionPolicyKind,
    FusionTargetKind,
    KvCacheKind,
    MixedPrecisionKind,
    PrecisionKind,
)
from rlxflow.profile.problems import profile_error, value_problems
from rlxflow.profile.rule_names import refuse_unknown_rule

TOKEN_LIMITS = (0, 1_000_000)  # of batch·seq, where a rule may apply
ATTENTION_THRESHOLD_VARIABLE = "RLX_FUSE_ATTN_THRESHOLD"


class Section(BaseModel):
    """A strict, immutable table of keys.

    `section` is its dotted name in TOML. Raises ProfileError: RLX-P003 for an unknown key, RLX-P004 for a
    value of the wrong type.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    section: ClassVar[str] = ""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise profile_error(value_problems(self.section, error)) from None


def _name(default: Any, effect: str) -> Any:
    """A field that takes one of an enum's names; TOML has only text, so the text converts."""
    return Field(default=default, strict=False, description=effect)


class FusionProfile(Section):
    """`[fusion]`: how the graph is lowered and which patterns are fused."""

    section: ClassVar[str] = "fusion"

    policy: FusionPolicyKind = _name(
        FusionPolicyKind.DIRECT,
        "`direct`: stages emit block ops; `fusable`: blocks are expanded and the rules find them again. "
        "Both reach the same program.",
    )
    target: FusionTargetKind = _name(
        FusionTargetKind.AUTO, "Device family whose fusion pipeline runs; `auto` follows the backend."
    )
    assert_clean: bool = Field(
        default=False, description="Fail the compile when a rule matched less often than the recipe expects."
    )
    skip: bool = Field(default=False, description="Fuse nothing.")
    attention_threshold: int = Field(
        default=64,
        ge=TOKEN_LIMITS[0],
        le=TOKEN_LIMITS[1],
        description="Largest batch·seq at which an attention block or a transformer layer is fused whole; "
        f"0: never. The variable `{ATTENTION_THRESHOLD_VARIABLE}` overrides it.",
    )


def _kebab(field: str) -> str:
    return field.replace("_", "-")


class RuleSection(Section):
    """A section with one key per fusion rule, by its public name; rules of other packages included.

    In TOML the names are kebab case (`fuse-swiglu`); as Python arguments they have underscores.
    """

    model_config = ConfigDict(alias_generator=_kebab, populate_by_name=True, extra="allow")

    def __init__(self, **values: Any) -> None:
        named = {_kebab(name): value for name, value in values.items()}
        declared = {_kebab(name) for name in type(self).model_fields}
        for name in named.keys() - declared:
            refuse_unknown_rule(self.section, name, declared)
        super().__init__(**named)


def _rule(effect: str) -> Any:
    return Field(default=True, description=effect)


class RuleProfile(RuleSection):
    """`[passes.rules]`: each fusion rule on or off."""

    if not TYPE_CHECKING:  # to type checkers it would be a field that must be given
        __pydantic_extra__: dict[str, bool]

    section: ClassVar[str] = "passes.rules"

    fuse_matmul_bias_act: bool = _rule("Linear, bias and activation in one op.")
    fuse_residual_ln: bool = _rule("Residual add and LayerNorm in one op.")
    fuse_residual_rms_norm: bool = _rule("Residual add and RMSNorm in one op with two outputs.")
    fuse_shared_input_matmul: bool = _rule(
        "Projections that read one input (Q, K and V; gate and up) in one op."
    )
    fuse_swiglu: bool = _rule("The gated feed-forward activation in one op.")
    fused_gate_up: bool = _rule("Gate and up projections with their activation in one pass over the input.")
    fuse_qk_norm_rope: bool = _rule("Per-head RMSNorm of Q and K with their rotary embedding in one op.")
    fuse_attention_block: bool = _rule(
        "A whole attention block in one op, up to `fusion.attention_threshold`."
    )
    fuse_transformer_layer: bool = _rule(
        "A whole post-norm encoder layer in one op, up to `fusion.attention_threshold`."
    )

    def enabled(self, rule: str) -> bool:
        """Whether the rule of that public name is on; rules that are not named are."""
        switches: dict[str, bool] = self.model_dump(by_alias=True)
        return switches.get(rule, True)


class MaxTokensProfile(RuleSection):
    """`[passes.max_tokens]`: the largest batch·seq at which a fusion rule applies; 0: never.

    Rules that are not named have no limit, or `fusion.attention_threshold`.
    """

    if not TYPE_CHECKING:
        __pydantic_extra__: dict[str, Annotated[int, Field(ge=TOKEN_LIMITS[0], le=TOKEN_LIMITS[1])]]

    section: ClassVar[str] = "passes.max_tokens"

    def limits(self) -> dict[str, int]:
        """Rule name → limit."""
        return dict(self.__pydantic_extra__ or {})


class PassProfile(Section):
    """`[passes]`: the clean-up passes around fusion."""

    section: ClassVar[str] = "passes"

    dce: bool = Field(default=True, description="Remove nodes that no output needs.")
    constant_folding: bool = Field(
        default=True, description="Compute at compile time what depends on constants only."
    )
    verbose: bool = Field(default=False, description="Print one line per pass while compiling.")
    rules: RuleProfile = RuleProfile()
    max_tokens: MaxTokensProfile = MaxTokensProfile()


class PrecisionProfile(Section):
    """`[precision]`: what numbers are kept and computed in."""

    section: ClassVar[str] = "precision"

    compute: PrecisionKind = _name(
        PrecisionKind.F32,
        "Type that f32 weights of linear layers are kept in; others are kept as stored. Activations and sums "
        "are f32.",
    )
    mixed: MixedPrecisionKind = _name(
        MixedPrecisionKind.NONE,
        "What a backend may compute in less: `none`; `auto`: half precision where safe (f32 weights of "
        "linear layers in bf16, and their activations where the processor multiplies bf16); `int8`: linear "
        "layers may quantise their weights and activations to int8. Both: attention of many tokens in bf16, "
        "where the processor multiplies that.",
    )
    paired_products: bool = Field(
        default=False,
        description="f32 products of two elements at a time, where the processor has units for sums beside "
        "those for products (AMD Zen 4 and later): up to 1.4 times as fast; rounds a bit more.",
    )
    min_cosine: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="The accuracy that the profile guarantees: the smallest cosine between an embedding (or "
        "the logits of a token) and that of the reference in f32. `rlxflow check --accuracy` measures it. 0: "
        "what the other keys allow, 0.999999 in f32, 0.999 with halves, 0.95 with int8.",
    )
    kv_cache: KvCacheKind = _name(KvCacheKind.F32, "Type that cached keys and values are stored in.")


class CpuBackendProfile(Section):
    """`[backend.cpu]`: hints for the compiled CPU backend."""

    section: ClassVar[str] = "backend.cpu"

    threads: int = Field(
        default=0, ge=0, le=1024, description="Threads of one model; 0: as many as the process may run on."
    )
    unfuse_regions: bool = Field(default=False, description="Run elementwise regions op by op.")


class MetalBackendProfile(Section):
    """`[backend.metal]`: accepted so that existing profiles load."""

    section: ClassVar[str] = "backend.metal"

    skip_fusion: bool = Field(default=False, description="On Metal: fuse nothing.")
    unfuse_regions: bool = Field(default=False, description="On Metal: run elementwise regions op by op.")


class BackendOverrides(Section):
    """`[backend]`: which backend compiles, and hints per backend."""

    section: ClassVar[str] = "backend"

    name: BackendKind = _name(
        BackendKind.AUTO,
        "Backend that compiles; `auto` takes `cpu` where that runs the whole model, else `reference`, and "
        "says so. The variable `RLXFLOW_BACKEND` may name another for `auto`.",
    )
    cpu: CpuBackendProfile = CpuBackendProfile()
    metal: MetalBackendProfile = MetalBackendProfile()
