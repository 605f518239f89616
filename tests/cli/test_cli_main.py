"""The frame of the command line: help, options, exit codes, errors, and odd terminals."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_models import Result, run_process
from model_files import write_json
from safetensors.numpy import load_file, save_file

from rlxflow.cli import doctor
from rlxflow.cli.main import COMMANDS, main
from rlxflow.codes import CODES

Cli = Callable[..., Result]


WITHOUT_MODEL = {"cache", "doctor", "dump-activations", "list", "profile"}


def test_help_names_every_command(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.code == 0
    for name, what in COMMANDS.items():
        assert f"{name} " in shown.out
        assert what in shown.out
        helped = cli(name, "--help")
        assert helped.code == 0
        assert "--json" in helped.out
        assert ("--profile" in helped.out) == (name not in WITHOUT_MODEL), name
        assert ("--set" in helped.out) == (name == "profile" or name not in WITHOUT_MODEL), name


def test_version(cli: Cli) -> None:
    assert cli("--version").out.startswith("rlxflow 0.")


def test_no_command_shows_help_and_fails(cli: Cli) -> None:
    shown = cli()
    assert (shown.code, shown.out) == (2, "")
    assert "commands:" in shown.err


@pytest.mark.parametrize(
    "argv",
    [
        ("--json", "--set", "fusion.policy=fusable", "profile", "show", "exact", "--set", "passes.dce=false"),
        ("profile", "show", "exact", "--json", "--set", "fusion.policy=fusable", "--set", "passes.dce=false"),
    ],
)
def test_options_stand_before_or_after_the_command(cli: Cli, argv: tuple[str, ...]) -> None:
    values = cli(*argv).data["values"]
    assert values["fusion.policy"]["value"] == "fusable"
    assert values["passes.dce"]["value"] is False


USAGE = [
    (("inspct",), "did you mean 'inspect'?"),
    (("inspect", "x", "--jsn"), "did you mean '--json'?"),
    (("inspect",), "PATH: a model directory"),
    (("list",), "KIND: recipes, stages"),
    (("build", "lama"), "did you mean 'llama'?"),
    (("generate", "x", "y", "--top-k", "many"), "`rlxflow generate --help`"),
    (("profile", "shwo", "exact"), "did you mean 'show'?"),
    (("list", "stage"), "did you mean 'stages'?"),
    (("profile", "show"), "name a preset"),
    (("profile", "list", "exact"), "`rlxflow profile show exact`"),
    (("list", "ops", "--profile", "decode"), "`rlxflow list --help`"),
    (("--profile", "decode", "list", "ops"), "leave it out"),
    (("--set", "passes.dce=false", "doctor"), "leave it out"),
]


@pytest.mark.parametrize(("argv", "hint"), USAGE, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_usage_errors(cli: Cli, argv: tuple[str, ...], hint: str) -> None:
    shown = cli(*argv)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith("RLX-R060")
    assert hint in shown.err


BAD_PROFILES = [
    (("--profile", "exat"), "RLX-P008"),
    (("--profile", "no/such.rlx.toml"), "RLX-P001"),
    (("--set", "fusion.polcy=direct"), "RLX-P003"),
    (("--set", "nonsense"), "RLX-P009"),
    (("--set", "fusion.skip=maybe"), "RLX-P004"),
    (("--set", "fusion=direct"), "RLX-P004"),
]


@pytest.mark.parametrize(("options", "code"), BAD_PROFILES, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("command", ["inspect", "check", "build", "generate"])
def test_bad_profiles_exit_2(cli: Cli, llama: str, command: str, options: tuple[str, ...], code: str) -> None:
    shown = cli(command, llama, *(["a cat"] if command == "generate" else []), *options)
    assert shown.code == 2
    assert shown.err.startswith(code)
    assert "\n  try  " in shown.err


def _no_path(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink()
    folder.rmdir()


def _wrong_key(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.gate.weight"] = tensors.pop("model.layers.0.mlp.gate_proj.weight")
    save_file(tensors, folder / "model.safetensors")


def _wrong_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = np.ones(5, np.float32)
    save_file(tensors, folder / "model.safetensors")


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def _config(**changed: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        write_json(path, {**json.loads(path.read_text()), **changed})

    return change


def _file(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def _pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


DAMAGES = [
    (_no_path, 3, "RLX-W001"),
    (_wrong_key, 3, "RLX-W033"),
    (_wrong_shape, 3, "RLX-W034"),
    (_truncated, 3, "RLX-W017"),
    (_file("config.json", "{"), 3, "RLX-C024"),
    (lambda folder: (folder / "config.json").unlink(), 3, "RLX-C022"),
    (_config(hidden_size="many"), 3, "RLX-C004"),
    (_file("tokenizer.json", "{}"), 3, "RLX-T002"),
    (_pickle_only, 4, "RLX-W030"),
    (_config(model_type="lama"), 4, "RLX-C001"),
    (_config(brand_new_switch=True), 4, "RLX-C003"),
    (_config(hidden_act="wobble"), 4, "RLX-C005"),
]


@pytest.mark.parametrize(("damage", "exit_code", "code"), DAMAGES, ids=[f"{d[2]}" for d in DAMAGES])
@pytest.mark.parametrize("command", ["generate", "check"])
def test_exit_codes_of_bad_models(
    cli: Cli, damaged: Path, command: str, damage: Callable[[Path], None], exit_code: int, code: str
) -> None:
    damage(damaged)
    argv = (command, str(damaged), *(["the cat"] if command == "generate" else []))
    shown = cli(*argv)
    assert shown.code == exit_code
    first, *_ = [line for line in shown.err.splitlines() if line.startswith("RLX-")]
    assert first.startswith(code)
    assert "\n  try  " in shown.err
    assert "Traceback" not in shown.err
    as_json = cli(*argv, "--json")
    assert as_json.code == exit_code
    parts = as_json.data.get("parts")
    errors = [as_json.data] if parts is None else [part["error"] for part in parts]
    error, *_ = filter(None, errors)
    assert list(error) == ["error", "code", "message", "where", "hint", "details"]
    assert error["code"] == code


WRONG_CALLS = [
    (("generate", "BERT", "a"), 4, "RLX-R020"),
    (("chat", "BERT"), 4, "RLX-R020"),
    (("embed", "LLAMA", "a"), 4, "RLX-R021"),
    (("generate", "LLAMA", ""), 2, "RLX-R027"),
    (("generate", "LLAMA", "a", "--temperature", "-1"), 2, "RLX-R030"),
    (("generate", "LLAMA", "a", "--max-new-tokens", "-1"), 2, "RLX-R024"),
    (("generate", "LLAMA", "a " * 100), 2, "RLX-R026"),
    (("embed", "BERT", "a", "--batch-size", "0"), 2, "RLX-R022"),
    (("embed", "BERT", "half \ud800 a pair"), 2, "RLX-T010"),
    (("explain", "BERT", "--batch", "9" * 20), 2, "RLX-R070"),
    (("bench", "BERT", "0x4"), 2, "RLX-R070"),
    (("bench", "BERT", "1x999999"), 2, "RLX-R016"),
    (("bench", "LLAMA", "1x64"), 2, "RLX-R016"),
    (("embed", "BERT", "a", "--set", "backend.cpu.threads=" + "9" * 20), 2, "RLX-P004"),
    (("embed", "BERT", "a", "--out", "no/such/folder.npy"), 1, "RLX-R061"),
    (("embed", "BERT", "a", "--out", "."), 1, "RLX-R061"),
]


@pytest.mark.parametrize(
    ("argv", "exit_code", "code"), WRONG_CALLS, ids=[f"{c[2]}-{c[0][0]}" for c in WRONG_CALLS]
)
def test_exit_codes_of_wrong_calls(
    cli: Cli, bert: str, llama: str, argv: tuple[str, ...], exit_code: int, code: str
) -> None:
    shown = cli(*({"BERT": bert, "LLAMA": llama}.get(arg, arg) for arg in argv))
    assert (shown.code, shown.out) == (exit_code, "")
    assert shown.err.startswith(code) and "\n  at   " in shown.err and "\n  try  " in shown.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyError("x"), "RLX-R063"), (MemoryError(), "RLX-R062"), (PermissionError(13, "no"), "RLX-R061")],
)
def test_errors_nobody_raised_on_purpose(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr(doctor, "run", fail)
    shown = cli("doctor", "--json")
    assert (shown.code, shown.data["code"]) == (1, code)
    assert "Traceback" not in shown.err
    assert code in CODES
    assert "Traceback" in cli("doctor", "-vv").err
    assert "Traceback" in cli("-v", "doctor", "-v").err


def test_interrupt_exits_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "run", interrupt)
    shown = cli("doctor")
    assert (shown.code, shown.out, shown.err.strip()) == (130, "", "")


@pytest.mark.parametrize("argv", [("list", "ops"), ("--help",), ("nonsense", "--json")])
def test_a_closed_pipe_is_silent(argv: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_process(*argv, stdout=writer)
    finally:
        os.close(writer)
    assert done.returncode == (2 if argv[0] == "nonsense" else 0)
    assert b"Error" not in done.stderr.replace(b"InputError", b"")
    assert b"Broken" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 (a device)
        done = run_process("list", "ops", stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith(b"RLX-R061")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_is_an_empty_one(
    name: str, bert: str, llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services may start a process without any of the three; Python then has None in their places."""
    for argv in (
        ("embed", bert, "a cat"),
        ("generate", llama, "the cat", "--max-new-tokens=2"),
        ("chat", llama),
    ):
        monkeypatch.setattr(sys, name, None)
        if name != "stdin":
            monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
        assert main([*argv, "--set", "passes.verbose=true"]) == 0
        getattr(sys, name).close()


