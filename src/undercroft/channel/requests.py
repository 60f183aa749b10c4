"""What a guest may ask of its vault, and the answers, as values.

A request is its operation and arguments; its number is that of the batch's first plus its place. An answer is
its outcome, what it rests on, and values. Both are arrays on the line, checked member by member against one
table, so that what is not in the table is refused before the vault sees it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from undercroft.channel import cbor
from undercroft.channel.frames import number
from undercroft.errors import InputError

MAX_BATCH = 64
MAX_NAME_BYTES = 128
MAX_ENTRY_BYTES = 4_096
MAX_BLOB_BYTES = 32_768
MAX_RANDOM_BYTES = 1_024
MAX_RESERVED = 1 << 20
MAX_NUMBER = (1 << 63) - 1
MAX_TEXT_BYTES = 400
DIGEST_BYTES = 32
READER_NONCE_BYTES = 16
MAX_ANSWER_VALUES = 4

Argument: TypeAlias = "int | bytes | bool"


class Operation(IntEnum):
    """What is asked for; the comment says which arguments it has and which values its answer."""

    INCREMENT = 1  # name, how many -> the first of so many values in a row that are the caller's now
    COUNTER = 2  # name -> its value
    SPEND = 3  # name, whether it waits for the anchor -> nothing: it was never spent before
    APPEND = 4  # name, height and head that are expected, entry -> height, head
    LATEST = 5  # name, the caller's nonce -> height, head, entry, the nonce again
    SEAL = 6  # name, the version that is expected (0: none yet), data -> version
    UNSEAL = 7  # name, version or 0 for the latest -> version, data
    SIGN = 8  # name of a key, SHA-256 -> signature
    PUBLIC = 9  # name of a key -> public key
    GUARD = 10  # name -> whether it still holds
    REVOKE = 11  # name -> nothing
    RANDOM = 12  # how many bytes -> as many
    STATUS = 13  # -> text


class Outcome(IntEnum):
    """How a request ended. All but `OK` have changed nothing, and have one text as their value."""

    OK = 0
    REFUSED = 1  # spent, revoked, another height
    FENCED = 2  # another execution of this machine holds the vault
    UNKNOWN = 3  # no such name
    MALFORMED = 4
    BUSY = 5  # more in flight than is allowed
    UNSUPPORTED = 6
    VOID = 7  # was acknowledged once, and lost with the host's disk
    FAILED = 8  # the host's disk or TPM


class Rests(IntEnum):
    """What an acknowledgement rests on (ADR 7, the vault)."""

    NOTHING = 0
    SYNCED = 1
    ANCHORED = 2
    QUORUM = 3


@dataclass(frozen=True, slots=True)
class _Limit:
    """What an argument may be: a type, and the least and most of its length, or of itself."""

    name: str
    kind: type[Argument]
    least: int
    most: int


_NAME = _Limit("name", bytes, 1, MAX_NAME_BYTES)
_ENTRY = _Limit("entry", bytes, 0, MAX_ENTRY_BYTES)
_BLOB = _Limit("blob", bytes, 0, MAX_BLOB_BYTES)
_HEAD = _Limit("head", bytes, DIGEST_BYTES, DIGEST_BYTES)
_DIGEST = _Limit("digest", bytes, DIGEST_BYTES, DIGEST_BYTES)
_NONCE = _Limit("nonce", bytes, READER_NONCE_BYTES, READER_NONCE_BYTES)
_COUNT = _Limit("count", int, 1, MAX_RESERVED)
_NUMBER = _Limit("number", int, 0, MAX_NUMBER)
_SIZE = _Limit("size", int, 1, MAX_RANDOM_BYTES)
_FLAG = _Limit("yes or no", bool, 0, 1)
_ARGUMENTS: dict[int, tuple[_Limit, ...]] = {
    Operation.INCREMENT: (_NAME, _COUNT),
    Operation.COUNTER: (_NAME,),
    Operation.SPEND: (_NAME, _FLAG),
    Operation.APPEND: (_NAME, _NUMBER, _HEAD, _ENTRY),
    Operation.LATEST: (_NAME, _NONCE),
    Operation.SEAL: (_NAME, _NUMBER, _BLOB),
    Operation.UNSEAL: (_NAME, _NUMBER),
    Operation.SIGN: (_NAME, _DIGEST),
    Operation.PUBLIC: (_NAME,),
    Operation.GUARD: (_NAME,),
    Operation.REVOKE: (_NAME,),
    Operation.RANDOM: (_SIZE,),
    Operation.STATUS: (),
}
_OPERATIONS = {int(each): each for each in Operation}


@dataclass(frozen=True, slots=True)
class Request:
    """One thing that a guest asks for.

    Attributes:
        operation: what is asked.
        arguments: as the table has them, within its limits.
    """

    operation: Operation
    arguments: tuple[Argument, ...]

    def encode(self) -> bytes:
        """Return the one encoding of this request: what a record compares a repeated number with."""
        return cbor.encode([int(self.operation), *self.arguments])


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request ended, what that rests on, and its values: a text where the outcome is not `OK`."""

    outcome: Outcome
    rests: Rests = Rests.NOTHING
    values: tuple[int | bytes | bool | str, ...] = ()


