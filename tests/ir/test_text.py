"""The text form: an exact round trip, and nothing but `GraphError` for malformed text."""

from __future__ import annotations

import random

import pytest
from graph_samples import SAMPLES, decoder, encoder, graphs
from hypothesis import given, settings, strategies as st

from rlxflow.dtypes import f32
from rlxflow.errors import GraphError
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import emitting
from rlxflow.ir.scan import MAX_DEPTH, Line
from rlxflow.ir.text import parse_graph, print_graph
from rlxflow.ir.verify import violations
from rlxflow.ops.elementwise import neg
from rlxflow.ops.leaves import input_


def check_round_trip(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse_graph(text)
    assert print_graph(again) == text
    assert again.digest == graph.digest and again.name == graph.name
    assert list(again.inputs) == list(graph.inputs) and list(again.outputs) == list(graph.outputs)
    assert list(again.stages.values()) == [graph.stages[n] for n in graph.nodes if n in graph.stages]


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str) -> None:
    graph = SAMPLES[name]()
    assert violations(graph) == []
    check_round_trip(graph)


@settings(max_examples=80, deadline=None)
@given(graphs())
def test_random_graphs(graph: Graph) -> None:
    assert violations(graph) == []
    check_round_trip(graph)


@settings(deadline=None)
@given(st.text(), st.lists(st.text(), max_size=3), st.text(min_size=1))
def test_any_text_in_names_keys_and_paths(name: str, paths: list[str], key: str) -> None:
    builder = GraphBuilder()
    with emitting(builder), builder.scope(*paths):
        x = input_(key=key, dtype=f32, shape=("B",))
        y = neg(x)
    graph = builder.finish(name, {key: x}, {name: y})
    check_round_trip(graph)
    assert all(c.isascii() and (c.isprintable() or c == "\n") for c in print_graph(graph))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
                    | st.binary(), lambda v: st.lists(v, max_size=3).map(tuple), max_leaves=10))  # fmt: skip
def test_any_attribute_value(value: object) -> None:
    from rlxflow.ir.graph import attr_text

    text = attr_text(value)
    assert "\n" not in text
    line = Line(text)
    assert attr_text(line.value()) == text
    line.expect("")


def test_the_form_itself() -> None:
    builder = GraphBuilder()
    with emitting(builder), builder.scope("embed"):
        x = input_(key="x", dtype=f32, shape=("B", "S+1"))
        y = neg(x)
    text = print_graph(builder.finish("tiny", {"x": x}, {"y": y}))
    assert text == (
        'graph "tiny" {\n'
        '  %0 = input {key="x" dtype=!f32 shape=(<B> <1+S>)} : f32[B,1+S] @ "embed"\n'
        '  %1 = neg(%0) : f32[B,1+S] @ "embed"\n'
        '  input "x" = %0\n'
        '  output "y" = %1\n'
        "}\n"
    )


