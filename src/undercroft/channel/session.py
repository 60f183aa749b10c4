"""The host's side of a session, without I/O: what a guest sent goes in, events and frames to send come out.

    session = Session(machine, eid, os.urandom, clock)
    wire.send(session.begin())
    for event in session.receive(wire.recv()):  # Ready, Message, Rewound or Broken
        ...                                     # Ready: wire.send(session.welcome(...))

Invariants, each of which a test plays an attack against:

1. Only an answer that bears this hello's nonce and a tag of this session's key opens a session. Each hello
   opens one.
2. Only a sealed frame with a tag of this session's key counts; others are dropped and counted in `dropped`.
3. Numbers go from 1 up without a gap. One that was seen is a rewind, one that is missing ends the session.
4. Each sealed frame of the guest bears how many frames of the host's it had taken, and their head. Fewer than
   before is a rewind; more than were sent, or another head, ends the session.
5. After `Rewound` nothing counts any more until the host gives the guest another execution: no session of
   this one begins, also after a restart with what was seen.
6. What is kept of a guest is bounded: one frame that has not ended, and `MAX_UNTAKEN` heads. Between two
   `begin` there is at most one `Broken` or `Rewound`, however often the guest asks.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeAlias

from undercroft.channel import cbor, cobs, frames, seen
from undercroft.channel.frames import Hello, Standing
from undercroft.channel.keys import NONCE_BYTES, TAG_BYTES, KeyPair, Keys, Random, TagError, derive
from undercroft.channel.messages import GuestMessage, HostMessage, Ping, Welcome, read_message
from undercroft.channel.seen import Proof, Rewound, Seen
from undercroft.errors import InputError, StateError

HEAD_BYTES = 32
HEAD_LABEL = b"undercroft head 1"
MAX_UNTAKEN = 256
"""Sealed frames of the host's that a guest may leave untaken; to send more is refused."""
_TEXT_AT = frames.NUMBER_BYTES + HEAD_BYTES
_LEAST_SEALED = 1 + frames.NUMBER_BYTES + TAG_BYTES + _TEXT_AT + 1


@dataclass(frozen=True, slots=True)
class Ready:
    """The guest has answered: what is sent first is `Session.welcome`.

    Attributes:
        boot: the guest's boot.
        standing: untrusted: where it says it stood before, also in another execution.
        frozen: untrusted: it was quiesced, and waits for a seed.
        nonces: the host's nonce and the guest's: the salt of a seed for this session.
    """

    boot: bytes
    standing: Standing | None
    frozen: bool
    nonces: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """The guest said this, in this session."""

    message: GuestMessage


@dataclass(frozen=True, slots=True)
class Broken:
    """The session is over, if one was open: `begin` begins the next. `reason` has no text of the guest's."""

    reason: str


Event: TypeAlias = Ready | Message | Rewound | Broken


class _Phase(Enum):
    OVER = auto()
    OFFERED = auto()
    ANSWERED = auto()
    OPEN = auto()


