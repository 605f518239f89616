"""embed, generate and chat: what is printed is what the library computes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import goldens
import numpy as np
import pytest
import real_models
from cli_models import CHAT_TEMPLATE, Result, run_process

import rlxflow
from rlxflow.cli import console
from rlxflow.runtime.generate import Run

Cli = Callable[..., Result]
TEXTS = ["the cat sat on the mat", "a dog", "the rug is very small"]


def _vectors(path: str) -> np.ndarray:
    return rlxflow.load(path).embed(TEXTS)


def test_embed_prints_one_vector_per_line(cli: Cli, bert: str) -> None:
    shown = cli("embed", bert, *TEXTS)
    assert (shown.code, shown.err) == (0, "")
    rows = [json.loads(line) for line in shown.out.splitlines()]
    np.testing.assert_array_equal(np.array(rows, np.float32), _vectors(bert))


def test_embed_reads_lines_of_stdin(bert: str) -> None:
    done = run_process("embed", bert, input="\r\n".join(TEXTS).encode())
    assert (done.returncode, done.stderr) == (0, b"")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    np.testing.assert_array_equal(np.array(rows, np.float32), _vectors(bert))


def test_embed_tells_which_texts_it_cuts(cli: Cli, bert: str) -> None:
    argv = ("embed", bert, "a cat", "a " * 17, "a " * 16, "a " * 1000)
    shown = cli(*argv, "--json")
    assert shown.code == 0
    assert shown.err == "texts cut at the model's 16 tokens: 2 of 4\n"
    assert shown.data["truncated"] == [1, 3]
    assert cli(*argv, "--quiet").err == ""


def test_embed_names_the_line_that_is_not_utf_8(bert: str) -> None:
    done = run_process("embed", bert, input=b"fine\ncaf\xe9\n")
    assert done.returncode == 2 and not done.stdout
    assert b"0xe9" in done.stderr and b"texts[1]" in done.stderr and b"iconv" in done.stderr


def test_embed_nothing(bert: str) -> None:
    for extra in ((), ("--similarity",), ("--json",)):
        assert run_process("embed", bert, *extra, input=b"").returncode == 0


def test_embed_wants_texts_on_a_terminal(cli: Cli, bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    shown = cli("embed", bert)
    assert shown.code == 2
    assert "there are no texts" in shown.err


def test_embed_json_has_stable_keys(cli: Cli, bert: str) -> None:
    data = cli("embed", bert, *TEXTS, "--json", "--similarity").data
    assert list(data) == [
        *("model", "texts", "truncated", "dimensions", "seconds", "out", "embeddings", "similarity")
    ]
    assert data["truncated"] == []
    vectors = np.array(data["embeddings"], np.float32)
    np.testing.assert_array_equal(vectors, _vectors(bert))
    np.testing.assert_allclose(data["similarity"], vectors @ vectors.T, atol=1e-6)


def test_embed_writes_npy_whole_or_not_at_all(cli: Cli, bert: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    path.write_text("old")
    assert cli("embed", bert, *TEXTS, "--out", str(path), "--json").data["embeddings"] is None
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), _vectors(bert))  # noqa: TID251
    assert os.listdir(tmp_path) == ["vectors.npy"]  # noqa: PTH208
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert cli("embed", bert, "a", "--out", str(tmp_path)).code == 1


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def test_similarity_is_readable(cli: Cli, bert: str) -> None:
    lines = cli("embed", bert, *TEXTS, "--similarity").out.splitlines()
    assert lines[0].split() == ["1", "2", "3"]
    vectors = _vectors(bert)
    for i, (line, text) in enumerate(zip(lines[1:], TEXTS, strict=True)):
        assert line.endswith(f"  {text}")
        assert line.split()[: 1 + len(TEXTS)] == [str(i + 1), *(f"{c:.4f}" for c in vectors[i] @ vectors.T)]


def test_normalize_switches(cli: Cli, bert: str) -> None:
    def length(*options: str) -> float:
        return float(np.linalg.norm(cli("embed", bert, "a cat", "--json", *options).data["embeddings"][0]))

    assert length() == pytest.approx(1, abs=1e-6)
    assert length("--normalize") == pytest.approx(1, abs=1e-6)
    assert abs(length("--no-normalize") - 1) > 0.01


def test_generate_streams_the_completion(cli: Cli, llama: str) -> None:
    expected = rlxflow.load(llama).generate("the cat", max_new_tokens=8)
    shown = cli("generate", llama, "the cat", "--max-new-tokens", "8")
    assert (shown.code, shown.out) == (0, expected.text + "\n")
    for part in ("2 prompt tokens, first token after", "8 tokens at", "tokens/s, ended by length\n"):
        assert part in shown.err
    assert cli("generate", llama, "the cat", "--max-new-tokens", "8", "-q").err == ""


def test_generate_takes_several_prompts(cli: Cli, llama: str) -> None:
    model = rlxflow.load(llama)
    expected = [model.generate(p, max_new_tokens=5).text for p in ("the cat", "a dog sat")]
    shown = cli("generate", llama, "the cat", "a dog sat", "--max-new-tokens", "5")
    assert shown.out == "".join(f"{text}\n\n" for text in expected)
    assert len(shown.err.splitlines()) == 2
    data = cli("generate", llama, "the cat", "a dog sat", "--max-new-tokens", "5", "--json").data
    assert [d["text"] for d in data] == expected


def test_generate_speculates(cli: Cli, llama: str) -> None:
    plain = cli("generate", llama, "the cat", "--max-new-tokens", "40", "--json").data
    data = cli(
        "generate", llama, "the cat", "--max-new-tokens", "40", "--speculate", "prompt-lookup", "--json"
    ).data
    assert data["token_ids"] == plain["token_ids"]
    assert 0 <= data["accepted_tokens"] <= data["drafted_tokens"] > 0
    shown = cli("generate", llama, "the cat", "--speculate", "prompt-lok")
    assert shown.code == 2
    assert "prompt-lookup" in shown.err


def test_generate_json_has_stable_keys(cli: Cli, llama: str) -> None:
    expected = rlxflow.load(llama).generate("the cat", max_new_tokens=8, temperature=0.9, top_k=20, seed=3)
    sampling = ("--temperature", "0.9", "--top-k", "20", "--seed", "3")
    data = cli("generate", llama, "the cat", "--max-new-tokens", "8", *sampling, "--json").data
    assert list(data) == [
        *("text", "token_ids", "finish_reason", "prompt_tokens", "reused_tokens", "prefill_seconds"),
        *("decode_seconds", "drafted_tokens", "accepted_tokens", "prefill_tokens_per_second"),
        "tokens_per_second",
    ]
    assert (data["text"], data["token_ids"]) == (expected.text, list(expected.token_ids))
    assert (data["finish_reason"], data["prompt_tokens"]) == ("length", 2)


def test_generate_options_reach_the_sampler(cli: Cli, llama: str) -> None:
    options = {"top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3, "temperature": 1.5, "seed": 1}
    expected = rlxflow.load(llama).generate("a", max_new_tokens=12, **options)
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    data = cli("generate", llama, "a", "--max-new-tokens", "12", *flags, "--json").data
    assert data["token_ids"] == list(expected.token_ids)
    word = expected.text.split()[1]
    stopped = cli("generate", llama, "a", "--max-new-tokens", "12", *flags, "--stop", word, "--json").data
    assert stopped["finish_reason"] == "stop"
    assert word not in stopped["text"]


def test_a_prompt_may_begin_with_a_dash(cli: Cli, llama: str) -> None:
    assert cli("generate", llama, "--max-new-tokens", "2", "--", "-the cat").code == 0


def test_verbose_tells_what_was_loaded_and_times(cli: Cli, llama: str, bert: str) -> None:
    shown = cli("generate", llama, "the cat", "--max-new-tokens", "4", "-v")
    assert "weights" in shown.err
    assert "texts/s" in cli("embed", bert, "a", "-v").err


def test_what_a_profile_trades_is_said(cli: Cli, llama: str) -> None:
    argv = ("generate", llama, "a", "--max-new-tokens", "1", "--set", "precision.kv_cache=f16")
    assert "cached in f16" in cli(*argv).err
    assert cli(*argv, "--quiet").err == ""


def test_control_characters_are_shown_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "a\x1b[31mred\r\n\tb é"
    console.write(text)
    assert capsys.readouterr().out == text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    console.write(text)
    assert capsys.readouterr().out == "a\\x1b[31mred\\r\n\tb é"


def test_chat_answers_each_line(cli: Cli, llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = rlxflow.load(llama)
    system = {"role": "system", "content": "is small"}
    asked = [system, {"role": "user", "content": "a cat"}]
    first = model.generate(asked, max_new_tokens=5)
    asked += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "the dog"}]
    second = model.generate(asked, max_new_tokens=5)
    afresh = model.generate([system, {"role": "user", "content": "the dog"}], max_new_tokens=5)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a cat\n\nthe dog\n/reset\nthe dog\n/exit\nnever\n"))
    shown = cli("chat", llama, "--system", "is small", "--max-new-tokens", "5", "--json")
    answers = [json.loads(line) for line in shown.out.splitlines()]
    assert [a["token_ids"] for a in answers] == [list(g.token_ids) for g in (first, second, afresh)]
    assert afresh.token_ids != second.token_ids
    assert answers[0]["reused_tokens"] == 0 < answers[1]["reused_tokens"]  # the first turn is not read again


def test_chat_goes_on_after_a_message_that_fails(
    cli: Cli, llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a " * 200 + "\na cat\n"))
    shown = cli("chat", llama, "--max-new-tokens", "3")
    assert shown.code == 0
    assert shown.err.startswith("RLX-R026")
    assert "ended by" in shown.err
    assert len(shown.out.splitlines()) == 1
    monkeypatch.setattr(sys, "stdin", io.StringIO("a " * 200))
    assert cli("chat", llama, "--max-new-tokens", "3").code == 2


def test_chat_without_template_says_so_at_once(
    cli: Cli, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (damaged / "tokenizer_config.json").write_text("{}")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    shown = cli("chat", str(damaged))
    assert shown.code == 4
    assert shown.err.startswith("RLX-T030")
    assert CHAT_TEMPLATE not in shown.err


class Terminal:
    """`rlxflow` on a pseudo-terminal."""

    def __init__(self, *argv: str) -> None:
        self.master, slave = pty.openpty()
        env = {**os.environ, "TERM": "dumb"}
        program = [sys.executable, "-m", "rlxflow", *argv]
        self.process = subprocess.Popen(program, stdin=slave, stdout=slave, stderr=slave, env=env)
        os.close(slave)
        self.seen = ""

    def wait_for(self, text: str, seconds: float = 120) -> str:
        """What is printed until `text` comes, which is taken off."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} did not come: {self.seen!r}"
            self.seen += os.read(self.master, 4096).decode()
        before, self.seen = self.seen.split(text, 1)
        return before

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C until it ends: one that comes just before readline waits is seen after the next key."""
        for _ in range(30):
            if self.process.poll() is not None:
                return
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=2)

    def close(self) -> int:
        try:
            return self.process.wait(timeout=120)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.master)


def test_chat_on_a_terminal(llama: str) -> None:
    terminal = Terminal("chat", llama, "--max-new-tokens", "4")
    assert "/exit ends" in terminal.wait_for("> ")
    terminal.type("a cat\n")
    answer, note = terminal.wait_for("\n> ").split("a cat", 1)[1].strip().splitlines()
    assert note.endswith("ended by length")
    expected = rlxflow.load(llama).generate([{"role": "user", "content": "a cat"}], max_new_tokens=4)
    assert answer == expected.text.strip()
    terminal.type("/exit\n")
    assert terminal.close() == 0


def test_interrupt_at_the_prompt_ends_the_chat(llama: str) -> None:
    terminal = Terminal("chat", llama)
    terminal.wait_for("> ")
    terminal.interrupt()
    assert terminal.close() == 130
    assert "Traceback" not in terminal.seen


@pytest.mark.parametrize("on_terminal", [True, False])
def test_interrupt_stops_an_answer(
    cli: Cli, llama: str, monkeypatch: pytest.MonkeyPatch, on_terminal: bool
) -> None:
    """On a terminal the chat goes on, with what was said so far; from a pipe it ends."""
    pieces, prompts = Run.pieces, []

    def interrupted(run: Run) -> Iterator[tuple[int, str]]:
        prompts.append(run.continuations[0].ids.copy())
        for piece in pieces(run):
            yield piece
            if len(prompts) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(Run, "pieces", interrupted)
    stdin = io.StringIO("a cat\nthe dog\n")
    monkeypatch.setattr(stdin, "isatty", lambda: on_terminal, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)
    shown = cli("chat", llama, "--max-new-tokens", "3", "--quiet")
    assert shown.code == (0 if on_terminal else 130)
    assert len(prompts) == (2 if on_terminal else 1)
    if on_terminal:
        assert len(prompts[1]) > 2 * len(prompts[0])  # the first turn is in the second's prompt


def test_minilm(cli: Cli) -> None:
    golden = goldens.minilm()
    texts = [text for text in golden.texts if text.strip()][:3]
    shown = cli("embed", str(real_models.minilm()), "--", *texts)
    rows = [json.loads(line) for line in shown.out.splitlines()]
    wanted = [golden.embeddings[golden.texts.index(text)] for text in texts]
    np.testing.assert_allclose(rows, wanted, atol=1e-5)


def test_smollm2(cli: Cli) -> None:
    golden = goldens.smollm2_prompts()[0]
    shown = cli("generate", str(real_models.smollm2()), "--max-new-tokens", "6", "--json", "--", golden.text)
    assert shown.data["token_ids"] == golden.greedy[:6]