HEAD = 'graph "g" {\n  %0 = input {key="x" dtype=!f32 shape=(<B> 4)} : f32[B,4]\n'
INPUT = '%0 = input {key="x" dtype=!f32 shape=(4)} : f32[4]'
MALFORMED = {
    "empty": ("", 1, "ends before"),
    "no head": ("%0 = neg(%1) : f32[4]", 1, "a graph starts with"),
    "no brace": ('graph "g"', 1, "wanted '{'"),
    "no name": ("graph {", 1, "wanted a string"),
    "not closed": (HEAD, 3, "ends before"),
    "text after": (HEAD + "}\n}", 4, "after the closing brace"),
    "text behind a line": (HEAD[:-1] + " extra", 2, "the end of the line"),
    "unknown op": (HEAD + "%1 = nag(%0) : f32[B,4]\n}", 3, "no op 'nag'"),
    "unknown value": (HEAD + "%1 = neg(%7) : f32[B,4]\n}", 3, "'%7' is not a value"),
    "used before": ('graph "g" {\n%1 = neg(%0) : f32[4]\n' + INPUT, 2, "'%0' is not a value"),
    "two definitions": (HEAD + "%0 = neg(%0) : f32[B,4]\n}", 3, "defined twice"),
    "wrong type": (HEAD + "%1 = neg(%0) : f32[B,5]\n}", 3, "gives f32[B,4]"),
    "wrong dtype": (HEAD + "%1 = neg(%0) : f16[B,4]\n}", 3, "gives f32[B,4]"),
    "too many types": (HEAD + "%1 = neg(%0) : f32[B,4], f32[B,4]\n}", 3, "the text says"),
    "wrong count": (HEAD + "%1:2 = neg(%0) : f32[B,4]\n}", 3, "gives"),
    "no type": (HEAD + "%1 = neg(%0)\n}", 3, "wanted ':'"),
    "open arguments": (HEAD + "%1 = neg(%0 : f32[B,4]\n}", 3, "wanted ')'"),
    "absent operand": (HEAD + "%1 = neg(_) : f32[B,4]\n}", 3, "operand 'x' is missing"),
    "too many operands": (HEAD + "%1 = neg(%0, %0) : f32[B,4]\n}", 3, "takes 1 operands"),
    "unknown attribute": (HEAD + "%1 = neg(%0) {axis=1} : f32[B,4]\n}", 3, "no attribute 'axis'"),
    "attribute twice": (HEAD + "%1 = softmax(%0) {axis=0 axis=1} : f32[B,4]\n}", 3, "given twice"),
    "attribute without value": (HEAD + "%1 = softmax(%0) {axis} : f32[B,4]\n}", 3, "wanted '='"),
    "attribute of wrong kind": (HEAD + '%1 = softmax(%0) {axis="a"} : f32[B,4]\n}', 3, "not int"),
    "nan": (HEAD + "%1 = l2_normalize(%0) {eps=nan} : f32[B,4]\n}", 3, "not float"),
    "axis outside": (HEAD + "%1 = softmax(%0) {axis=2} : f32[B,4]\n}", 3, "outside rank"),
    "open tuple": ('graph "g" {\n%0 = input {key="x" dtype=!f32 shape=(4} : f32[4]', 2, "attribute's value"),
    "deep tuple": ('graph "g" {\n%0 = input {key="x" shape=' + "(" * 9999, 2, f"deeper than {MAX_DEPTH}"),
    "bad dtype": ('graph "g" {\n%0 = input {key="x" dtype=!f99 shape=(4)} : f99[4]', 2, "'!f99'"),
    "bad size": ('graph "g" {\n%0 = input {key="x" dtype=!f32 shape=(<B-->)} : f32[B]', 2, "not a dimension"),
    "negative size": ('graph "g" {\n%0 = input {key="x" dtype=!f32 shape=(-4)} : f32[-4]', 2, "negative"),
    "huge integer": (HEAD + "%1 = softmax(%0) {axis=" + "9" * 5000 + "} : f32", 3, "attribute's value"),
    "open string": (HEAD + '  output "y = %0\n}', 3, "cannot read"),
    "bad escape": (HEAD + '  output "\\q" = %0\n}', 3, "cannot read"),
    "bad code point": (HEAD + '  output "\\Uffffffff" = %0\n}', 3, "no valid text"),
    "odd bytes": ('graph "g" {\n%0 = constant {data=x\'0\' dtype=!u8 shape=(1)} : u8[1]', 2, "cannot read"),
    "short data": ('graph "g" {\n%0 = constant {data=x\'00\' dtype=!f32 shape=(1)} : f32[1]', 2, "1 bytes"),
    "huge data": (
        'graph "g" {\n%0 = constant {data=x\'00\' dtype=!f32 shape=(99999999999999)} : f32[1]', 2, "1 bytes"),
    "unknown binding": (HEAD + 'outputs "y" = %0\n}', 3, "no binding 'outputs'"),
    "binding of nothing": (HEAD + 'output "y" = %9\n}', 3, "'%9' is not a value"),
    "output twice": (HEAD + 'output "y" = %0\noutput "y" = %0\n}', 4, "given twice"),
    "state without end": (HEAD + 'state "y" = %0\n}', 3, "wanted '->'"),
    "control character": (HEAD + "\x00\n}", 3, "cannot read"),
    "huge rope": (
        'graph "g" {\n%0 = input {key="p" dtype=!i32 shape=(1 1)} : i32[1,1]\n'
        '%1 = input {key="n" dtype=!i32 shape=(1)} : i32[1]\n'
        "%2:2 = rope_tables(%0, %1) {rotary_dim=999999999998 theta=1.0} : f32[1,1,1], f32[1,1,1]",
        4, "rotary_dim"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name: str) -> None:
    text, line, message = MALFORMED[name]
    with pytest.raises(GraphError) as caught:
        parse_graph(text)
    assert caught.value.where == f"line {line}"
    assert message in caught.value.message
    assert caught.value.code.startswith("RLX-I") and "\n" not in caught.value.message


def mutated(text: str, rng: random.Random) -> str:
    """One to three edits: a character or a run dropped, doubled, replaced, moved, or a line swapped."""
    for _ in range(rng.randint(1, 3)):
        i, j = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        j = min(j, i + rng.choice((1, 3, 20)))
        piece = rng.choice(
            (
                "",
                text[i:j] * 2,
                rng.choice('(){}=,:@%"\\<>[]_-.x0123456789 \n\0é'),
                *text.split()[:40],
                "-1",
                "1e999",
            )
        )
        text = text[:i] + piece + text[j:]
        if rng.random() < 0.2:
            lines = text.split("\n")
            a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[a], lines[b] = lines[b], lines[a]
            text = "\n".join(lines)
    return text


@pytest.mark.parametrize("sample", [encoder, decoder, SAMPLES["weird"]])
def test_damaged_text_parses_or_is_refused_with_a_line(sample: object) -> None:
    text = print_graph(sample())  # type: ignore[operator]
    rng = random.Random(7)
    refused = 0
    for _ in range(1500):
        try:
            graph = parse_graph(mutated(text, rng))
        except GraphError as error:
            refused += 1
            assert error.where.startswith("line ")
        else:
            violations(graph)  # a parsed graph may be wrong, but can always be examined
            print_graph(graph)
    assert refused > 500


def test_every_prefix_is_refused_and_says_where() -> None:
    text = print_graph(decoder())
    for end in range(len(text) - 2):
        with pytest.raises(GraphError) as caught:
            parse_graph(text[:end])
        assert caught.value.where.startswith("line ")
