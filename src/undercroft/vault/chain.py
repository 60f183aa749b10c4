"""What the vault's proof assumes of what the core calls: a hash that depends on its arguments alone."""

import hashlib

# Heads and entries are digests; integers that are none have their own domain: no two inputs look alike.
_DIGEST_BYTES = 32
_PLAIN = b"undercroft ledger 1\0"
_WIDE = b"undercroft ledger 1 wide\0"


def link(head: int, entry: int) -> int:
    """The head of a ledger after one more entry: SHA-256 over the head before it and the entry's digest.

    Args:
        head: 0 for a ledger without entries, else what `link` gave; any other integer has a head too.
        entry: the entry's digest, 32 bytes as an integer, high byte first; any other integer has a head too.

    Returns:
        32 bytes as an integer.
    """
    try:
        hashed = _PLAIN + head.to_bytes(_DIGEST_BYTES, "big") + entry.to_bytes(_DIGEST_BYTES, "big")
    except OverflowError:
        hashed = _WIDE + f"{head:x} {entry:x}".encode()
    return int.from_bytes(hashlib.sha256(hashed).digest(), "big")