class Session:
    """One socket of one execution of a machine; sessions follow each other on it.

    Args:
        machine: the machine's UUID, 16 bytes.
        eid: the execution's id, 16 bytes.
        random: gives that many bytes from the host's kernel.
        clock: microseconds; only used so that serials grow even when what was seen is lost.
        was_seen: what the last session of this execution had seen, on whichever socket.
    """

    def __init__(
        self,
        machine: bytes,
        eid: bytes,
        random: Random,
        clock: Callable[[], int],
        was_seen: Seen | None = None,
    ) -> None:
        if len(machine) != frames.ID_BYTES or len(eid) != frames.ID_BYTES:
            raise InputError("a session is of a machine and an execution, of 16 bytes each")
        self.machine, self.eid, self.seen = machine, eid, was_seen
        self.dropped = 0
        """Frames that were not of this session, or no frames."""
        self.unanswered = 0
        """Pings since the guest's last sealed frame."""
        self._random, self._clock = random, clock
        self._reader = cobs.Reader()
        self._phase = _Phase.OVER
        self._serial = was_seen.serial if was_seen else 0
        self._hello: Hello | None = None
        self._pings = 0
        self._sent = self._received = self._acknowledged = 0
        self._heads: dict[int, bytes] = {}
        self._guest_head = self._guest_nonce = b""

    @property
    def is_open(self) -> bool:
        """Whether the guest has answered and was welcomed, so that `seal` works."""
        return self._phase is _Phase.OPEN

    def begin(self) -> bytes:
        """Begin a session, and end the one before; return what to send: a zero byte and the hello.

        Raises StateError after a rewind was proven.
        """
        if self.seen is not None and self.seen.proven:
            raise StateError("the guest was put back: it goes on in another execution, or not at all")
        self._serial = max(self._clock(), self._serial + 1)
        self._pair = KeyPair(self._random)
        nonce = self._random(NONCE_BYTES)
        self._hello = Hello(self.machine, self.eid, self._serial, nonce, self._pair.public)
        self._phase = _Phase.OFFERED
        self.unanswered = 0
        return b"\0" + cobs.encode(self._hello.frame())

    def receive(self, untrusted: bytes) -> Sequence[Event]:
        """Take bytes as they came from the socket; return what they say, in their order. Never raises."""
        before = self._reader.skipped
        events: list[Event] = []
        for untrusted_frame in self._reader.feed(untrusted):
            event = self._take(untrusted_frame)
            if event is not None:
                events.append(event)
        self.dropped += self._reader.skipped - before
        return events

    def welcome(self, generation: int, seed: bytes | None, next_request: int) -> bytes:
        """Return the first sealed frame of a session, as bytes to send; the session is open then.

        Raises InputError for values that no guest would take; StateError when no answer waits for one.
        """
        if self._phase is not _Phase.ANSWERED:
            raise StateError("no guest waits to be welcomed: that follows its answer, once")
        value = Welcome(self._guest_nonce, generation, seed, next_request).value()
        self._phase = _Phase.OPEN
        return self._sealed(value)

    def ping(self) -> bytes:
        """Return a ping as bytes to send. Raises StateError as `seal` does."""
        self._pings += 1
        self.unanswered += 1
        return self.seal(Ping(self._pings))

    def seal(self, message: HostMessage) -> bytes:
        """Return a message as bytes to send.

        Raises InputError for one that is too large; StateError when no session is open, and when the guest
        has not taken the last `MAX_UNTAKEN` frames.
        """
        if self._phase is not _Phase.OPEN:
            raise StateError("no session with the guest is open: begin one and wait until it is ready")
        if self._sent - self._acknowledged >= MAX_UNTAKEN:
            raise StateError(f"the guest has left {MAX_UNTAKEN} frames untaken: begin another session")
        return self._sealed(message.value())

    def _sealed(self, value: cbor.Value) -> bytes:
        number = self._sent + 1
        text = self._received.to_bytes(frames.NUMBER_BYTES, "big") + self._guest_head + cbor.encode(value)
        sealed = self._keys.from_host.seal(frames.SEALED_TYPE, number, text)
        frame = frames.SEALED_TYPE + number.to_bytes(frames.NUMBER_BYTES, "big") + sealed
        line = cobs.encode(frame)  # may refuse: counted is only what is sent
        self._sent = number
        self._heads[number] = hashlib.sha256(self._heads[number - 1] + frame).digest()
        return line

    def _take(self, untrusted_frame: bytes) -> Event | None:
        kind = untrusted_frame[0]
        try:
            if kind == frames.SEALED:
                return self._take_sealed(untrusted_frame)
            if kind == frames.ANSWER:
                return self._take_answer(untrusted_frame)
            if self._phase is _Phase.OVER:
                raise InputError("no session is open or offered: there is nothing to end")
            if kind == frames.AGAIN:
                return self._break(f"the guest asks to begin again: {frames.read_reason(untrusted_frame)}")
            if kind == frames.UNABLE:
                versions = ", ".join(map(str, frames.read_versions(untrusted_frame)))
                return self._break(f"the guest's helper speaks other versions ({versions}): renew the helper")
        except InputError:
            pass  # malformed, or of another session: nothing in it counts
        self.dropped += 1
        return None

    def _break(self, reason: str) -> Broken:
        self._phase, self._hello = _Phase.OVER, None
        return Broken(reason)

    def _rewound(self, proof: Proof, was: Seen, boot: bytes, found: Standing | None) -> Rewound:
        self._phase, self._hello = _Phase.OVER, None
        self.seen = replace(was, proven=True)
        return Rewound(proof, was, boot, found)

    def _take_answer(self, untrusted_frame: bytes) -> Event | None:
        answer = frames.read_answer(untrusted_frame)
        hello = self._hello
        if hello is None or answer.echo != hello.nonce:
            raise InputError("an answer to another hello")
        told = frames.transcript(hello.frame(), answer.body)
        try:
            secret = self._pair.shared(answer.key)
            keys = derive(secret, hello.nonce + answer.nonce, self.machine, self.eid, told)
        except InputError as error:
            return self._break(str(error))
        if not hmac.compare_digest(keys.answer_tag(told), answer.tag):
            return self._break("the tag of the guest's answer does not fit: it was cut off or altered")
        if self._phase is not _Phase.OFFERED and self.seen is not None:
            return self._rewound(Proof.ANSWER, self.seen, answer.boot, answer.standing)
        proof = seen.judge_answer(self.seen, answer.boot, self.eid, answer.standing)
        if proof is not None and self.seen is not None:
            return self._rewound(proof, self.seen, answer.boot, answer.standing)
        self.seen = seen.opened(self.seen, answer.boot, self._serial)
        self._open(keys, answer.nonce, told)
        return Ready(answer.boot, answer.standing, answer.frozen, hello.nonce + answer.nonce)

    def _open(self, keys: Keys, guest_nonce: bytes, told: bytes) -> None:
        self._keys, self._guest_nonce = keys, guest_nonce
        self._sent = self._acknowledged = self._received = 0
        self._heads = {0: hashlib.sha256(HEAD_LABEL + b"h" + told).digest()}
        self._guest_head = hashlib.sha256(HEAD_LABEL + b"g" + told).digest()
        self._phase = _Phase.ANSWERED

    def _take_sealed(self, untrusted_frame: bytes) -> Event | None:
        """Steps 1 to 5 in the order of docs/CHANNEL.md, "Taking a sealed frame"."""
        if self._phase is not _Phase.OPEN or len(untrusted_frame) < _LEAST_SEALED:
            raise TagError("a sealed frame, and no session is open")
        number = int.from_bytes(untrusted_frame[1:9], "big")
        text = self._keys.from_guest.open(frames.SEALED_TYPE, number, untrusted_frame[9:])  # 1
        taken, head = int.from_bytes(text[:8], "big"), text[8:_TEXT_AT]
        was = self.seen
        assert was is not None  # set when the session opened
        if number <= self._received or taken < self._acknowledged:  # 2
            proof = Proof.NUMBER if number <= self._received else Proof.HEAD
            return self._rewound(proof, was, was.boot, Standing(self.eid, self._serial, number, taken))
        if number != self._received + 1:  # 3
            return self._break(f"the guest's frame {self._received + 1} is missing")
        if self._heads.get(taken) != head:  # 4
            return self._break("the guest has taken frames that were never sent")
        for acknowledged in range(self._acknowledged, taken):
            del self._heads[acknowledged]
        self._received, self._acknowledged = number, taken
        self._guest_head = hashlib.sha256(self._guest_head + untrusted_frame).digest()
        self.seen = replace(was, received=number, acknowledged=taken)
        self.unanswered = 0
        try:
            return Message(read_message(text[_TEXT_AT:]))  # 5
        except InputError as error:
            return self._break(f"the guest's frame {number} is no message: {error}")
