"""The table of planted faults: what `rlxflow compare` names for each spoilt model.

    python benchmarks/planted_faults.py

The faults are those of tests/porting/faults.py; the models they spoil are tiny, their originals were recorded
by Hugging Face's implementations.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "porting")]


def main() -> int:
    from faults import FAULTS, plant
    from recorded_models import file_of

    from rlxflow.inspect.examine import examine
    from rlxflow.porting.activations import read_activations
    from rlxflow.porting.compare import compare

    right = [0, 0]
    print(f"{'fault':<46} {'named first':<56} {'likely cause':<18} leaves")
    for fault in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            built = examine(plant(fault, Path(folder))).built
            assert built is not None
            found = compare(built, read_activations(file_of(fault.model))).difference
        cause = found.causes[0] if found is not None and found.causes else None
        stage = found.module if found is not None else "nothing"
        kind, left = (cause.kind, f"{cause.error:.0e}") if cause else ("none", "")
        right[0] += stage == fault.module
        right[1] += kind == fault.cause
        print(f"{fault.name + ' (' + fault.model + ')':<46} {stage:<56} {kind:<18} {left}")
    print(f"{len(FAULTS)} faults: the right stage in {right[0]}, the right cause in {right[1]}")
    return 0 if right == [len(FAULTS)] * 2 else 1


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    sys.exit(main())
