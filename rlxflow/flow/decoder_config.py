"""The config fields that Llama, Qwen and their kin share."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from rlxflow.errors import ConfigError
from rlxflow.flow.config import Eps, LayerCount, RecipeConfig, Size, activation
from rlxflow.flow.layer_types import LayerTypesConfig
from rlxflow.flow.rope_config import RopeConfig, rope_config
from rlxflow.ops.activation import Activation


class DecoderConfig(RecipeConfig):
    """Fields of a rotary, grouped-query, gated-MLP decoder, with Hugging Face's names.

    Sizes have no defaults: a config without them is refused rather than guessed.
    """

    default_theta: ClassVar[float | None] = None
    partial_rotary: ClassVar[bool] = False  # whether models of this kind may rotate a part of each head

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: LayerCount
    num_attention_heads: Size
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    hidden_act: str = "silu"
    max_position_embeddings: Size
    rms_norm_eps: Eps
    tie_word_embeddings: bool = False
    rope_theta: float = Field(default=0.0, gt=0, allow_inf_nan=False)  # 0: the config gives none
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    partial_rotary_factor: float | None = None
    original_max_position_embeddings: Size | None = None
    rope_interleaved: Literal[False] = False

    @property
    def num_kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """head_dim, or hidden_size / num_attention_heads where the config has none."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def activation(self) -> Activation:
        return activation(self.hidden_act)

    @property
    def rope(self) -> RopeConfig:
        return rope_config(
            head_dim=self.head_size,
            rope_theta=self.rope_theta or None,
            rope_scaling=self.rope_scaling,
            rope_parameters=self.rope_parameters,
            max_position_embeddings=self.max_position_embeddings,
            original_max_position_embeddings=self.original_max_position_embeddings,
            partial_rotary_factor=self.partial_rotary_factor,
            default_theta=self.default_theta,
        )

    @property
    def rope_tables(self) -> dict[str, RopeConfig]:
        """The rotary tables that the layers use, by name."""
        return {"rope": self.rope}

    @property
    def max_tokens(self) -> int:
        return int(self.max_position_embeddings * min(rope.stretch for rope in self.rope_tables.values()))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.num_attention_heads % self.num_kv_heads:
            heads = f"{self.num_attention_heads} attention heads"
            raise _misfit(f"{self.num_kv_heads} key-value heads do not divide {heads}")
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise _misfit(
                f"{self.num_attention_heads} attention heads do not divide hidden_size {self.hidden_size}"
            )
        _ = self.activation  # raises for one that we do not have
        narrowest = min(rope.rotary_dim for rope in self.rope_tables.values())
        if narrowest != self.head_size and not self.partial_rotary:
            raise ConfigError(
                f"{narrowest} of head_dim {self.head_size} channels are rotary",
                code="RLX-C008",
                hint="models of this kind rotate whole heads: remove partial_rotary_factor; "
                "a recipe for others says partial_rotary = True",
            )
        return self


def _misfit(message: str) -> ConfigError:
    return ConfigError(message, code="RLX-C010", hint="correct the field, or download the file again")


class PatternedDecoderConfig(LayerTypesConfig, DecoderConfig):
    """Adds a window on all layers but every n-th, or as `layer_types` says (Gemma 2 and 3, Cohere 2).

    n is `sliding_window_pattern` where a recipe declares that field, or else `default_pattern`.
    """

    default_pattern: ClassVar[int]

    sliding_window: Size = 4096

    def window(self, layer: int) -> int:
        """The window of a layer, 0 for full attention."""
        if self.layer_types is not None:
            return self.sliding_window if self.layer_types[layer] == "sliding_attention" else 0
        pattern = getattr(self, "sliding_window_pattern", None) or self.default_pattern
        return self.sliding_window if (layer + 1) % pattern else 0

    def rope_of(
        self, kind: str, rope_theta: float | None, rope_scaling: dict[str, Any] | None, default_theta: float
    ) -> RopeConfig:
        """The rotary settings of one kind of layer: those of its name in `rope_parameters`, or the old
        spelling that is given."""
        given = self.rope_parameters or {}
        if set(given) - {"full_attention", "sliding_attention"}:
            raise ConfigError(
                "rope_parameters are not those of each kind of layer",
                code="RLX-C008",
                where="rope settings",
                hint='give {"full_attention": {…}, "sliding_attention": {…}}',
            )
        return rope_config(
            head_dim=self.head_size,
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            rope_parameters=given.get(kind),
            max_position_embeddings=self.max_position_embeddings,
            default_theta=default_theta,
        )


class WindowedDecoderConfig(LayerTypesConfig, DecoderConfig):
    """Adds Qwen's sliding window: layers from `max_window_layers` on, or as `layer_types` says."""

    use_sliding_window: bool = False
    sliding_window: Size | None = 4096
    max_window_layers: int = Field(default=28, ge=0)

    def window(self, layer: int) -> int:
        """The window of a layer, 0 for full attention."""
        if not self.use_sliding_window or self.sliding_window is None:
            return 0
        if self.layer_types is not None:
            return self.sliding_window if self.layer_types[layer] == "sliding_attention" else 0
        return self.sliding_window if layer >= self.max_window_layers else 0

    @model_validator(mode="after")
    def _window_where_layers_slide(self) -> Self:
        if "sliding_attention" in (self.layer_types or ()) and not (
            self.use_sliding_window and self.sliding_window
        ):
            raise _misfit("layer_types names sliding_attention, but no window is set")
        return self
