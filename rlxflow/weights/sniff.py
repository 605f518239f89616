"""What a file that should hold tensors holds instead, told from its first bytes."""

from __future__ import annotations

import re

from rlxflow.errors import CorruptFile, UnsupportedFile, WeightsError, printable

HEAD_BYTES = 1024
"""How many bytes from the start of a file `wrong_content` wants to see."""

_DOWNLOAD = "download the file again"
_CONVERT = (
    "load it with the library that wrote it and save it as safetensors "
    "(`model.save_pretrained(path, safe_serialization=True)`)"
)

# (first bytes, what it is, next step); all of these are whole files of another kind
_OTHER_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"GGUF", "a GGUF file", "open it with rlxflow.weights.directory.open_weights, or name it *.gguf"),
    (b"PK\x03\x04", "a zip archive, as torch.save writes", f"rlxflow never unpickles; {_CONVERT}"),
    (b"\x80\x02", "a Python pickle", f"rlxflow never unpickles; {_CONVERT}"),
    (b"\x80\x03", "a Python pickle", f"rlxflow never unpickles; {_CONVERT}"),
    (b"\x80\x04", "a Python pickle", f"rlxflow never unpickles; {_CONVERT}"),
    (b"\x80\x05", "a Python pickle", f"rlxflow never unpickles; {_CONVERT}"),
    (b"\x93NUMPY", "a NumPy array file", "load it with NumPy and give the arrays to MapWeights"),
    (b"\x89HDF\r\n", "an HDF5 file", _CONVERT),
    (b"\x1f\x8b", "a gzip archive", "unpack it with `gunzip` first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it with `unzstd` first"),
    (b"\xfd7zXZ\x00", "an xz archive", "unpack it with `unxz` first"),
)


def wrong_content(head: bytes, size: int, where: str) -> WeightsError | None:
    """The error for a file whose first bytes show that it is no safetensors file, or None.

    `head` is the first `HEAD_BYTES` bytes of a file of `size` bytes.
    """
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return _corrupt(f"the file is a Git LFS pointer{_promised(head, size)}", where, "run `git lfs pull`")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return _corrupt("the file is an HTML or XML page", where, f"{_DOWNLOAD}; the server sent a web page")
    if text.startswith(
        (b"entry not found", b"repository not found", b"access to model", b"invalid username")
    ):
        said = printable(head.decode("utf-8", "replace").strip(), 60)
        return _corrupt(f"the file is a server's answer: {said!r}", where, f"{_DOWNLOAD}, with access to it")
    if text.startswith((b'{"', b"{\n", b"{ ", b"{\r")):
        return _corrupt(
            "the file is JSON text", where, f"{_DOWNLOAD}, or give the file that holds the tensors"
        )
    if head and not head.strip(b"\0"):
        return _corrupt(
            "the file starts with zeros", where, f"{_DOWNLOAD}; it was reserved but never written"
        )
    for magic, kind, hint in _OTHER_KINDS:
        if head.startswith(magic):
            return UnsupportedFile(f"the file is {kind}", code="RLX-W010", where=where, hint=hint)
    return None


def _corrupt(message: str, where: str, hint: str) -> CorruptFile:
    return CorruptFile(message, code="RLX-W010", where=where, hint=hint)


def _promised(head: bytes, size: int) -> str:
    """What an LFS pointer says of the real file's size."""
    found = re.search(rb"^size (\d{1,18})\s*$", head, re.MULTILINE)
    return f": expected {int(found[1]):,} bytes, found {size:,}" if found else ""
