"""The volume's key: from a passphrase through a keyslot, and proven by the header's digest.

1. A passphrase becomes the keyslot's key by its derivation.
2. That key decrypts the keyslot's area, whose stripes are merged into a candidate.
3. The candidate is the volume's key exactly if its digest is the header's; nothing else is ever used.

Imports `cryptography`: loaded for jobs with keys alone, before their child is confined.
"""

import hmac
from collections.abc import Sequence

from undercroft.disks.keys import Key, Secret, passphrases
from undercroft.disks.luks.antiforensic import merge
from undercroft.disks.luks.derivation import derive
from undercroft.disks.luks.header import Header, Keyslot
from undercroft.disks.luks.layout import SECTOR_BYTES
from undercroft.disks.luks.sectors import open_cipher
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError


class WrongKeyError(InputError):
    """None of the keys that were given opens the volume."""


def unlock(source: BlockSource, header: Header, keys: Sequence[Key]) -> bytes:
    """Return the volume's key.

    Args:
        source: what the header's offsets count from, untrusted.
        header: of the volume.
        keys: those for this volume, at most `keys.MAX_KEYS`.

    Raises:
        WrongKeyError: none of them opens it; the message has the number of keyslots that were tried.
        InputError: a keyslot is malformed; only where no other one could be opened.
    """
    problems = list(header.unusable)
    for key in keys:
        if key.kind is Secret.VOLUME_KEY:
            if _proves(header, key.secret):
                return key.secret
            continue
        for secret in passphrases(key.secret):
            for slot in header.keyslots:
                try:
                    candidate = open_keyslot(source, slot, secret)
                except InputError as error:
                    if (text := str(error)) not in problems:
                        problems.append(text)
                    continue
                if _proves(header, candidate):
                    return candidate
    raise WrongKeyError(_refusal(header, keys, problems))


def open_keyslot(source: BlockSource, slot: Keyslot, secret: bytes) -> bytes:
    """Return what `secret` makes of a keyslot: the volume's key, or noise where it is the wrong one.

    Raises:
        InputError: its area lies beyond the end, or its derivation cannot be had.
        UnsupportedError: a cipher that is not read here.
    """
    split_bytes = slot.key_bytes * slot.stripes
    padded = -(-split_bytes // SECTOR_BYTES) * SECTOR_BYTES
    if slot.offset + padded > source.size_bytes:
        raise InputError(f"luks keyslot {slot.name}: its area lies beyond the end of the volume")
    cipher = open_cipher(slot.cipher, derive(slot.derivation, secret, slot.area_key_bytes))
    split = cipher.decrypt(0, source.read(slot.offset, padded))
    return merge(split, slot.key_bytes, slot.stripes, slot.hash)


def _proves(header: Header, candidate: bytes) -> bool:
    digest = header.digest
    return hmac.compare_digest(derive(digest.derivation, candidate, len(digest.value)), digest.value)


def _refusal(header: Header, keys: Sequence[Key], problems: Sequence[str]) -> str:
    tried = f"{len(header.keyslots)} keyslot{'s' if len(header.keyslots) != 1 else ''}"
    given = f"none of the {len(keys)} keys given opens" if len(keys) != 1 else "the key given does not open"
    told = f"luks{header.version}: {given} it ({tried} tried)"
    return "; ".join((told, *problems[:3]))
