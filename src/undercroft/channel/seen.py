"""What the host has seen of a guest within one execution, and what proves that the guest was put back since.

The rules, each from what an honest helper does (docs/CHANNEL.md, "Rewinds"): it counts a frame before it
sends it and after it has taken it, in memory that lives as long as its kernel's boot and is lost with it. So
its standing in an answer is never behind what the host has seen, unless the memory itself was put back. A
reboot brings another boot id and no standing, and no count of the boot before it means anything; that boot
then stands nowhere but in hellos that came since.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from undercroft.channel import cbor
from undercroft.channel.frames import ID_BYTES, MAX_SERIAL, Standing, blob, members, number
from undercroft.errors import InputError

MAX_FORMER_BOOTS = 64
"""How many earlier boots of one execution are known again; of more, the oldest are forgotten."""
_STATE_VERSION = 1


class Proof(StrEnum):
    """What shows that a guest was put back."""

    NUMBER = "a sealed frame has a number that was seen before"
    HEAD = "a sealed frame has taken fewer of the host's frames than one before it"
    ANSWER = "one hello was answered twice"
    STANDING = "the answer stands at an earlier point than was seen of the same boot"
    BOOT = "a boot is back that another boot had ended"
    OTHER = "the answer is of another boot, which stands where no boot that is new here can"


@dataclass(frozen=True, slots=True)
class Seen:
    """The furthest point of a guest within one execution.

    Attributes:
        boot: the id of its latest boot, 16 bytes.
        serial: the session that was open last.
        received: sealed frames of the guest's in that session.
        acknowledged: frames of the host's that the guest is known to have taken in it.
        former: boots of this execution before, oldest first.
        proven: a rewind was proven: this execution is over, and the guest goes on in another.
    """

    boot: bytes
    serial: int
    received: int = 0
    acknowledged: int = 0
    former: tuple[bytes, ...] = ()
    proven: bool = False

    def encode(self) -> bytes:
        """Return bytes for a file of the host's own, which `decode` reads."""
        counts = [self.serial, self.received, self.acknowledged]
        return cbor.encode([_STATE_VERSION, self.boot, *counts, list(self.former), self.proven])

    @classmethod
    def decode(cls, data: bytes) -> "Seen":
        """Return what `encode` wrote. Raises InputError for anything else."""
        parts = members(cbor.decode(data), 7, "what was seen of a guest")
        number(parts[0], _STATE_VERSION, "its version", _STATE_VERSION)
        counts = [number(each, MAX_SERIAL, "a count") for each in parts[2:5]]
        listed, proven = parts[5:]
        if not isinstance(listed, list) or len(listed) > MAX_FORMER_BOOTS or not isinstance(proven, bool):
            raise InputError("what was seen of a guest has no list of former boots")
        former = tuple(blob(each, ID_BYTES, "a former boot") for each in listed)
        return cls(blob(parts[1], ID_BYTES, "a boot"), counts[0], counts[1], counts[2], former, proven)


@dataclass(frozen=True, slots=True)
class Rewound:
    """The guest was put back to an earlier point of the same execution.

    The execution is over with it: what the guest goes on with is another, which the host mints.

    Attributes:
        proof: what shows it.
        seen: the furthest point that was seen.
        boot: the boot that the guest is in.
        found: where it stands now: in its answer, or by the number and count of a sealed frame; None if the
            guest knows of no session.
    """

    proof: Proof
    seen: Seen
    boot: bytes
    found: Standing | None

    def __str__(self) -> str:
        """One sentence for an administrator, with nothing in it that the guest chose."""
        seen = f"session {self.seen.serial}, {self.seen.received} sent, {self.seen.acknowledged} taken"
        now = "in no session that it knows"
        if self.found is not None:
            now = f"at session {self.found.serial}, {self.found.sent} sent, {self.found.taken} taken"
        return f"the guest was put back: {self.proof}; it was at {seen}, and is {now}"


def judge_answer(seen: Seen | None, boot: bytes, eid: bytes, standing: Standing | None) -> Proof | None:
    """Return what an answer's boot and standing prove against what was seen in execution `eid`, or None."""
    if seen is None:
        return None
    if boot in seen.former:
        return Proof.BOOT
    if boot != seen.boot:
        return Proof.OTHER if standing is not None and not _new(seen, eid, standing) else None
    if standing is None or standing.eid != eid or standing.serial < seen.serial:
        return Proof.STANDING
    behind = standing.sent < seen.received or standing.taken < seen.acknowledged
    return Proof.STANDING if standing.serial == seen.serial and behind else None


def _new(seen: Seen, eid: bytes, standing: Standing) -> bool:
    """Whether a boot that began after what was seen may stand there: it answered only hellos since."""
    return standing.eid == eid and standing.serial > seen.serial


def opened(seen: Seen | None, boot: bytes, serial: int) -> Seen:
    """Return what is seen once the session `serial` is open with a guest in `boot`."""
    if seen is None:
        return Seen(boot, serial)
    if boot == seen.boot:
        return replace(seen, serial=serial, received=0, acknowledged=0)
    former = (*(each for each in seen.former if each != boot), seen.boot)
    return Seen(boot, serial, former=former[-MAX_FORMER_BOOTS:])
