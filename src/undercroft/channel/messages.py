"""What both sides say inside sealed frames, as values (docs/CHANNEL.md, "Messages").

A message is an array whose first member says which. The host's are made here and never read; the guest's are
read here, untrusted until they are values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from undercroft.channel import cbor
from undercroft.channel.frames import blob, members, number
from undercroft.channel.keys import NONCE_BYTES
from undercroft.channel.requests import MAX_NUMBER, MAX_TEXT_BYTES, Answer, Request, read_batch, write_batch
from undercroft.errors import InputError

SEED_BYTES = 32
CONFIRM_BYTES = 32
MAX_PROCESSES = 1 << 22
"""The kernel's own limit (PID_MAX_LIMIT)."""
MAX_HOOKS = 64


@dataclass(frozen=True, slots=True)
class Welcome:
    """The host's first sealed frame: the guest's nonce again, and the seed where one is due.

    Attributes:
        nonce: the guest's, from its answer.
        generation: a number that grows with each seed of a machine.
        seed: 32 bytes that are only for this execution; None where none is due.
        next_request: the least number for the guest's next request.
    """

    nonce: bytes
    generation: int
    seed: bytes | None = field(repr=False)
    next_request: int

    def value(self) -> cbor.Value:
        """Return the message as it goes on the line. Raises InputError for what no guest would take."""
        blob(self.nonce, NONCE_BYTES, "a welcome")
        number(self.generation, MAX_NUMBER, "a generation", 1)
        number(self.next_request, MAX_NUMBER, "a request's number", 1)
        if self.seed is not None:
            blob(self.seed, SEED_BYTES, "a welcome's seed")
        return [1, self.nonce, self.generation, self.seed, self.next_request]


@dataclass(frozen=True, slots=True)
class Ping:
    """The host asks for a sign of life; the guest gives the number back."""

    number: int

    def value(self) -> cbor.Value:
        """Return the message as it goes on the line."""
        return [2, self.number]


@dataclass(frozen=True, slots=True)
class Quiesce:
    """The host asks to freeze all but the helper. They thaw after a seed in a session that begins later."""

    number: int

    def value(self) -> cbor.Value:
        """Return the message as it goes on the line."""
        return [3, self.number]


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to the requests from number `first` on, without a gap."""

    first: int
    answers: tuple[Answer, ...]

    def value(self) -> cbor.Value:
        """Return the message as it goes on the line. Raises InputError for more than a batch."""
        return [5, self.first, write_batch(self.answers)]


@dataclass(frozen=True, slots=True)
class AnswerLines:
    """As `Answers`, with each answer as it goes on the line: outcome, what it rests on, values."""

    first: int
    lines: Sequence[Sequence[cbor.Value]]

    def value(self) -> cbor.Value:
        """Return the message as it goes on the line."""
        return [5, self.first, self.lines]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The guest has done with a seed what it can.

    Attributes:
        generation: that of the welcome.
        tag: `keys.confirmation` of that seed, to be compared by who holds it.
        credited: the kernel took the seed and drew a new key from it.
        drained: bytes of the virtual generator that were read away.
        hooks: how many programs of the hook folder ran.
        failed: how many of them failed or took too long.
    """

    generation: int
    tag: bytes
    credited: bool
    drained: int
    hooks: int
    failed: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The guest's sign of life, with the number of the ping that asked for it."""

    number: int


@dataclass(frozen=True, slots=True)
class Quiesced:
    """The answer to a quiesce.

    Attributes:
        number: that of the quiesce.
        frozen: all but the helper are.
        processes: how many were frozen.
        text: untrusted: why not all are, or how they were.
    """

    number: int
    frozen: bool
    processes: int
    text: str


@dataclass(frozen=True, slots=True)
class Thawed:
    """After a later session's seed, all that a quiesce had frozen run again."""

    number: int
    processes: int


@dataclass(frozen=True, slots=True)
class Requests:
    """What the guest asks of its vault: requests with the numbers `first`, `first` + 1, and so on."""

    first: int
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class About:
    """What the guest says of itself, once in each session; all of it is untrusted text.

    Attributes:
        helper: name and version of the helper.
        kernel: release of the guest's kernel.
        able: what it can do: `credit`, `hwrng`, `cgroup`, `stop`, `hooks`.
    """

    helper: str
    kernel: str
    able: tuple[str, ...]


HostMessage: TypeAlias = Welcome | Ping | Quiesce | Answers | AnswerLines
GuestMessage: TypeAlias = Confirmed | Pong | Quiesced | Thawed | Requests | About


def read_message(untrusted: bytes) -> GuestMessage:
    """Return what a guest said in a sealed frame. Raises InputError for what is no message of version 1."""
    parts = cbor.decode(untrusted)
    if not isinstance(parts, list) or not parts or type(parts[0]) is not int:
        raise InputError("a message is an array that begins with its kind")
    if parts[0] == 5:
        return Requests(*read_batch(*members(parts, 3, "a batch")[1:]))
    if parts[0] == 2:
        return Pong(number(members(parts, 2, "a pong")[1], MAX_NUMBER, "a pong"))
    if parts[0] == 1:
        return _confirmed(parts)
    if parts[0] == 3:
        return _quiesced(parts)
    if parts[0] == 4:
        _, which, count = members(parts, 3, "a thaw")
        return Thawed(number(which, MAX_NUMBER, "a thaw"), number(count, MAX_PROCESSES, "a thaw"))
    if parts[0] == 6:
        return _about(parts)
    raise InputError(f"there is no message {parts[0]}")


def _confirmed(parts: list[cbor.Value]) -> Confirmed:
    _, generation, tag, credited, drained, hooks, failed = members(parts, 7, "a confirmation")
    return Confirmed(
        number(generation, MAX_NUMBER, "a confirmation's generation", 1),
        blob(tag, CONFIRM_BYTES, "a confirmation"),
        _flag(credited),
        number(drained, MAX_NUMBER, "a confirmation's count"),
        number(hooks, MAX_HOOKS, "a confirmation's hooks"),
        number(failed, MAX_HOOKS, "a confirmation's hooks"),
    )


def _quiesced(parts: list[cbor.Value]) -> Quiesced:
    _, which, frozen, count, text = members(parts, 5, "an answer to a quiesce")
    processes = number(count, MAX_PROCESSES, "a quiesce's count")
    return Quiesced(number(which, MAX_NUMBER, "a quiesce"), _flag(frozen), processes, _text(text))


def _about(parts: list[cbor.Value]) -> About:
    _, helper, kernel, able = members(parts, 4, "what a guest says of itself")
    if not isinstance(able, list) or len(able) > 16:
        raise InputError("what a guest can do is a list of at most 16 words")
    return About(_text(helper), _text(kernel), tuple(_text(each) for each in able))


def _flag(untrusted: cbor.Value) -> bool:
    if not isinstance(untrusted, bool):
        raise InputError("something else stands where yes or no belongs")
    return untrusted


def _text(untrusted: cbor.Value) -> str:
    if not isinstance(untrusted, str) or len(untrusted) > MAX_TEXT_BYTES:
        raise InputError(f"something else stands where a text of at most {MAX_TEXT_BYTES} characters belongs")
    return untrusted
