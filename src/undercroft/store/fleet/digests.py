"""Digests of what is kept once: equal values have equal digests, whoever has them.

The digest is SHA-256 over the value's canonical JSON (sorted keys, no spaces, ASCII), in hexadecimal.
"""

import hashlib
import json

from undercroft.model.inventory import Inventory
from undercroft.model.schema import Json, encode

_NOT_MATCHED = ("coverage", "hostname", "unowned_executables", "unowned_examples")
"""The fields of an inventory that `advisories.match.assess` does not look at."""


def to_text(value: object) -> str:
    """Return the canonical JSON of a dataclass or a JSON value."""
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"))


def text_digest(text: str) -> str:
    """Return the digest of a canonical text."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def software_digest(inventory: Inventory) -> str:
    """Return the digest of the part of an inventory that advisories are matched with."""
    fields = encode(inventory)
    assert isinstance(fields, dict)
    matched: dict[str, Json] = {name: fields[name] for name in fields if name not in _NOT_MATCHED}
    return text_digest(json.dumps(matched, sort_keys=True, separators=(",", ":")))
