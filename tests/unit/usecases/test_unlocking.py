"""What a machine's unlocking keeps of the keys that it found: nothing but the memory file."""

import gc
from collections.abc import Iterator

from undercroft.model.job import Unlocked, VolumeKey
from undercroft.model.schema import Json, encode
from undercroft.usecases.keys import KeyRing
from undercroft.usecases.unlocking import Unlocking

OWN = bytes(range(64))


def held(root: object) -> Iterator[object]:
    """Yield every value that an object holds, classes and modules left out."""
    pending, seen = [root], set()
    while pending:
        value = pending.pop()
        if id(value) in seen or isinstance(value, type):
            continue
        seen.add(id(value))
        yield value
        pending += gc.get_referents(value)


def test_no_value_holds_a_volumes_key_once_it_lies_in_the_ring() -> None:
    def unlock(_keys: Json, _holding: list[int]) -> Json:
        return encode(Unlocked((VolumeKey("vda2", OWN.hex()), VolumeKey("vda2", OWN.hex().upper())), ()))

    with KeyRing() as ring:
        ring.add("vda2", b"correct horse")
        unlocking = Unlocking(ring)
        for state in ("current", "before"):
            unlocking.keys(state, 3, unlock)
        values = list(held(vars(unlocking)))
        assert len(unlocking._found) == 1
        unlocking.close()
    assert "vda2" in values
    assert not [each for each in values if isinstance(each, str) and OWN.hex() in each.lower()]
    assert not [each for each in values if isinstance(each, bytes) and OWN in each]
