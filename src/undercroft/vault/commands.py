"""The records of the vaults' log: arrays in CBOR that begin with their kind.

    0 state     kind of part, then what `state` makes of it: a snapshot is made of these
    1 batch     machine, number of the execution, number of the first request, requests side by side
    2 take      machine, execution, whether it is a fork
    3 end       machine, execution
    4 intent    the TPM's counter, what is added to it to make the epoch
    5 epoch     epoch, whether a TPM counts it, what the TPM's index holds, the epoch that did not end or 0
    6 anchor    head that the TPM's index was extended with, what the index holds now, wear budget, time
    7 closed    the epoch ended as it should
    8 adopted   reason, time, what the index holds, what was found
    9 key       machine, name, kind of signing key, its secret (encrypted)

In a batch each request is its operation (as in `channel.requests`) and its arguments:

    0             a number that changed nothing: a read, or what was refused at once
    1 increment   name, how many
    3 spend       name, whether it is final
    4 append      name, height, head, entry
    6 seal        name, version, digest of the content, content (encrypted)
    11 revoke     name
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from undercroft.channel import cbor
from undercroft.errors import DamagedError, InputError

Arguments: TypeAlias = Sequence[cbor.Value]

STATE, BATCH, TAKE, END, INTENT, EPOCH, ANCHOR, CLOSED, ADOPTED, KEY = range(10)
NOTHING = 0
ARGUMENTS = {NOTHING: 0, 1: 2, 3: 2, 4: 4, 6: 4, 11: 1}
"""How many arguments each operation of a batch has."""


def write(*members: cbor.Value) -> bytes:
    """Return a record. Raises InputError for one that is too large."""
    return cbor.encode(members)


def read(record: bytes) -> list[cbor.Value]:
    """Return a record's members. Raises DamagedError for what is no record."""
    try:
        members = cbor.decode(record)
    except InputError as error:
        raise DamagedError(f"the vaults' log holds what is no record: {error}") from error
    if not isinstance(members, list) or not members or members[0] not in range(10):
        raise DamagedError("the vaults' log holds a record of a later version: install that")
    return members


def requests(flat: Sequence[cbor.Value]) -> Iterator[tuple[int, Arguments]]:
    """Yield operation and arguments of each request of a batch. Raises DamagedError."""
    at = 0
    while at < len(flat):
        operation = flat[at]
        if not isinstance(operation, int) or operation not in ARGUMENTS:
            raise DamagedError(
                f"the vaults' log holds an operation {operation!r:.40}: install a later version"
            )
        after = at + 1 + ARGUMENTS[operation]
        yield operation, flat[at + 1 : after]
        at = after


def entry_digest(entry: bytes) -> int:
    """Return what stands for an entry in its ledger's head: its SHA-256."""
    return int.from_bytes(hashlib.sha256(entry).digest(), "big")
