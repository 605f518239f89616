"""Every error code with its one-line meaning; docs/errors.md is generated from this table."""

from __future__ import annotations

CODES: dict[str, str] = {
    # W: weights
    "RLX-W001": "the file or directory does not exist or cannot be opened",
    "RLX-W002": "no tensor of that name",
    "RLX-W003": "an array type that has no rlxflow dtype",
    # C: configs and recipes
    # T: tokenizers and templates
    # P: profiles
    # F: flows
    # I: graphs
    # U: fusion
    # B: backends
    # R: inputs at run time
    # X: plugins
}
