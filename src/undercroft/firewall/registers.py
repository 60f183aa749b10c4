"""Registers of nf_tables: bytes that fill whole registers, keys of sets as they stand there, comparisons.

Source: include/net/netfilter/nf_tables.h, net/netfilter/nft_cmp.c.
"""

from undercroft.firewall.kernel import FIELD_BYTES, REGISTER_BYTES, REGISTERS, Operator, SetDefinition

FILE_BYTES = REGISTERS * REGISTER_BYTES
"""All registers together."""


def padded(data: bytes) -> bytes:
    """Return data with zeros up to the end of its last register."""
    return data + bytes(-len(data) % REGISTER_BYTES)


def key_bytes(definition: SetDefinition) -> int:
    """Return how many bytes a set's key has: of one field its own, of several those of their registers.

    Raises:
        KeyError: a field that `FIELD_BYTES` does not have.
    """
    lengths = [FIELD_BYTES[name] for name in definition.key]
    return lengths[0] if len(lengths) == 1 else sum(size + -size % REGISTER_BYTES for size in lengths)


class Registers:
    """The registers of one packet, zeros at first."""

    def __init__(self) -> None:
        self._bytes = bytearray(FILE_BYTES)

    def read(self, register: int, length: int) -> bytes:
        """Return bytes from the start of a register on."""
        start = register * REGISTER_BYTES
        return bytes(self._bytes[start : start + length])

    def write(self, register: int, data: bytes) -> None:
        """Put bytes there; the rest of the last register becomes zero."""
        start, whole = register * REGISTER_BYTES, padded(data)
        self._bytes[start : start + len(whole)] = whole


def compares(value: bytes, operator: Operator, data: bytes) -> bool:
    """Tell whether bytes compare so with others of their length, the first being the highest."""
    match operator:
        case Operator.EQUAL:
            return value == data
        case Operator.UNEQUAL:
            return value != data
        case Operator.LESS:
            return value < data
        case Operator.LESS_OR_EQUAL:
            return value <= data
        case Operator.GREATER:
            return value > data
        case Operator.GREATER_OR_EQUAL:
            return value >= data
