"""Hybrid layer patterns: what is accepted, what is refused and where, and that brackets change no number."""

from __future__ import annotations

import flow_samples as samples
import pytest

from rlxflow import HybridPattern, ModelFlow, RlxError

NEMOTRON_H_8B = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"


@pytest.mark.parametrize(
    ("text", "blocks", "layers", "segments", "depths"),
    [
        ("", (), "", 1, 0),
        ("M-M*-", ("M", "-", "M", "*", "-"), "M-M*-", 1, 0),
        ("[M-]M|[*-][ME]", ("M-", "M", "*-", "ME"), "M-M*-ME", 2, 0),
        ("M||G|", ("M", "G"), "MG", 4, 0),
        ("[G-]/[*E]/[*E]", ("G-",), "G-", 1, 2),
        ("/*E", (), "", 1, 1),
        ("M*/", ("M", "*"), "M*", 1, 0),
    ],
)
def test_accepted(text: str, blocks: tuple[str, ...], layers: str, segments: int, depths: int) -> None:
    pattern = HybridPattern.parse(text)
    assert (pattern.blocks, pattern.layers) == (blocks, layers)
    assert (len(pattern.segments), pattern.depths) == (segments, depths)
    assert str(pattern) == (text.removesuffix("/"))
    assert HybridPattern.parse(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("text", "column", "word"),
    [
        ("[[*-]]M", 2, "nest"),
        ("[]M", 1, "0"),
        ("[*]M", 1, "1"),
        ("[*|M]", 3, "cross a |"),
        ("[*/M]", 3, "cross a /"),
        ("M[*-M", 2, "never closed"),
        ("*-]M", 3, "closes nothing"),
        ("Mx", 2, "'x'"),
        ("M *", 2, "' '"),
        ("M*/MM/M", 7, "part 2"),
        ("M*//", 4, "part 1"),
        ("M*/M|M", 5, "main part only"),
        ("[M*-]M", 1, "3"),
        ("[*-*-]", 1, "4"),
        ("[-*]", 2, "sequence mixer"),
        ("[*M]", 3, "channel mixer"),
        ("[*x]", 3, "'x'"),
    ],
)
def test_refused_with_the_column(text: str, column: int, word: str) -> None:
    with pytest.raises(RlxError) as caught:
        HybridPattern.parse(text)
    assert caught.value.code == "RLX-F061"
    assert caught.value.message.startswith(f"column {column}: ") and word in caught.value.message


def test_pairing_tolerates_what_stays_alone() -> None:
    pattern = HybridPattern.parse(NEMOTRON_H_8B)
    assert (len(pattern.blocks), pattern.layers.count("M")) == (52, 24)
    paired = pattern.paired()
    assert len(paired.blocks) == 28 and paired.layers == pattern.layers
    assert paired.unfused() == pattern and pattern.paired().paired() == paired
    assert HybridPattern.parse("-M--*").paired().blocks == ("-", "M-", "-", "*")


def flow(pattern: str | HybridPattern) -> ModelFlow:
    def scaled(i: int) -> samples.ScaleStage:
        return samples.ScaleStage(f"layers.{i}.scale.weight", 12)

    return samples.embedded().hybrid_layers(pattern, {"M": scaled, "*": scaled, "-": scaled}).output("y")


def test_every_bracketing_wants_the_same_checkpoint_and_is_the_same_program() -> None:
    alone, some, all_ = (flow(p) for p in ("M-M*-", "[M-]M*-", "[M-]M|[*-]"))
    assert {s.key for s in alone.weights()} == {
        "embed.weight",
        *(f"layers.{i}.scale.weight" for i in range(5)),
    }
    assert alone.weights() == some.weights() == all_.weights()
    weights = samples.FakeWeights(alone)
    assert len({f.build(weights).graph.digest for f in (alone, some, all_)}) == 1
    assert flow("[M-]M").stages[-2].name == "layers.2"  # type: ignore[attr-defined]


def test_a_symbol_without_a_function() -> None:
    with pytest.raises(RlxError) as caught:
        flow("MG-E")
    assert caught.value.code == "RLX-F062" and "G E" in caught.value.message
