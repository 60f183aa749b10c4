"""Digests of what is kept once: equal values have equal digests, whoever has them.

The digest is SHA-256 over the value's canonical JSON (sorted keys, no spaces, ASCII), in hexadecimal.
"""

import dataclasses
import hashlib
import json
from datetime import date
from functools import cache

from undercroft.model.inventory import Inventory

_NOT_MATCHED = ("coverage", "hostname", "unowned_executables", "unowned_examples")
"""The fields of an inventory that `advisories.match.assess` does not look at."""


def to_text(value: object) -> str:
    """Return the canonical JSON of a dataclass or of JSON values: what `schema.encode` gives, only quicker.

    `json` itself takes texts (enums too), numbers and tuples; it asks for the rest.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_fields)


def text_digest(text: str) -> str:
    """Return the digest of a canonical text."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def software_digest(inventory: Inventory) -> str:
    """Return the digest of the part of an inventory that advisories are matched with."""
    names = [name for name in _names(Inventory) if name not in _NOT_MATCHED]
    return text_digest(to_text({name: getattr(inventory, name) for name in names}))


@cache
def _names(cls: type) -> tuple[str, ...]:
    assert dataclasses.is_dataclass(cls)
    return tuple(field.name for field in dataclasses.fields(cls))


def _fields(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    cls: type = type(value)
    return {name: getattr(value, name) for name in _names(cls)}
