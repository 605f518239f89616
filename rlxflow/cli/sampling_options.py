"""What `generate` and `chat` share: sampling options, a run, and its timings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rlxflow.cli import console

if TYPE_CHECKING:
    from rlxflow.runtime.continuation import Generation
    from rlxflow.runtime.generate import Run
    from rlxflow.runtime.model import Model
    from rlxflow.runtime.prompt_cache import PromptCache
    from rlxflow.runtime.request import Prompt


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
    group.add_argument(
        "--speculate", metavar="HOW", help="prompt-lookup: guess tokens that the text already has"
    )


def start_run(
    model: Model, prompts: Sequence[Prompt], args: argparse.Namespace, cache: PromptCache | None = None
) -> Run:
    """Checked requests, as `Model.generate` makes them."""
    from rlxflow.runtime.generate import Run
    from rlxflow.runtime.request import Request

    requests = [
        Request(
            prompt,
            max_new_tokens=args.max_new_tokens,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            min_p=args.min_p,
            repetition_penalty=args.repetition_penalty,
            stop=tuple(args.stop),
            seed=args.seed,
        )
        for prompt in prompts
    ]
    return Run(model, requests, cache, args.speculate)


def generation_dict(done: Generation) -> dict[str, Any]:
    """A generation as JSON-able data."""
    return {
        **asdict(done),
        "token_ids": list(done.token_ids),
        "prefill_tokens_per_second": done.prefill_tokens_per_second,
        "tokens_per_second": done.decode_tokens_per_second,
    }


def note_timings(done: Generation) -> None:
    """One line on stderr: what was read and written, and how fast."""
    parts = [f"{done.prompt_tokens} prompt tokens"]
    if done.reused_tokens:
        parts.append(f"{done.reused_tokens} of them from the cache")
    if (speed := done.prefill_tokens_per_second) is not None:
        parts.append(f"first token after {done.prefill_seconds:.2f} s ({speed:.1f} tokens/s)")
    speed = done.decode_tokens_per_second
    parts.append(f"{len(done.token_ids)} tokens" + ("" if speed is None else f" at {speed:.1f} tokens/s"))
    if done.drafted_tokens:
        parts.append(f"{done.accepted_tokens} of {done.drafted_tokens} guesses right")
    console.note(", ".join(parts) + f", ended by {done.finish_reason}")