def read_request(untrusted: cbor.Value) -> Request:
    """Return a request. Raises InputError for an operation, a count, a type or a size outside the table."""
    if not isinstance(untrusted, list) or not untrusted or type(untrusted[0]) is not int:
        raise InputError("a request is an array that begins with its operation")
    kinds = _ARGUMENTS.get(untrusted[0])
    if kinds is None:
        raise InputError(f"there is no operation {untrusted[0]}")
    operation = _OPERATIONS[untrusted[0]]
    if len(untrusted) != len(kinds) + 1:
        raise InputError(f"{operation.name} has {len(kinds)} arguments: {len(untrusted) - 1} were found")
    arguments: list[Argument] = []
    for limit, argument in zip(kinds, untrusted[1:], strict=True):
        if isinstance(argument, bytes):
            fits = limit.kind is bytes and limit.least <= len(argument) <= limit.most
        elif isinstance(argument, int):  # a bool too, which only `type` tells apart
            fits = limit.kind is type(argument) and limit.least <= argument <= limit.most
        else:
            fits = False
        if not fits:
            raise InputError(f"the {limit.name} of {operation.name} is outside {limit.least} to {limit.most}")
        arguments.append(argument)
    return Request(operation, tuple(arguments))


def write_answer(answer: Answer) -> cbor.Value:
    """Return an answer as it goes on the line. Raises InputError for more values than an answer has."""
    if len(answer.values) > MAX_ANSWER_VALUES:
        raise InputError(f"an answer has at most {MAX_ANSWER_VALUES} values")
    return [int(answer.outcome), int(answer.rests), *answer.values]


def read_batch(untrusted_first: cbor.Value, untrusted_list: cbor.Value) -> tuple[int, tuple[Request, ...]]:
    """Return a batch: the number of its first request, and 1 to `MAX_BATCH` requests. Raises InputError."""
    first = number(untrusted_first, MAX_NUMBER - MAX_BATCH, "a request's number", 1)
    if not isinstance(untrusted_list, list) or not 0 < len(untrusted_list) <= MAX_BATCH:
        raise InputError(f"a batch has 1 to {MAX_BATCH} requests")
    return first, tuple(read_request(each) for each in untrusted_list)


def write_batch(answers: Sequence[Answer]) -> list[cbor.Value]:
    """Return the answers to consecutive requests as they go on the line. Raises InputError."""
    if not 0 < len(answers) <= MAX_BATCH:
        raise InputError(f"a batch has 1 to {MAX_BATCH} answers: {len(answers)} were given")
    return [write_answer(each) for each in answers]
