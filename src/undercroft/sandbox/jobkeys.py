"""The keys of a job, and the job that makes volumes' own keys of passphrases.

Passphrases enter the child that unlocks, which reads partition tables, sets of volumes and LUKS headers. The
children that read filesystems get the volumes' own keys: whoever takes one over learns no passphrase.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from undercroft.disks import luks
from undercroft.disks.keys import MAX_SECRET_BYTES, NO_KEYS, Key, Keys, Secret
from undercroft.disks.opening import open_volumes
from undercroft.disks.source import BlockSource
from undercroft.disks.volumes import UnreadDisk
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.job import KeyInput, KeysInput, Refusal, Unlocked, VolumeKey
from undercroft.model.schema import decode
from undercroft.sandbox.context import JobContext

MAX_REASON_CHARS = 400


def keys_of(context: JobContext) -> Keys:
    """Return the keys of a job, none where its arguments have none. Raises InputError."""
    untrusted = context.arguments.get("keys")
    if untrusted is None:
        return NO_KEYS
    given = decode(KeysInput, untrusted, "keys")
    keys = [_key(each, context.descriptors) for each in given.keys]
    return Keys(keys, {each.volume: each.reason for each in given.refusals})


@cache
def load_for_keys() -> None:
    """Import what opens encrypted volumes, so that Argon2 starts no threads: a confined child may not.

    `cryptography` takes the number of processors for the number of threads when it is imported, and it
    computes the same with one. Where the package is missing, the child that needs it says so.
    """
    processors = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, {min(processors)})
    try:
        with suppress(UnsupportedError):
            luks.load()
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, processors)


def unlocked(disks: Sequence[tuple[str, BlockSource | UnreadDisk]], keys: Keys) -> Unlocked:
    """Open all encrypted volumes of a machine, and no filesystem. Raises for no content."""
    open_volumes(disks, None, keys)
    return Unlocked(
        tuple(VolumeKey(volume, key.hex()) for volume, key in keys.opened),
        tuple(Refusal(volume, text[:MAX_REASON_CHARS]) for volume, text in keys.refusals.items()),
    )


def _key(given: KeyInput, descriptors: Sequence[int]) -> Key:
    if not 0 <= given.descriptor < len(descriptors) or not 0 < given.size_bytes <= MAX_SECRET_BYTES:
        raise InputError(f"the key for {given.volume!r} came without its bytes")
    secret = os.pread(descriptors[given.descriptor], given.size_bytes, given.offset)
    return Key(given.volume, secret, Secret.VOLUME_KEY if given.is_volume_key else Secret.PASSPHRASE)
