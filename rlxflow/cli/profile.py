"""Show, check and list compile profiles.

show: every value with its origin, and what the profile trades. check: each profile is valid. list: the
presets. schema: the JSON schema, for editors.
"""

from __future__ import annotations

import argparse

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK, USAGE
from rlxflow.cli.options import add_set
from rlxflow.errors import InputError, ProfileError

ACTIONS = ("show", "check", "list", "schema")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument(
        "profiles",
        nargs="*",
        default=[],
        metavar="NAME|PATH",
        help="for show and check: a preset or a *.rlx.toml file",
    )
    add_set(parser)


def run(args: argparse.Namespace) -> int:
    where = f"rlxflow profile {args.action}"
    if args.action in ("show", "check"):
        if not args.profiles:
            hint = "name a preset or a *.rlx.toml file"
            raise InputError("which profile?", code="RLX-R060", where=where, hint=hint)
        return _show(args) if args.action == "show" else _check(args)
    if args.profiles or args.set:
        hint = f"leave them out, or write `rlxflow profile show {' '.join(args.profiles) or 'NAME'}`"
        raise InputError("profiles and --set mean nothing here", code="RLX-R060", where=where, hint=hint)
    if args.action == "list":
        from rlxflow.inspect.catalog import presets

        console.print_table(presets(), as_json=args.json)
    else:
        from rlxflow.profile import profile_schema

        console.print_json(profile_schema())
    return OK


def _show(args: argparse.Namespace) -> int:
    from rlxflow.profile import effective_dict, effective_text, load_profile

    for name in args.profiles:
        profile = load_profile(name, args.set or ())
        if args.json:
            console.print_json(effective_dict(profile))
        else:
            print(effective_text(profile))
    return OK


def _check(args: argparse.Namespace) -> int:
    from rlxflow.profile import load_profile

    results: list[dict[str, object]] = []
    code = OK
    for name in args.profiles:
        try:
            profile = load_profile(name, args.set or ())
            results.append({"profile": name, "ok": True, "hash": profile.hash(), "error": None})
            if not args.json:
                print(f"ok      {name}")
        except ProfileError as error:
            code = USAGE
            results.append({"profile": name, "ok": False, "hash": None, "error": error.as_dict()})
            console.note(str(error))
            if not args.json:
                print(f"failed  {name}")
    if args.json:
        console.print_json(results)
    return code
