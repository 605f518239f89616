"""Where a test names no backend, the reference runs: it needs no compiling.

Compiled code is kept from run to run, apart from the user's, as long as the generator stays as it is. Ctrl-C
is heard also where the tests run in the background of a shell, which has it ignored: some send one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from pathlib import Path

ROOT = Path(__file__).parent.parent


def _compiled_code() -> Path:
    """A folder for the generator as it is now; those of other states of it are removed."""
    state = hashlib.blake2b(digest_size=8)
    for path in sorted((ROOT / "rlxflow" / "backends" / "cpu").rglob("*.py")):
        state.update(path.read_bytes())
    kept = ROOT / ".pytest_cache" / "compiled" / state.hexdigest()
    for other in kept.parent.glob("*"):
        if other != kept:
            shutil.rmtree(other, ignore_errors=True)
    return kept


os.environ.setdefault("RLXFLOW_BACKEND", "reference")
os.environ["RLXFLOW_CACHE"] = str(_compiled_code())
signal.signal(signal.SIGINT, signal.default_int_handler)
