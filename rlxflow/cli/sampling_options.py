"""What `generate` and `chat` share: sampling options, a run, and its timings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlxflow.cli import console
from rlxflow.errors import InputError

if TYPE_CHECKING:
    from rlxflow.runtime.generate import Run
    from rlxflow.runtime.model import Model


def add_sampling(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument("--max-new-tokens", type=int, default=256, metavar="N")
    group.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 (default): greedy")
    group.add_argument("--top-k", type=int, default=0, metavar="K", help="0: all tokens")
    group.add_argument("--top-p", type=float, default=1.0, metavar="P")
    group.add_argument("--min-p", type=float, default=0.0, metavar="P")
    group.add_argument("--repetition-penalty", type=float, default=1.0, metavar="R")
    group.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end here; may be repeated"
    )
    group.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same draws")


def start_run(model: Model, prompt: str | Sequence[Mapping[str, Any]], args: argparse.Namespace) -> Run:
    """A checked request, as `Model.generate` makes it; it also tells tokens and times while it streams."""
    from rlxflow.runtime.generate import start
    from rlxflow.runtime.sampling import Sampler

    if not model.is_decoder:
        hint = "use `rlxflow embed`"
        raise InputError("this model does not generate text", code="RLX-R020", where=model.name, hint=hint)
    sampler = Sampler(
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        repetition_penalty=args.repetition_penalty,
        seed=args.seed,
    )
    return start(model, prompt, args.max_new_tokens, sampler, tuple(args.stop))


def run_dict(run: Run, text: str) -> dict[str, Any]:
    """A finished run as JSON-able data."""
    return {
        "text": text,
        "token_ids": list(run.token_ids),
        "finish_reason": run.finish_reason,
        "prompt_tokens": len(run.prompt_ids),
        "prefill_seconds": run.prefill_seconds,
        "decode_seconds": run.decode_seconds,
        "tokens_per_second": tokens_per_second(run),
    }


def tokens_per_second(run: Run) -> float | None:
    """Speed after the first token; None where there is no second one."""
    count = len(run.token_ids) - 1
    return count / run.decode_seconds if count > 0 and run.decode_seconds > 0 else None


def note_timings(run: Run) -> None:
    speed = tokens_per_second(run)
    decoding = "" if speed is None else f", then {speed:.1f} tokens/s"
    console.note(
        f"{len(run.prompt_ids)} prompt tokens, first token after {run.prefill_seconds:.2f} s, "
        f"{len(run.token_ids)} tokens{decoding}, ended by {run.finish_reason}"
    )
