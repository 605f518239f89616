"""Show what fusion does to a model and why not more, from headers only (but for --bisect, which runs it)."""

from __future__ import annotations

import argparse
import difflib
from dataclasses import asdict
from typing import TYPE_CHECKING

from rlxflow.cli import console
from rlxflow.cli.exit_codes import FAILURE, OK
from rlxflow.cli.options import add_model, chosen_profile
from rlxflow.errors import InputError

if TYPE_CHECKING:
    from rlxflow.flow.built import BuiltModel
    from rlxflow.fusion.pipeline import Optimized
    from rlxflow.ir.graph import Graph

VERIFY_TOLERANCE = 1e-10  # float64
WITHOUT = {"diff": ("rule",), "bisect": ("rule", "output", "fuse_limit")}  # what means nothing beside them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="sequences of a call (default 1)")
    parser.add_argument("--seq", type=int, default=32, metavar="S", help="tokens per sequence (default 32)")
    parser.add_argument("--rule", metavar="RULE", help="this rule only, with all its near misses")
    parser.add_argument("--output", action="append", metavar="NAME", help="compile for this output only")
    parser.add_argument("--fuse-limit", type=int, metavar="N", help="make at most N rewrites")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--diff", action="store_true", help="the graph before and after each pass")
    shown.add_argument(
        "--verify", action="store_true", help="run each rewrite on random numbers, on the reference backend"
    )
    shown.add_argument(
        "--bisect", action="store_true", help="find the first rewrite that changes numbers there"
    )


def run(args: argparse.Namespace) -> int:
    from rlxflow.inspect.examine import examine
    from rlxflow.runtime.compile import explain

    _check_options(args)
    profile = chosen_profile(args)
    model = examine(args.path, profile, args.recipe)
    if model.built is None:
        raise next(iter(model.errors.values()))
    if args.bisect:
        return _bisect(args, model.built)
    diffs: dict[str, str] = {}

    def keep(name: str, before: Graph, after: Graph) -> None:
        if args.diff and after is not before:
            diffs[f"{len(diffs)}:{name}"] = _diff(name, before, after)

    optimized = explain(
        model.built, args.batch, args.seq, None, args.output, limit=args.fuse_limit, on_pass=keep
    )
    report = optimized.report
    if args.rule is not None:
        report.rule(args.rule)  # which says what rules there are
    if args.verify:
        return _verify(args, optimized)
    if args.json:
        console.print_json({**report.as_dict(), **({"diffs": diffs} if args.diff else {})})
    elif args.diff:
        print("\n".join(diffs.values()))
    else:
        from rlxflow.fusion.report_text import report_text

        print(report_text(report, args.rule))
    return OK


def _check_options(args: argparse.Namespace) -> None:
    for chosen, unused in WITHOUT.items():
        for name in unused:
            if getattr(args, chosen) and getattr(args, name) is not None:
                message = f"--{name.replace('_', '-')} means nothing beside --{chosen}"
                raise InputError(message, code="RLX-R060", where="rlxflow explain", hint="leave it out")
    if args.fuse_limit is not None and args.fuse_limit < 0:
        raise InputError(f"--fuse-limit is {args.fuse_limit}", code="RLX-R070", hint="give 0 or more")


def _diff(name: str, before: Graph, after: Graph) -> str:
    lines = difflib.unified_diff(
        str(before).splitlines(), str(after).splitlines(), f"before {name}", f"after {name}", lineterm="", n=1
    )
    return "\n".join(lines)


def _verify(args: argparse.Namespace, optimized: Optimized) -> int:
    from rlxflow.runtime.verify_fusion import verify_rewrites

    results = [r for r in optimized.results if args.rule in (None, r.rule.name)]
    found = verify_rewrites(results)
    good = all(v.error <= VERIFY_TOLERANCE for v in found)
    if args.json:
        console.print_json({"ok": good, "tolerance": VERIFY_TOLERANCE, "rules": [asdict(v) for v in found]})
        return OK if good else FAILURE
    if not found:
        print("no rewrite was made, so there is nothing to verify")
        return OK
    width = max((len(v.rule) for v in found), default=4)
    print(f"{'rule':<{width}}  rewrites  tried  error    worst at")
    for v in found:
        verdict = "" if v.error <= VERIFY_TOLERANCE else "  WRONG"
        print(f"{v.rule:<{width}}  {v.rewrites:>8}  {v.tried:>5}  {v.error:.1e}  {v.where}{verdict}")
    print("every rewrite agrees in float64" if good else f"errors above {VERIFY_TOLERANCE:g}")
    return OK if good else FAILURE


def _bisect(args: argparse.Namespace, built: BuiltModel) -> int:
    from rlxflow.runtime.bisect_fusion import bisect

    blame = bisect(built, args.batch, args.seq)
    if args.json:
        console.print_json({"ok": blame is None, "blame": asdict(blame) if blame else None})
    elif blame is None:
        print("no rewrite changes the numbers")
    else:
        print(f"rewrite {blame.number} of {blame.of}: {blame.rule} at {blame.where}, error {blame.error:.1e}")
        print(f"see it with --fuse-limit {blame.number} --diff")
    return OK if blame is None else FAILURE
