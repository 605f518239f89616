"""The end of a language model: last token and output head."""

from __future__ import annotations

from rlxflow.dtypes import i32
from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import maximum, sub
from rlxflow.ops.leaves import full
from rlxflow.ops.linear import linear
from rlxflow.ops.shape import select_token
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.scale import scaled, softcapped
from rlxflow.weights.plan import WeightSpec


def last_token(e: Emit, x: Value) -> Value:
    """x [B, S, H] at the last of each sequence's new tokens: [B, H]."""
    _, new_len = e.lengths()
    one, zero = (full(value=v, dtype=i32, shape=()) for v in (1.0, 0.0))
    return select_token(x, maximum(sub(new_len, one), zero))


@dataclass(frozen=True)
class GatherLastTokenStage:
    """y[b] = x[b, new_len[b] − 1]; x: [B, S, H], y: [B, H]."""

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value:
        return last_token(e, e.need(x))


@dataclass(frozen=True)
class LmHeadStage:
    """Logits scale · x · Wᵀ, as two outputs: `logits` [B, S, V], and `last_logits` [B, V] of each last token.

    W is `lm_head.weight` [vocab_size, hidden_size]; a tied head uses the embedding table itself. With
    `softcap` c > 0 every logit z becomes c · tanh(z / c).
    """

    vocab_size: int
    hidden_size: int
    tied: bool = False
    key: str = "lm_head.weight"
    embedding_key: str = "model.embed_tokens.weight"
    scale: float = 1.0
    softcap: float = 0.0

    def weights(self) -> tuple[WeightSpec, ...]:
        tied_to = self.embedding_key if self.tied else None
        return (WeightSpec(self.key, (self.vocab_size, self.hidden_size), tied_to=tied_to),)

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        weight = e.weight(self.key)
        logits, last = (
            softcapped(scaled(linear(h, weight), self.scale), self.softcap) for h in (x, last_token(e, x))
        )
        e.output("logits", logits)
        e.output("last_logits", last)
        return logits
