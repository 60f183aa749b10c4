r"""How names and texts that a disk holds become strings, and back.

Guarantees: no byte is lost. What is not UTF-8 becomes lone surrogates (PEP 383), as Python's own file
names have it, and `raw` gives the same bytes again.

    >>> raw(text(b"caf\xe9"))
    b'caf\xe9'
"""


def text(untrusted: bytes) -> str:
    """Return bytes of a disk as a string; it may hold surrogates and control characters."""
    return untrusted.decode("utf-8", "surrogateescape")


def raw(text: str) -> bytes:
    """Return the bytes that `text` came from."""
    return text.encode("utf-8", "surrogateescape")
