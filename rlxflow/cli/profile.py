"""Show, check and list compile profiles.

show: every value with its origin, and what the profile trades. check: each profile is valid. list: the
presets. schema: the JSON schema, for editors.
"""

from __future__ import annotations

import argparse

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK, USAGE
from rlxflow.cli.options import chosen_profile
from rlxflow.errors import InputError, ProfileError

ACTIONS = ("show", "check", "list", "schema")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument(
        "profiles", nargs="*", default=[], metavar="NAME|PATH", help="a preset or a *.rlx.toml file"
    )


def run(args: argparse.Namespace) -> int:
    from rlxflow.profile import profile_schema

    wanted = args.profiles or ([args.profile_name] if args.profile_name else [])
    if args.action in ("show", "check") and not wanted:
        message, where = "which profile?", f"rlxflow profile {args.action}"
        raise InputError(message, code="RLX-R060", where=where, hint="name a preset or a *.rlx.toml file")
    if args.action == "show":
        return _show(wanted, args)
    if args.action == "check":
        return _check(wanted, args)
    if args.action == "list":
        from rlxflow.inspect.catalog import presets

        console.print_table(presets(), as_json=args.json)
        return OK
    console.print_json(profile_schema())
    return OK


def _show(names: list[str], args: argparse.Namespace) -> int:
    from rlxflow.profile import effective_dict, effective_text

    for name in names:
        profile = chosen_profile(args, name)
        assert profile is not None  # it was named
        if args.json:
            console.print_json(effective_dict(profile))
        else:
            print(effective_text(profile))
    return OK


def _check(names: list[str], args: argparse.Namespace) -> int:
    results: list[dict[str, object]] = []
    code = OK
    for name in names:
        try:
            profile = chosen_profile(args, name)
            assert profile is not None  # it was named
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
