"""A machine's encrypted volumes: unlocked once for each state, by a child that reads no filesystem.

The passphrases go to that child alone. What it gives back, the volumes' own keys, opens them in all jobs that
follow: deriving one takes seconds, using it none. A key that opened an earlier state is tried first, since
changing a passphrase does not change it.
"""

import hashlib
from collections.abc import Callable

from undercroft.errors import InputError
from undercroft.model.job import KeysInput, Refusal, Unlocked
from undercroft.model.schema import Json, decode, encode
from undercroft.usecases.keys import KeyRing

MAX_VOLUME_KEY_BYTES = 64

Call = Callable[[Json, list[int]], Json]
"""Runs the job `unlock` with keys and the descriptors that hold them, and returns its answer."""


class Unlocking:
    """What is known of one machine's volumes' own keys. Not for several threads.

    Args:
        given: the administrator's keys; stays the caller's.
    """

    def __init__(self, given: KeyRing) -> None:
        self._given = given
        self._found = KeyRing()
        # By their digests: a key itself lies in the ring's memory file and in no value.
        self._known: set[tuple[str, bytes]] = set()
        self._refused: dict[str, tuple[Refusal, ...]] = {}

    def forget(self) -> None:
        """Have each state unlocked anew: its files have changed. The keys that were found stay candidates."""
        self._refused.clear()

    def close(self) -> None:
        """Give up the keys that were found."""
        self._found.close()
        self._known.clear()

    def keys(self, state: str, index: int, call: Call) -> tuple[Json, list[int]]:
        """Return the keys of a job, and the descriptors that it needs for them.

        Args:
            state: names the state; each is unlocked once.
            index: where those descriptors will stand among the job's.
            call: for the job that unlocks; it is given its descriptors from `index` on.

        Raises what `call` raises, and InputError where the answer is malformed.
        """
        if state not in self._refused:
            asked = KeysInput((*self._found.inputs(index), *self._given.inputs(index + 1)))
            answer = call(encode(asked), [self._found.descriptor, self._given.descriptor])
            self._keep(state, decode(Unlocked, answer, "the reader's keys"))
        keys = KeysInput(self._found.inputs(index), self._refused[state])
        return encode(keys), [self._found.descriptor]

    def _keep(self, state: str, untrusted: Unlocked) -> None:
        for each in untrusted.opened:
            if len(each.digits) > 2 * MAX_VOLUME_KEY_BYTES:
                raise InputError("the reader's keys: one of them is too long")
            try:
                key = bytes.fromhex(each.digits)
            except ValueError:
                raise InputError("the reader's keys: one of them is malformed") from None
            known = (each.volume, hashlib.sha256(key).digest())
            if known not in self._known:
                self._found.add(each.volume, key, is_volume_key=True)
                self._known.add(known)
        self._refused[state] = untrusted.refused
