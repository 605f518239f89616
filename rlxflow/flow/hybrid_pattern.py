"""Hybrid layer patterns: a model's layers as text, `M-M-M*-` or, paired, `[M-][M-]M[*-]`.

    pattern = main { "/" mtp }          mtp: layers of one multi-token-prediction depth, all depths alike
    main    = segment { "|" segment }   segments: where a pipeline may be cut
    segment = { layer | "[" sequence-mixer channel-mixer "]" }

Sequence mixers: `M` Mamba-2, `G` Gated DeltaNet, `*` attention. Channel mixers: `-` MLP, `E` mixture of
experts. Brackets put two layers into one block; layers are counted, and their checkpoint keys numbered, as if
there were none, so every bracketing of a pattern loads the same checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

from rlxflow.errors import FlowError, printable
from rlxflow.flow.layer_stack import LayerStack
from rlxflow.flow.stage import Stage
from rlxflow.quick_dataclass import dataclass

SEQUENCE_MIXERS = "MG*"
CHANNEL_MIXERS = "-E"


@dataclass(frozen=True)
class HybridPattern:
    """A parsed pattern: the blocks of each segment, and those of one multi-token-prediction depth.

    A block is one symbol, or two that brackets joined.
    """

    segments: tuple[tuple[str, ...], ...]
    mtp: tuple[str, ...] = ()
    depths: int = 0

    @classmethod
    def parse(cls, text: str) -> HybridPattern:
        """Raises `FlowError` (F061) that names the column for anything outside the grammar above."""
        return _Parser(text).pattern()

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of the main part, in order."""
        return tuple(block for segment in self.segments for block in segment)

    @property
    def layers(self) -> str:
        """The layers of the main part, one symbol each: what checkpoint keys count."""
        return "".join(self.blocks)

    def unfused(self) -> HybridPattern:
        """The same layers, each a block of its own."""
        return HybridPattern(
            tuple(tuple("".join(s)) for s in self.segments), tuple("".join(self.mtp)), self.depths
        )

    def paired(self) -> HybridPattern:
        """The same layers, with each sequence mixer and the channel mixer behind it in one block."""
        segments = tuple(_paired("".join(s)) for s in self.segments)
        return HybridPattern(segments, _paired("".join(self.mtp)), self.depths)

    def stages(
        self, make: Mapping[str, Callable[[int], Stage]], name: str = "layers"
    ) -> tuple[LayerStack, ...]:
        """`make[symbol](i)` for layer i of the main part, a stack per block with the path `name.i`.

        Multi-token-prediction parts draft tokens; they are no part of a forward pass and are not made. Raises
        `FlowError` (F062) for a symbol without a function.
        """
        missing = [s for s in dict.fromkeys(self.layers) if s not in make]
        if missing:
            hint = f"give one for each of {' '.join(dict.fromkeys(self.layers))}"
            raise FlowError(
                f"no function makes the layers {' '.join(missing)}",
                code="RLX-F062",
                where=str(self),
                hint=hint,
            )
        stacks, index = [], 0
        for block in self.blocks:
            stacks.append(
                LayerStack(f"{name}.{index}").append(make[s](index + j) for j, s in enumerate(block))
            )
            index += len(block)
        return tuple(stacks)

    def __str__(self) -> str:
        def text(blocks: tuple[str, ...]) -> str:
            return "".join(f"[{b}]" if len(b) > 1 else b for b in blocks)

        return "|".join(map(text, self.segments)) + f"/{text(self.mtp)}" * self.depths


def _paired(layers: str) -> tuple[str, ...]:
    blocks: list[str] = []
    for symbol in layers:
        if symbol in CHANNEL_MIXERS and blocks and blocks[-1] in SEQUENCE_MIXERS:
            blocks[-1] += symbol
        else:
            blocks.append(symbol)
    return tuple(blocks)


class _Parser:
    """One pass over the text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def pattern(self) -> HybridPattern:
        parts: list[list[list[str]]] = [[[]]]  # part → segment → blocks
        at = 0
        while at < len(self.text):
            symbol = self.text[at]
            if symbol == "[":
                block = self._group(at)
                parts[-1][-1].append(block)
                at += len(block) + 2
                continue
            if symbol == "/":
                parts.append([[]])
            elif symbol == "|" and len(parts) > 1:
                self.fail(at, "| cuts the main part only, not what follows a /")
            elif symbol == "|":
                parts[-1].append([])
            elif symbol == "]":
                self.fail(at, "] closes nothing")
            else:
                parts[-1][-1].append(self._layer(at))
            at += 1
        return self._joined(parts)

    def _joined(self, parts: list[list[list[str]]]) -> HybridPattern:
        segments = tuple(tuple(s) for s in parts[0])
        depths = [tuple(part[0]) for part in parts[1:]]
        if depths == [()]:
            depths = []  # a / at the end means none
        for number, depth in enumerate(depths):
            if depth != depths[0] or not depth:
                self.fail(
                    self._start_of_part(number + 1),
                    f"multi-token-prediction part {number + 1} is empty or differs",
                )
        return HybridPattern(segments, depths[0] if depths else (), len(depths))

    def _start_of_part(self, number: int) -> int:
        return sum(len(p) + 1 for p in self.text.split("/")[:number])

    def _layer(self, at: int) -> str:
        symbol = self.text[at]
        if symbol not in SEQUENCE_MIXERS + CHANNEL_MIXERS:
            known = " ".join(SEQUENCE_MIXERS + CHANNEL_MIXERS)
            self.fail(at, f"{printable(symbol)!r} is no layer; layers: {known}")
        return symbol

    def _group(self, at: int) -> str:
        """The two layers of a group that opens at `at`."""
        end = at + 1
        while end < len(self.text) and self.text[end] != "]":
            if self.text[end] == "[":
                self.fail(end, "groups do not nest")
            if self.text[end] in "|/":
                self.fail(end, f"a group cannot cross a {self.text[end]}")
            self._layer(end)
            end += 1
        if end == len(self.text):
            self.fail(at, "this [ is never closed")
        block = self.text[at + 1 : end]
        if len(block) != 2:
            self.fail(at, f"a group has two layers, this one {len(block)}")
        if block[0] not in SEQUENCE_MIXERS:
            self.fail(at + 1, f"a group begins with a sequence mixer: {' '.join(SEQUENCE_MIXERS)}")
        if block[1] not in CHANNEL_MIXERS:
            self.fail(at + 2, f"a group ends with a channel mixer: {' '.join(CHANNEL_MIXERS)}")
        return block

    def fail(self, at: int, message: str) -> NoReturn:
        where = printable(self.text, 200)
        raise FlowError(
            f"column {at + 1}: {message}",
            code="RLX-F061",
            where=where,
            hint="layers are M G * (sequence) and - E (channel), as in [M-]M[*-]",
        )
