"""What the codec reads and writes: attributes by type, each taken once, with numbers in network order."""

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from undercroft.adapters.netlinkcodec import attribute, attributes, nested
from undercroft.adapters.nftables import numbers
from undercroft.errors import InputError, OperationError
from undercroft.firewall.kernel import REGISTERS, Code, Verdict

T = TypeVar("T")

_FIRST_REGISTER = 8
_WIDE_REGISTERS = range(1, 5)
"""Four registers of 16 bytes, which are the sixteen of 4 bytes under older numbers."""
_VERDICT_REGISTER = struct.pack(">I", numbers.VERDICT_REGISTER)
_CODES: Mapping[int, Code] = MappingProxyType({number: code for code, number in numbers.CODES.items()})


class UnknownShapeError(OperationError):
    """Attributes that no value of this model stands for: of a rule they make an Unknown."""

    def __init__(self, what: str = "an unknown value") -> None:
        super().__init__(f"nftables: the kernel sent {what}, which this version cannot read")


class Fields:
    """Attributes of one object, each taken once, so that what is left over can be told."""

    def __init__(self, data: bytes) -> None:
        """Raises UnknownShapeError for attributes that are malformed or there twice."""
        self._values: dict[int, bytes] = {}
        try:
            for kind, value in attributes(data):
                if kind in self._values:
                    raise UnknownShapeError(f"attribute {kind} twice")
                self._values[kind] = value
        except OperationError as error:
            raise UnknownShapeError("malformed attributes") from error

    def has(self, kind: int) -> bool:
        """Return whether an attribute is there and not yet taken."""
        return kind in self._values

    def raw(self, kind: int) -> bytes:
        """Take an attribute. Raises UnknownShapeError without it."""
        try:
            return self._values.pop(kind)
        except KeyError:
            raise UnknownShapeError(f"no attribute {kind}") from None

    def number(self, kind: int, size: int = 4) -> int:
        """Take a number of `size` bytes. Raises UnknownShapeError."""
        value = self.raw(kind)
        if len(value) != size:
            raise UnknownShapeError(f"attribute {kind} of {len(value)} bytes")
        return int.from_bytes(value, "big")

    def text(self, kind: int) -> str:
        """Take a name. Raises UnknownShapeError for one that is no UTF-8 or has a zero within."""
        value = self.raw(kind)
        if not value.endswith(b"\0") or b"\0" in value[:-1]:
            raise UnknownShapeError(f"attribute {kind} is no name")
        try:
            return value[:-1].decode()
        except UnicodeDecodeError as error:
            raise UnknownShapeError(f"attribute {kind} is no UTF-8") from error

    def value(self, kind: int) -> bytes:
        """Take constant bytes. Raises UnknownShapeError."""
        inner = Fields(self.raw(kind))
        value = inner.raw(numbers.DATA_VALUE)
        inner.finish()
        return value

    def register(self, kind: int) -> int:
        """Take a register, as one of 0 to 15. Raises UnknownShapeError for another, as that of verdicts."""
        number = self.number(kind)
        if number in _WIDE_REGISTERS:
            return (number - 1) * 4
        if _FIRST_REGISTER <= number < _FIRST_REGISTER + REGISTERS:
            return number - _FIRST_REGISTER
        raise UnknownShapeError(f"register {number}")

    def register_or_verdict(self, kind: int) -> int | None:
        """Take a register, None for that of verdicts. Raises UnknownShapeError for any other number."""
        if self._values.get(kind) == _VERDICT_REGISTER:
            del self._values[kind]
            return None
        return self.register(kind)

    def ignore(self, *kinds: int) -> None:
        """Take attributes that have no meaning, where they are there."""
        for kind in kinds:
            self._values.pop(kind, None)

    def left(self) -> tuple[int, ...]:
        """Return the types of the attributes that were not taken."""
        return tuple(self._values)

    def finish(self) -> None:
        """Raise UnknownShapeError if anything was not taken."""
        if self._values:
            raise UnknownShapeError(f"also attributes {sorted(self._values)}")


def verdict_data(verdict: Verdict) -> bytes:
    """Return the attribute of a verdict within data."""
    parts = [attribute(numbers.VERDICT_CODE, struct.pack(">I", numbers.CODES[verdict.code]))]
    if verdict.chain:
        parts.append(attribute(numbers.VERDICT_CHAIN, verdict.chain.encode() + b"\0"))
    return nested(numbers.DATA_VERDICT, *parts)


def decode_verdict(data: bytes) -> Verdict:
    """Return the verdict that these attributes of data are. Raises UnknownShapeError for any other data."""
    outer = Fields(data)
    fields = Fields(outer.raw(numbers.DATA_VERDICT))
    outer.finish()
    code = known(_CODES, fields.number(numbers.VERDICT_CODE))
    jumps = code in {Code.JUMP, Code.GOTO}
    chain = fields.text(numbers.VERDICT_CHAIN) if jumps else ""
    fields.finish()
    return Verdict(code, chain)


def register(kind: int, index: int) -> bytes:
    """Return the attribute of a register. Raises InputError for one that there is not."""
    if not 0 <= index < REGISTERS:
        raise InputError(f"register {index}: there are 0 to {REGISTERS - 1}")
    return number(kind, _FIRST_REGISTER + index)


def number(kind: int, value: int) -> bytes:
    """Return the attribute of a number of 4 bytes. Raises struct.error for a larger one."""
    return attribute(kind, struct.pack(">I", value))


def long(kind: int, value: int) -> bytes:
    """Return the attribute of a number of 8 bytes. Raises struct.error for a larger one."""
    return attribute(kind, struct.pack(">Q", value))


def text(kind: int, name: str) -> bytes:
    """Return the attribute of a name."""
    return attribute(kind, name.encode() + b"\0")


def value(kind: int, constant: bytes) -> bytes:
    """Return the attribute of constant bytes."""
    return nested(kind, attribute(numbers.DATA_VALUE, constant))


def known(values: Mapping[int, T], number: int) -> T:
    """Return the value of a number. Raises UnknownShapeError for one that has none."""
    try:
        return values[number]
    except KeyError:
        raise UnknownShapeError(f"number {number}") from None
