"""How far a profile's results are from the reference in f32, on fixed texts, and how far it says they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import BackendError
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.embed import embed
from rlxflow.runtime.load import load
from rlxflow.runtime.model import Model

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile

TEXTS = (
    "The train to the coast leaves at half past seven and arrives before noon.",
    "Please restart the server after you have installed the update.",
    "She had read the letter twice before she understood what it asked of her.",
    "Photosynthesis turns carbon dioxide and water into sugar and oxygen.",
    "A list is mutable, a tuple is not; both can hold values of any type.",
    "How do I cancel an order that has already been shipped?",
    "The committee will vote on the proposal at its next meeting in March.",
    "Prices rose by 3.4 percent last year, mostly because of energy and food.",
    "Wash the rice until the water runs clear, then let it drain for ten minutes.",
    "Wer früh aufsteht, hat am Abend mehr Zeit für seine Freunde.",
    "La bibliothèque est fermée le lundi et les jours fériés.",
    "El puente fue construido en el siglo XIX y todavía se usa.",
    "The patient reported mild headaches but no fever, and was told to rest and to drink plenty of water. "
    "A second visit was arranged for the following week, at which the blood test was to be repeated.",
    "In the beginning the valley was a lake. Over thousands of years the river brought sand and clay from "
    "the mountains, until the water was so shallow that reeds could take hold; the reeds slowed the current, "
    "more sand settled, and what had been the bottom of a lake became a meadow on which the first farmers "
    "kept their sheep.",
    "def add(a, b):\n    return a + b",
    "Thank you!",
)


@dataclass(frozen=True)
class Accuracy:
    """Smallest cosine and largest error of some rows; an error is max|a - b| / max(1, max|b|)."""

    rows: str
    count: int
    cosine: float
    error: float

    def __str__(self) -> str:
        return f"cosine {self.cosine:.6f}, error {self.error:.1e}: the worst of {self.count} {self.rows}"


def measure(
    path: str | os.PathLike[str],
    profile: str | CompileProfile | None = None,
    recipe: str | None = None,
    *,
    progress: bool | None = None,
) -> Accuracy | None:
    """Run a model as the profile says and on the reference backend; None for one that reads no text.

    Raises `BackendError` (B010) where the results are farther apart than the profile guarantees.
    """
    model = load(path, profile=profile, recipe=recipe, progress=progress)
    if model.tokenizer is None:
        return None
    rows, found = _results(model)
    exact = load(path, profile=_exact(), recipe=recipe, progress=progress)
    _, wanted = _results(exact)
    accuracy = compare(rows, found, wanted)
    least = model.profile.least_cosine
    if not accuracy.cosine >= least:
        raise BackendError(
            f"results have a cosine of {accuracy.cosine:.6f} to those in f32; the profile guarantees {least}",
            code="RLX-B010",
            where=model.name,
            hint="choose a profile with a higher precision, or state a lower precision.min_cosine",
            details={"cosine": accuracy.cosine, "error": accuracy.error},
        )
    return accuracy


def compare(rows: str, found: Array, wanted: Array) -> Accuracy:
    """The accuracy of rows [n, width], in f64. NaN where one is, infinite ones too: no cosine is that low."""
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines = np.where((a == b).all(1), 1.0, (a * b).sum(1) / lengths)
        error = np.abs(a - b).max(initial=0.0) / max(1.0, np.abs(b).max(initial=0.0))
    return Accuracy(rows, len(a), float(cosines.min(initial=1.0)), float(error))


def _exact() -> CompileProfile:
    from rlxflow.profile.load import load_profile

    return load_profile("exact", ["backend.name=reference"])


def _results(model: Model) -> tuple[str, Array]:
    """What the rows are, and the rows [n, width] of all texts: embeddings, or a row per token."""
    if model.embedding is not None:
        # cut alike on both sides, so nobody need be told
        return "texts", embed(model, TEXTS, 32, None, False, None, on_cut=lambda cut: None)
    name = "logits" if "logits" in model.graph.outputs else "last_hidden_state"
    rows = model.require_tokenizer().encode_batch(TEXTS, max_length=model.max_positions)
    results = [model(input_ids=np.array([ids]), outputs=[name])[name][0] for ids in rows]
    return "tokens", np.concatenate(results)
