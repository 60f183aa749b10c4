"""Sets and maps <-> netlink attributes, one to one, but for their elements.

Source: include/uapi/linux/netfilter/nf_tables.h, enum nft_set_attributes; nf_tables_newset of Linux 6.18.
"""

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from undercroft.adapters.netlinkcodec import attribute, nested
from undercroft.adapters.nftables import fields, numbers
from undercroft.adapters.nftables.fields import Fields
from undercroft.errors import InputError
from undercroft.firewall.kernel import FIELD_BYTES, REGISTER_BYTES, SetDefinition

MARK_BYTES = 4

_USERDATA_KEY_ORDER, _USERDATA_DATA_ORDER = 0, 1
_NO_ORDER, _HOST_ORDER, _BIG_ENDIAN = 0, 1, 2
_HOST_ORDERED = frozenset({"ifname", "mark"})
_TYPE_NAMES: Mapping[int, str] = MappingProxyType({number: name for name, number in numbers.TYPES.items()})
_KNOWN_FLAGS = (
    numbers.ANONYMOUS
    | numbers.CONSTANT
    | numbers.MAP
    | numbers.TIMEOUT
    | numbers.DYNAMIC
    | numbers.CONCATENATION
)
_FLAG_WORDS = {
    numbers.INTERVAL: "intervals",
    numbers.OBJECT: "elements that refer to objects",
    numbers.EXPRESSION: "elements with expressions",
}
_ATTRIBUTE_WORDS = {
    numbers.SET_COLLECTION_INTERVAL: "a time of its own for taking away what has ended",
    numbers.SET_OBJECT_TYPE: "elements that refer to objects",
    numbers.SET_EXPRESSION: "expressions for each element",
    numbers.SET_EXPRESSIONS: "expressions for each element",
}
_HARMLESS = {
    numbers.SET_TABLE,
    numbers.SET_POLICY,
    numbers.SET_ID,
    numbers.SET_USERDATA,
    numbers.SET_PAD,
    numbers.SET_HANDLE,
    numbers.SET_TYPE,
    numbers.SET_COUNT,
}
"""Of a set: names and counts, how the kernel should store it, and what is there for people."""


def key_bytes(definition: SetDefinition) -> int:
    """Return the length of a set's keys. Raises InputError for a field that this version does not know."""
    if not 1 <= len(definition.key) <= numbers.MAX_FIELDS:
        raise InputError(
            f"set {definition.name!r} has {len(definition.key)} fields in its key; "
            f"1 to {numbers.MAX_FIELDS} can be"
        )
    for name in definition.key:
        if name not in FIELD_BYTES:
            raise InputError(
                f"set {definition.name!r}: {name!r} is no field; use one of {sorted(FIELD_BYTES)}"
            )
    lengths = [FIELD_BYTES[name] for name in definition.key]
    return lengths[0] if len(lengths) == 1 else sum(map(_padded, lengths))


def set_attributes(definition: SetDefinition, identity: int) -> bytes:
    """Return the attributes of a set, without those of its table.

    Args:
        definition: the set.
        identity: a number that no other set of the same batch has.

    Raises:
        InputError: a field, data or a number that this version does not know.
    """
    if definition.data not in {"", "mark", "verdict"}:
        raise InputError(f"set {definition.name!r}: data {definition.data!r}; there are mark and verdict")
    if definition.unknown:
        raise InputError(f"set {definition.name!r} has {definition.unknown[0]}, which cannot be made")
    key_type = 0
    for name in definition.key:
        key_type = key_type << numbers.TYPE_BITS | numbers.TYPES.get(name, 0)
    parts = [
        fields.text(numbers.SET_NAME, definition.name),
        fields.number(numbers.SET_ID, identity),
        fields.number(numbers.SET_KEY_LENGTH, key_bytes(definition)),
        fields.number(numbers.SET_KEY_TYPE, key_type),
        fields.number(numbers.SET_FLAGS, _flags(definition)),
        nested(numbers.SET_DESCRIPTION, *_description(definition)),
    ]
    if definition.data:
        mark = definition.data == "mark"
        data_type = numbers.TYPES["mark"] if mark else numbers.VERDICT_TYPE
        parts.append(fields.number(numbers.SET_DATA_TYPE, data_type))
        parts.append(fields.number(numbers.SET_DATA_LENGTH, MARK_BYTES if mark else 0))
    parts.append(attribute(numbers.SET_USERDATA, _byte_orders(definition)))
    if definition.timeout_ms:
        parts.append(fields.long(numbers.SET_TIMEOUT, definition.timeout_ms))
    return b"".join(parts)


