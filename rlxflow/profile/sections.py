"""The sections of a compile profile: every key with its type, default and effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NoReturn

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
from rlxflow.records import Limits, Record, described

if TYPE_CHECKING:
    from pydantic import ValidationError

TOKEN_LIMITS = Limits(ge=0, le=1_000_000)  # of batch·seq, where a rule may apply
ATTENTION_THRESHOLD_VARIABLE = "RLX_FUSE_ATTN_THRESHOLD"


class Section(Record):
    """A strict, immutable table of keys.

    `section` is its dotted name in TOML. Raises ProfileError: RLX-P003 for an unknown key, RLX-P004 for a
    value of the wrong type.
    """

    section: ClassVar[str] = ""

    @classmethod
    def key(cls, field: str) -> str:
        """The key of a field in TOML."""
        return field

    def refuse(self, error: ValidationError) -> NoReturn:
        raise profile_error(value_problems(self.section, error, self.key)) from None


class FusionProfile(Section):
    """`[fusion]`: how the graph is lowered and which patterns are fused."""

    section: ClassVar[str] = "fusion"

    policy: FusionPolicyKind = described(
        default=FusionPolicyKind.DIRECT,
        effect="`direct`: stages emit block ops; `fusable`: blocks are expanded and the rules find them "
        "again. Both reach the same program.",
    )
    target: FusionTargetKind = described(
        default=FusionTargetKind.AUTO,
        effect="Device family whose fusion pipeline runs; `auto` follows the backend.",
    )
    assert_clean: bool = described(
        default=False, effect="Fail the compile when a rule matched less often than the recipe expects."
    )
    skip: bool = described(default=False, effect="Fuse nothing.")
    attention_threshold: int = described(
        default=64,
        effect="Largest batch·seq at which an attention block or a transformer layer is fused whole; "
        f"0: never. The variable `{ATTENTION_THRESHOLD_VARIABLE}` overrides it.",
        limits=TOKEN_LIMITS,
    )


class RuleSection(Section):
    """A section with one key per fusion rule, by its public name; rules of other packages included.

    In TOML the names are kebab case (`fuse-swiglu`); as Python arguments they have underscores.
    """

    @classmethod
    def named(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        declared = {cls.key(field): field for field in cls.fields()}
        for rule in map(cls.key, values):
            if rule not in declared:
                refuse_unknown_rule(cls.section, rule, declared)
        return {declared.get(cls.key(name), cls.key(name)): value for name, value in values.items()}

    @classmethod
    def key(cls, field: str) -> str:
        return field.replace("_", "-")

    def by_rule(self) -> dict[str, Any]:
        """Rule name → value."""
        return {self.key(name): value for name, value in self.items()}


def _rule(effect: str) -> Any:
    return described(default=True, effect=effect)


class RuleProfile(RuleSection):
    """`[passes.rules]`: each fusion rule on or off."""

    section: ClassVar[str] = "passes.rules"
    others: ClassVar[Any] = bool

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
        switches: dict[str, bool] = self.by_rule()
        return switches.get(rule, True)


class MaxTokensProfile(RuleSection):
    """`[passes.max_tokens]`: the largest batch·seq at which a fusion rule applies; 0: never.

    Rules that are not named have no limit, or `fusion.attention_threshold`.
    """

    section: ClassVar[str] = "passes.max_tokens"
    others: ClassVar[Any] = Annotated[int, TOKEN_LIMITS]

    def limits(self) -> dict[str, int]:
        """Rule name → limit."""
        return self.by_rule()


class PassProfile(Section):
    """`[passes]`: the clean-up passes around fusion."""

    section: ClassVar[str] = "passes"

    dce: bool = described(default=True, effect="Remove nodes that no output needs.")
    constant_folding: bool = described(
        default=True, effect="Compute at compile time what depends on constants only."
    )
    verbose: bool = described(default=False, effect="Print one line per pass while compiling.")
    rules: RuleProfile = RuleProfile()
    max_tokens: MaxTokensProfile = MaxTokensProfile()


class PrecisionProfile(Section):
    """`[precision]`: what numbers are kept and computed in."""

    section: ClassVar[str] = "precision"

    compute: PrecisionKind = described(
        default=PrecisionKind.F32,
        effect="Type that f32 weights of linear layers are kept in; others are kept as stored. Activations "
        "and sums are f32.",
    )
    mixed: MixedPrecisionKind = described(
        default=MixedPrecisionKind.NONE,
        effect="What a backend may compute in less: `none`; `auto`: half precision where safe (f32 weights "
        "of linear layers in bf16, and their activations where the processor multiplies bf16); `int8`: "
        "linear layers may quantise their weights and activations to int8.",
    )
    paired_products: bool = described(
        default=False,
        effect="f32 products of two elements at a time, where the processor has units for sums beside "
        "those for products (AMD Zen 4 and later): up to 1.4 times as fast; rounds a bit more.",
    )
    min_cosine: float = described(
        default=0.0,
        effect="The accuracy that the profile guarantees: the smallest cosine between an embedding (or "
        "the logits of a token) and that of the reference in f32. `rlxflow check --accuracy` measures it. 0: "
        "what the other keys allow, 0.999999 in f32, 0.999 with halves, 0.95 with int8.",
        limits=Limits(ge=0, le=1, finite=True),
    )
    kv_cache: KvCacheKind = described(
        default=KvCacheKind.F32, effect="Type that cached keys and values are stored in."
    )


class CpuBackendProfile(Section):
    """`[backend.cpu]`: hints for the compiled CPU backend."""

    section: ClassVar[str] = "backend.cpu"

    threads: int = described(
        default=0,
        effect="Threads of one model; 0: as many as the process may run on.",
        limits=Limits(ge=0, le=1024),
    )
    unfuse_regions: bool = described(default=False, effect="Run elementwise regions op by op.")


class MetalBackendProfile(Section):
    """`[backend.metal]`: accepted so that existing profiles load."""

    section: ClassVar[str] = "backend.metal"

    skip_fusion: bool = described(default=False, effect="On Metal: fuse nothing.")
    unfuse_regions: bool = described(default=False, effect="On Metal: run elementwise regions op by op.")


class BackendOverrides(Section):
    """`[backend]`: which backend compiles, and hints per backend."""

    section: ClassVar[str] = "backend"

    name: BackendKind = described(
        default=BackendKind.AUTO,
        effect="Backend that compiles; `auto` takes `cpu` where that runs the whole model, else `reference`, "
        "and says so. The variable `RLXFLOW_BACKEND` may name another for `auto`.",
    )
    cpu: CpuBackendProfile = CpuBackendProfile()
    metal: MetalBackendProfile = MetalBackendProfile()
