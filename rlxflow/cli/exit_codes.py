"""Exit codes, so that scripts can tell kinds of failure apart.

0 done · 1 failure · 2 wrong usage, input or profile · 3 the model's files are bad · 4 rlxflow, or this
model, cannot do that · 130 interrupted
"""

from __future__ import annotations

from rlxflow.errors import (
    ConfigError,
    InputError,
    ProfileError,
    RlxError,
    TokenizerError,
    UnsupportedFile,
    WeightsError,
)

OK, FAILURE, USAGE, BAD_FILES, UNSUPPORTED, INTERRUPTED = 0, 1, 2, 3, 4, 130

# Sound files that ask for what rlxflow does not do, and calls that this kind of model does not take.
_UNSUPPORTED_CODES = frozenset(
    [
        *("RLX-C001", "RLX-C002", "RLX-C003", "RLX-C005", "RLX-C006", "RLX-C021", "RLX-C040", "RLX-C044"),
        *("RLX-T020", "RLX-T030", "RLX-T040", "RLX-R020", "RLX-R021"),
    ]
)
_WRONG_INPUT = frozenset(["RLX-T010", "RLX-T011", "RLX-T012", "RLX-T036"])  # texts and ids of the caller
_FAILURES = frozenset(["RLX-W036", "RLX-W038"])  # no memory, no room to write: the files are sound


def exit_code(error: RlxError) -> int:
    """The exit code of a command that ended with `error`."""
    if isinstance(error, UnsupportedFile) or error.code in _UNSUPPORTED_CODES:
        return UNSUPPORTED
    if error.code in _FAILURES:
        return FAILURE
    if isinstance(error, ProfileError | InputError) or error.code in _WRONG_INPUT:
        return USAGE
    if isinstance(error, WeightsError | ConfigError | TokenizerError):
        return BAD_FILES
    return FAILURE
