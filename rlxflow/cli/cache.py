"""List, verify or clear the compiled code and the programs kept on disk.

`list` shows every file, newest first; `verify` fails where one is damaged (such a file is never used, and is
replaced when its code is wanted again); `clear` removes them all.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import datetime

from rlxflow.cli import console
from rlxflow.cli.exit_codes import FAILURE, OK

ACTIONS = ("list", "verify", "clear")
NOWHERE = "no folder that can be used"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=", ".join(ACTIONS))


def run(args: argparse.Namespace) -> int:
    from rlxflow.backends.cpu.object_cache import cache_folder, cached_files, clear_cache

    folder = cache_folder()
    place = None if folder is None else str(folder)
    if args.action == "clear":
        removed = clear_cache()
        if args.json:
            console.print_json({"folder": place, "removed": removed})
        else:
            print(f"{removed} files removed from {place or NOWHERE}")
        return OK
    files = cached_files()
    damaged = [f for f in files if not f.whole]
    if args.json:
        console.print_json({"folder": place, "files": [asdict(f) for f in files]})
    else:
        for f in files if args.action == "list" else damaged:
            changed = datetime.fromtimestamp(f.modified).strftime("%Y-%m-%d %H:%M")
            print(f"{f.name[:12]}  {changed}  {f.size / 1e3:8.1f} kB  {f.about if f.whole else 'damaged'}")
        total = sum(f.size for f in files) / 1e6
        print(f"{len(files)} files, {len(damaged)} damaged, {total:.1f} MB in {place or NOWHERE}")
    return FAILURE if damaged and args.action == "verify" else OK
