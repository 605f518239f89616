"""Options that several commands take, and the model and profile they mean."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from rlxflow.cli import console
from rlxflow.errors import InputError, nearest

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile
    from rlxflow.runtime.model import Model


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `InputError`s (R060)."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise InputError(message, code="RLX-R060", where=self.prog, hint=self._hint(message))

    def refuse_others(self, found: argparse.Namespace) -> None:
        """Raise `InputError` for options before the command that the command does not take."""
        known = {action.dest for action in self._actions}
        for name in ("recipe", "profile", "set"):
            if getattr(found, name) is not None and name not in known:
                message = f"this command takes no --{name}"
                raise InputError(message, code="RLX-R060", where=self.prog, hint="leave it out")

    def _hint(self, message: str) -> str:
        known = [
            name for action in self._actions for name in (*action.option_strings, *(action.choices or ()))
        ]
        if "required" in message:
            missing = message.split("required: ")[-1].split(", ")
            wanted = [f"{a.metavar}: {a.help}" for a in self._actions if a.metavar in missing]
            return "; ".join(wanted) or f"see `{self.prog} --help`"
        wrong = message.replace("'", " ").split("choose from")[0].split(":")[-1].split()
        guesses = [nearest(word, known) for word in wrong if word not in known]
        return next(filter(None, guesses), f"see `{self.prog} --help`")


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options of every command."""
    group = parser.add_argument_group("options of every command")
    group.add_argument("--json", action="store_true", help="results as JSON")
    group.add_argument("--quiet", "-q", action="store_true", help="no notes and no progress bar")
    group.add_argument(
        "--verbose", "-v", action="count", default=0, help="timings and reports; -vv: tracebacks"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """A model's path, and how it is read and compiled."""
    parser.add_argument("path", metavar="PATH", help="a model directory, a weights file or a hub id")
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """A model's recipe and profile."""
    parser.add_argument("--recipe", metavar="NAME", help="use this recipe, whatever the config says")
    parser.add_argument(
        "--profile",
        metavar="NAME|PATH",
        help="a preset or a *.rlx.toml file (default: exact; encoder and decode are faster)",
    )
    add_set(parser)


def add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", metavar="SECTION.KEY=VALUE", help="override a profile key; may be repeated"
    )


def chosen_profile(args: argparse.Namespace) -> CompileProfile | None:
    """The profile that --profile and --set mean; None where neither is given."""
    from rlxflow.profile import load_profile

    if args.profile is None and not args.set:
        return None
    return load_profile(args.profile or "exact", args.set or ())


def add_trace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trace", metavar="FILE.json", help="time every step of every call, for chrome://tracing or Perfetto"
    )


def load_model(args: argparse.Namespace) -> Model:
    """The model at `args.path`. Says on stderr what its profile trades, and with -v what was loaded.

    With --trace its program is compiled to time its steps.
    """
    from rlxflow.runtime.load import load
    from rlxflow.runtime.whole_file import want_place

    if getattr(args, "trace", None) is not None:
        want_place(args.trace)
    progress = False if args.quiet else None
    chosen = chosen_profile(args)
    model = load(args.path, chosen, args.recipe, progress)
    if not args.quiet:
        profile = chosen or model.profile
        for trade in profile.trades():
            console.note(f"profile {profile.source or 'overrides'} trades: {trade}")
    if args.verbose:
        console.note(str(model.report))
    if getattr(args, "trace", None) is not None:
        from rlxflow.inspect.trace import traced_model

        return traced_model(model)
    return model


def save_trace(args: argparse.Namespace, model: Model) -> None:
    """Write what --trace asked for."""
    if args.trace is not None:
        from rlxflow.inspect.trace import write_trace

        count = write_trace(model, args.trace)
        if not args.quiet:
            console.note(f"{count} events in {args.trace}")
