"""Elements of sets and maps <-> netlink attributes; made for tens of thousands.

Source: include/uapi/linux/netfilter/nf_tables.h, enum nft_set_elem_attributes.
"""

from collections.abc import Iterable, Iterator, Mapping

from undercroft.adapters.netlinkcodec import MAX_ATTRIBUTE_BYTES, attribute, attributes, nested
from undercroft.adapters.nftables import fields, numbers
from undercroft.adapters.nftables.fields import Fields, UnknownShapeError
from undercroft.adapters.nftables.sets import MARK_BYTES, key_bytes
from undercroft.errors import InputError
from undercroft.firewall.kernel import SetDefinition, Verdict

Data = bytes | Verdict | None

MAX_LIST_BYTES = MAX_ATTRIBUTE_BYTES - 1024
"""Of the elements in one message, which are all in one attribute."""

_KEY_OFFSET = 8
"""Of a key in its element: after the headers of the key and of its value."""

_ELEMENT_WORDS = {
    numbers.ELEMENT_FLAGS: "elements with flags",
    7: "elements with expressions",
    9: "elements that refer to objects",
    10: "elements that are intervals",
    11: "elements with expressions",
}
_HARMLESS = {
    numbers.ELEMENT_TIMEOUT,
    numbers.ELEMENT_EXPIRATION,
    numbers.ELEMENT_USERDATA,
    numbers.ELEMENT_PAD,
}
"""Of an element: what an element that is gone had is not read, and what it carries for people is ignored."""


def element_lists(
    definition: SetDefinition, elements: Mapping[bytes, Data], timeout_ms: int = 0
) -> Iterator[bytes]:
    """Yield attributes ELEMENTS_LIST, as many as it takes to hold all elements.

    Args:
        definition: of their set.
        elements: any number.
        timeout_ms: after which they go; 0 for the set's own.

    Raises:
        InputError: a key or data is not as the set's definition says.
    """
    encoder = _Encoder(definition, timeout_ms)
    chunk: list[bytes] = []
    size = 0
    for key, data in elements.items():
        encoded = encoder.encode(key, data)
        size += len(encoded)
        if size > MAX_LIST_BYTES:
            yield nested(numbers.ELEMENTS_LIST, *chunk)
            chunk, size = [], len(encoded)
        chunk.append(encoded)
    if chunk:
        yield nested(numbers.ELEMENTS_LIST, *chunk)


def key_lists(definition: SetDefinition, keys: Iterable[bytes]) -> Iterator[bytes]:
    """Yield attributes ELEMENTS_LIST of keys without data. Raises InputError, see `element_lists`."""
    as_set = SetDefinition(definition.name, definition.key)
    return element_lists(as_set, dict.fromkeys(keys))


def decode_elements(lists: Iterable[bytes]) -> tuple[dict[bytes, Data], tuple[str, ...]]:
    """Return the elements in the kernel's lists, and in words what of them this version does not know.

    An element without a key, which stands for all others, has the key b"". Raises OperationError.
    """
    decoder = _Decoder()
    for listed in lists:
        for _, element in attributes(listed):
            decoder.decode(element)
    return decoder.elements, tuple(sorted(decoder.unknown))


class _Encoder:
    def __init__(self, definition: SetDefinition, timeout_ms: int) -> None:
        self._definition = definition
        self._timeout = fields.long(numbers.ELEMENT_TIMEOUT, timeout_ms) if timeout_ms else b""
        self._key_bytes = key_bytes(definition)
        self._frames: dict[Data, tuple[bytes, bytes]] = {}

    def encode(self, key: bytes, data: Data) -> bytes:
        """Return one element of a list."""
        if len(key) != self._key_bytes:
            raise InputError(
                f"set {self._definition.name!r}: key {key.hex()} of {len(key)} bytes; "
                f"{self._key_bytes} are expected"
            )
        frame = self._frames.get(data)
        if frame is None:
            frame = self._frames[data] = self._frame(data)
        return frame[0] + key + frame[1]

    def _frame(self, data: Data) -> tuple[bytes, bytes]:
        """Return what stands before and after each key that has this data."""
        encoded = self._encoded_data(data)
        key = fields.value(numbers.ELEMENT_KEY, bytes(self._key_bytes))
        element = nested(numbers.LIST_ELEMENT, key, encoded, self._timeout)
        start = _KEY_OFFSET + len(attribute(numbers.LIST_ELEMENT, b""))
        return element[:start], element[start + self._key_bytes :]

    def _encoded_data(self, data: Data) -> bytes:
        wanted = self._definition.data
        if data is None and not wanted:
            return b""
        if isinstance(data, Verdict) and wanted == "verdict":
            return nested(numbers.ELEMENT_DATA, fields.verdict_data(data))
        if isinstance(data, bytes) and wanted == "mark" and len(data) == MARK_BYTES:
            return fields.value(numbers.ELEMENT_DATA, data)
        raise InputError(
            f"set {self._definition.name!r}: {data!r} is no data of a map of {wanted or 'nothing'}"
        )


class _Decoder:
    def __init__(self) -> None:
        self.elements: dict[bytes, Data] = {}
        self.unknown: set[str] = set()
        self._data: dict[bytes, Data] = {}
        self._head = b""
        self._key_end = self._rest_at = 0

    def decode(self, element: bytes) -> None:
        """Take in one element of a list."""
        end = self._key_end
        if end and element[:_KEY_OFFSET] == self._head:
            key = element[_KEY_OFFSET:end]
            rest = element[self._rest_at :]
            if not rest:
                self.elements[key] = None
                return
            data = self._data.get(rest)
            if data is not None:
                self.elements[key] = data
                return
        self._decode_any(element)

    def _decode_any(self, element: bytes) -> None:
        given = Fields(element)
        if not given.has(numbers.ELEMENT_KEY):
            self.unknown.add("an element for all other keys")
            self.elements[b""] = None
            return
        key = given.value(numbers.ELEMENT_KEY)
        has_data = given.has(numbers.ELEMENT_DATA)
        data = self._decoded_data(given.raw(numbers.ELEMENT_DATA)) if has_data else None
        self.elements[key] = data
        given.ignore(*_HARMLESS)
        self.unknown.update(
            _ELEMENT_WORDS.get(kind, f"attribute {kind} of elements") for kind in given.left()
        )
        if not self.unknown:
            self._learn(element, key, data)

    def _learn(self, element: bytes, key: bytes, data: Data) -> None:
        """Remember the frame of an element, by which others like it are read without looking into each."""
        end = _KEY_OFFSET + len(key)
        rest_at = end + -len(key) % 4
        if element[_KEY_OFFSET:end] == key and not any(element[end:rest_at]):
            self._head, self._key_end, self._rest_at = element[:_KEY_OFFSET], end, rest_at
            if data is not None:
                self._data[element[rest_at:]] = data

    def _decoded_data(self, data: bytes) -> Data:
        try:
            return fields.decode_verdict(data)
        except UnknownShapeError:
            pass
        try:
            value = Fields(data).raw(numbers.DATA_VALUE)
        except UnknownShapeError:
            self.unknown.add("verdicts of a kind of their own")
            return data
        return value