def decode_set(data: bytes) -> SetDefinition:
    """Return a set; what of it this version does not know is named in its `unknown`.

    Raises OperationError for attributes that no kernel sends.
    """
    given = Fields(data)
    name = given.text(numbers.SET_NAME)
    flags = given.number(numbers.SET_FLAGS) if given.has(numbers.SET_FLAGS) else 0
    unknown = [_FLAG_WORDS.get(bit, f"flag {bit:#x}") for bit in _bits(flags & ~_KNOWN_FLAGS)]
    key = _key(given, unknown)
    timeout_ms = given.number(numbers.SET_TIMEOUT, 8) if given.has(numbers.SET_TIMEOUT) else 0
    if flags & numbers.TIMEOUT and not timeout_ms:
        unknown.append("a timeout of each element's own")
    kind, size = _data_name(given, flags, unknown), _size(given, unknown)
    given.ignore(*_HARMLESS)
    unknown += [_ATTRIBUTE_WORDS.get(number, f"attribute {number}") for number in given.left()]
    return SetDefinition(
        name,
        key,
        kind,
        size,
        bool(flags & numbers.DYNAMIC),
        timeout_ms,
        bool(flags & numbers.ANONYMOUS),
        tuple(unknown),
    )


def _padded(size: int) -> int:
    return size + -size % REGISTER_BYTES


def _flags(definition: SetDefinition) -> int:
    return (
        (numbers.ANONYMOUS | numbers.CONSTANT if definition.anonymous else 0)
        | (numbers.MAP if definition.data else 0)
        | (numbers.TIMEOUT if definition.timeout_ms else 0)
        | (numbers.DYNAMIC if definition.dynamic else 0)
        | (numbers.CONCATENATION if len(definition.key) > 1 else 0)
    )


def _byte_orders(definition: SetDefinition) -> bytes:
    """Return what `nft list` wants to know to show keys and data; the kernel does not look at it."""
    orders = {_USERDATA_KEY_ORDER: _HOST_ORDER if definition.key[0] in _HOST_ORDERED else _BIG_ENDIAN}
    if len(definition.key) > 1:
        orders[_USERDATA_KEY_ORDER] = _NO_ORDER
    if definition.data == "mark":
        orders[_USERDATA_DATA_ORDER] = _HOST_ORDER
    return b"".join(struct.pack("=BBI", kind, 4, order) for kind, order in orders.items())


def _description(definition: SetDefinition) -> list[bytes]:
    parts = [fields.number(numbers.DESCRIPTION_SIZE, definition.size)] if definition.size else []
    if len(definition.key) > 1:
        lengths = [
            nested(numbers.LIST_ELEMENT, fields.number(numbers.FIELD_LENGTH, FIELD_BYTES[name]))
            for name in definition.key
        ]
        parts.append(nested(numbers.DESCRIPTION_CONCATENATION, *lengths))
    return parts


def _bits(number: int) -> Iterator[int]:
    while number:
        yield number & -number
        number &= number - 1


def _key(given: Fields, unknown: list[str]) -> tuple[str, ...]:
    number = given.number(numbers.SET_KEY_TYPE) if given.has(numbers.SET_KEY_TYPE) else 0
    length = given.number(numbers.SET_KEY_LENGTH)
    types: list[int] = []
    while number:
        types.insert(0, number & (1 << numbers.TYPE_BITS) - 1)
        number >>= numbers.TYPE_BITS
    names = tuple(_TYPE_NAMES.get(kind, f"type {kind}") for kind in types)
    sizes = [FIELD_BYTES.get(name, 0) for name in names]
    kept = sizes[0] if len(sizes) == 1 else sum(_padded(size) for size in sizes)
    if not all(sizes) or kept != length:
        unknown.append(f"a key of {length} bytes of {' . '.join(names) or 'no type'}")
    return names


def _data_name(given: Fields, flags: int, unknown: list[str]) -> str:
    if not flags & numbers.MAP:
        return ""
    kind = given.number(numbers.SET_DATA_TYPE)
    length = given.number(numbers.SET_DATA_LENGTH) if given.has(numbers.SET_DATA_LENGTH) else 0
    if kind == numbers.VERDICT_TYPE:
        return "verdict"
    if (kind, length) == (numbers.TYPES["mark"], MARK_BYTES):
        return "mark"
    unknown.append(f"data of type {kind}")
    return f"type {kind}"


def _size(given: Fields, unknown: list[str]) -> int:
    if not given.has(numbers.SET_DESCRIPTION):
        return 0
    description = Fields(given.raw(numbers.SET_DESCRIPTION))
    size = description.number(numbers.DESCRIPTION_SIZE) if description.has(numbers.DESCRIPTION_SIZE) else 0
    description.ignore(numbers.DESCRIPTION_CONCATENATION)
    unknown += [f"attribute {kind} of its description" for kind in description.left()]
    return size
