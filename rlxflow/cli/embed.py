"""Turn texts or images into vectors: one JSON array per line, a .npy file, or a table of similarities.

Texts are arguments, or lines of standard input; for a vision encoder they are the paths of image files.
Texts longer than the model takes are cut, which is said on stderr and under "truncated" in JSON.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK
from rlxflow.cli.options import add_model, add_trace, load_model, save_trace
from rlxflow.errors import InputError, TruncationWarning, printable

if TYPE_CHECKING:
    from rlxflow.dtypes import Array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "texts", metavar="TEXT", nargs="*", default=[], help="texts, or images; none: lines of standard input"
    )
    parser.add_argument("--out", metavar="FILE.npy", help="write float32 [n, d] to this file instead")
    parser.add_argument("--similarity", action="store_true", help="print the cosine of every pair instead")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--prompt-name", metavar="NAME", help="one of the model's own prompts")
    add_trace(parser)
    normalize = parser.add_mutually_exclusive_group()
    normalize.add_argument("--normalize", action="store_true", default=None, help="make vectors of length 1")
    normalize.add_argument(
        "--no-normalize", dest="normalize", action="store_false", help="leave their length"
    )


def run(args: argparse.Namespace) -> int:
    from rlxflow.runtime.embed import embed
    from rlxflow.runtime.whole_file import want_place

    if args.out is not None:
        want_place(args.out)
    texts = args.texts or _lines()
    model = load_model(args)
    began = time.perf_counter()
    progress = False if args.quiet else None
    cut: list[TruncationWarning] = []
    if model.images is not None:
        if args.prompt_name is not None:
            hint = "leave --prompt-name out"
            raise InputError("images take no prompt", code="RLX-R060", where="rlxflow embed", hint=hint)
        normalize = bool(args.normalize)
        vectors = model.embed_images(
            texts, batch_size=args.batch_size, normalize=normalize, progress=progress
        )
    else:
        vectors = embed(model, texts, args.batch_size, args.normalize, progress, args.prompt_name, cut.append)
    if cut and not args.quiet:
        console.note(str(cut[0]))
    seconds = time.perf_counter() - began
    if args.verbose:
        console.note(f"{len(texts)} texts in {seconds:.2f} s, {len(texts) / seconds:.1f} texts/s")
    save_trace(args, model)
    cosines = _cosines(vectors) if args.similarity else None
    if args.out is not None:
        _save(args.out, vectors)
    if args.json:
        console.print_json(
            {
                "model": model.name,
                "texts": len(texts),
                "truncated": list(cut[0].texts) if cut else [],
                "dimensions": vectors.shape[1],
                "seconds": seconds,
                "out": args.out,
                "embeddings": _numbers(vectors) if args.out is None else None,
                "similarity": None if cosines is None else _numbers(cosines),
            }
        )
    elif cosines is not None:
        print(_similarity_text(texts, cosines))
    elif args.out is None:
        for row in vectors:
            console.print_json(_numbers(row))
    return OK


def _lines() -> list[str]:
    if sys.stdin.isatty():
        hint = "give them as arguments, or lines on standard input"
        raise InputError("there are no texts", code="RLX-R060", where="rlxflow embed", hint=hint)
    return [line.removesuffix("\n").removesuffix("\r") for line in sys.stdin]


def _cosines(vectors: Array) -> Array:
    """Cosine of every pair, float32 [n, n]; 0 with a zero vector."""
    import numpy as np

    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0)
    cosines: Array = (unit @ unit.T).astype(np.float32)
    return cosines


def _numbers(array: Array) -> list[float] | list[list[float]]:
    """float32 as the shortest decimals that give the same float32 back."""
    numbers = [float(str(number)) for number in array.ravel()]
    if array.ndim == 1:
        return numbers
    width = array.shape[1]
    return [numbers[i * width : (i + 1) * width] for i in range(len(array))]


def _similarity_text(texts: list[str], cosines: Array) -> str:
    """The matrix with numbered columns; each row ends with its text."""
    lines = ["      " + "".join(f"{i + 1:>8}" for i in range(len(texts)))]
    for i, (text, row) in enumerate(zip(texts, cosines, strict=True)):
        numbers = "".join(f"{cosine:>8.4f}" for cosine in row)
        lines.append(f"{i + 1:>6}{numbers}  {printable(text, 60)}")
    return "\n".join(lines)


def _save(path: str, vectors: Array) -> None:
    """Write a .npy file, whole or not at all."""
    import numpy as np

    from rlxflow.runtime.whole_file import whole_file

    with whole_file(path) as file:
        np.save(file, vectors, allow_pickle=False)