ODD = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"COLUMNS": "1"},
    {"NO_COLOR": "1", "TERM": "dumb"},
    {"FORCE_COLOR": "1", "COLUMNS": "nonsense"},
]


@pytest.mark.parametrize("environment", ODD, ids=lambda e: next(iter(e)))
def test_odd_terminals(environment: dict[str, str]) -> None:
    for argv in (("list", "stages"), ("embed", "--help")):
        done = run_process(*argv, environment=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout
        assert b"\x1b" not in done.stdout


HEAVY = {"pydantic", "tokenizers", "llvmlite", "safetensors", "gguf", "jinja2", "ml_dtypes", "tqdm", "numpy"}


@pytest.mark.parametrize(
    "code",
    [
        "import rlxflow",
        "import rlxflow.cli.main as m; m.main(['--help'])",
        "import rlxflow.cli.main as m; [m.main([c, '--help']) for c in m.COMMANDS]",
        "import rlxflow.cli.main as m; m.main(['nonsense'])",
    ],
)
def test_starting_imports_nothing_heavy(code: str) -> None:
    program = f"{code}\nimport sys; print('LOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("LOADED")[1].split())
    assert "rlxflow" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("place", ["no/such/folder/x", ".", "pipe", ""])
@pytest.mark.parametrize("argv", [("embed", "--out"), ("embed", "--trace"), ("dump-activations", "--output")])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    cli: Cli, argv: tuple[str, str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is there, a device say, stays what it is: it would be replaced by a file."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    texts = ("a text",) if argv[0] == "embed" else ()
    shown = cli(argv[0], "no-such-model", *texts, argv[1], place)
    assert (shown.code, shown.out) == (1, "") and "RLX-R061" in shown.err
    assert Path("pipe").is_fifo() and [p.name for p in tmp_path.iterdir()] == ["pipe"]
