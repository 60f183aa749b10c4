"""What the kernel has: generations, names of tables, and a table with everything in it, of one generation.

Every dump says in each message of which generation it is (its low 16 bits) and whether the generation changed
while it ran; the whole number is asked for before and after all dumps of one table.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from undercroft.adapters.netlinkcodec import attributes, nested
from undercroft.adapters.nftables import codec, fields, numbers
from undercroft.adapters.nftables.bystander import Bystander
from undercroft.adapters.nftables.elements import Data, decode_elements, key_lists
from undercroft.adapters.nftables.fields import Fields
from undercroft.adapters.nftables.sets import decode_set
from undercroft.adapters.nftables.wire import Channel, InterruptedDumpError, Request, generation_of
from undercroft.errors import NotFoundError, OperationError
from undercroft.firewall.kernel import Chain, Rule, Ruleset, SetDefinition, Table
from undercroft.ports.packetfilter import TableName

_ANY_FAMILY = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose elements to read: of these sets, of all where it is None; or of those that no packet writes."""

    sets: Collection[str] | None = None
    written: bool = True

    def has(self, definition: SetDefinition) -> bool:
        """Tell whether a set's are wanted."""
        return self._names(definition) and (self.written or not definition.dynamic)

    def leaves_out(self, definition: SetDefinition) -> bool:
        """Tell whether a set's are not wanted only because packets write them."""
        return self._names(definition) and not self.has(definition)

    def _names(self, definition: SetDefinition) -> bool:
        return self.sets is None or definition.name in self.sets


def read_generation(channel: Channel) -> int:
    """Return the number of the present generation. Raises DeniedError, OperationError."""
    request = Request(numbers.GET_GENERATION, 0, b"", "the generation", _ANY_FAMILY)
    return generation_of(channel.ask(request))


def read_tables(channel: Channel) -> tuple[TableName, ...]:
    """Return all tables of all families, by family and name. Raises as `Channel.dump` does."""
    names = set()
    request = Request(numbers.GET_TABLE, 0, b"", "the tables", _ANY_FAMILY)
    for family, data in channel.dump_families(request):
        name = Fields(data).text(numbers.TABLE_NAME)
        names.add(TableName(numbers.FAMILIES.get(family, f"family {family}"), name))
    return tuple(sorted(names, key=lambda table: (table.family, table.name)))


def read_among_others(channel: Channel, name: str, wanted: Wanted, bystander: Bystander) -> Ruleset:
    """Return the same as `read_ruleset`, however often others change their own tables meanwhile.

    Args:
        channel: to ask with.
        name: of the table.
        wanted: which elements.
        bystander: of this table, from before.

    Raises:
        NotFoundError: there is no such table.
        InterruptedDumpError: somebody changed it, or chains or tables came or went.
        DeniedError, OperationError: see `Channel`.
    """
    channel.forgiving = True
    try:
        found = _read(channel, name, wanted)
        # What happens after this is another generation's, and what came before is in what was read.
        generation = read_generation(channel)
    except NotFoundError:
        if bystander.calm(channel):
            raise
        raise _changed(name) from None
    finally:
        channel.forgiving = False
    if not bystander.calm(channel):
        raise _changed(name)
    return replace(found, generation=generation)


def read_ruleset(channel: Channel, name: str, wanted: Wanted) -> Ruleset:
    """Return a table with the wanted elements.

    Raises:
        NotFoundError: there is no such table.
        InterruptedDumpError: tables changed meanwhile.
        DeniedError, OperationError: see `Channel`.
    """
    generation = read_generation(channel)
    # A transaction bears its number before all that it brings is there: one that is under way ends first.
    channel.settle()
    try:
        found = _read(channel, name, wanted)
    except NotFoundError:
        if read_generation(channel) == generation:
            raise
        raise _changed(name) from None
    if read_generation(channel) != generation:
        raise _changed(name)
    return replace(found, generation=generation)


def find_elements(
    channel: Channel, table: str, definition: SetDefinition, keys: Collection[bytes]
) -> dict[bytes, Data]:
    """Return those of the keys that a set has, with their data. Raises InputError, NotFoundError."""
    found: dict[bytes, Data] = {}
    missing = False
    head = codec.elements_head(table, definition.name)
    what = f"set {definition.name!r} of table {table!r}"
    for key in keys:
        (listed,) = key_lists(definition, [key])
        try:
            answer = channel.ask(Request(numbers.GET_ELEMENT, 0, head + listed, what))
        except NotFoundError:
            missing = True
            continue
        elements, unknown = decode_elements([Fields(answer).raw(numbers.ELEMENTS_LIST)])
        if unknown:
            raise OperationError(f"nftables: {what}: key {key.hex()} has {unknown[0]}; read the whole set")
        found |= elements
    if missing:
        body = fields.text(numbers.SET_TABLE, table) + fields.text(numbers.SET_NAME, definition.name)
        channel.ask(Request(numbers.GET_SET, 0, body, what))
    return found


def _read(channel: Channel, name: str, wanted: Wanted) -> Ruleset:
    flags = _flags(channel, name)
    chains = _chains(channel, name)
    definitions = _sets(channel, name)
    elements: dict[str, Mapping[bytes, Data]] = {}
    for index, definition in enumerate(definitions):
        if wanted.has(definition):
            elements[definition.name], unknown = _elements(channel, name, definition)
            definitions[index] = replace(definition, unknown=definition.unknown + unknown)
        elif wanted.leaves_out(definition):
            unknown = _element_for_all(channel, name, definition)
            definitions[index] = replace(definition, unknown=definition.unknown + unknown)
    return Ruleset(Table(name, tuple(definitions), chains, flags), elements)


def _changed(name: str) -> InterruptedDumpError:
    return InterruptedDumpError(f"nftables: table {name!r} changed while it was read")


def _flags(channel: Channel, name: str) -> int:
    return Fields(channel.ask(codec.get_table(name))).number(numbers.TABLE_FLAGS)


def _chains(channel: Channel, table: str) -> tuple[Chain, ...]:
    # The kernel gives the chains of all tables of the family, whatever was asked for.
    everywhere = map(codec.decode_chain, channel.dump(Request(numbers.GET_CHAIN, 0, b"", "the chains")))
    chains = {chain.name: chain for owner, chain in everywhere if owner == table}
    rules: dict[str, list[Rule]] = {name: [] for name in chains}
    request = Request(
        numbers.GET_RULE, 0, fields.text(numbers.RULE_TABLE, table), f"rules of table {table!r}"
    )
    for data in channel.dump(request):
        chain, rule = codec.decode_rule(data)
        if chain not in rules:
            raise InterruptedDumpError(f"nftables: chain {chain!r} of {table!r} was made while it was read")
        rules[chain].append(rule)
    return tuple(replace(chains[name], rules=tuple(rules[name])) for name in sorted(chains))


def _sets(channel: Channel, table: str) -> list[SetDefinition]:
    request = Request(numbers.GET_SET, 0, fields.text(numbers.SET_TABLE, table), f"sets of table {table!r}")
    return sorted(map(decode_set, channel.dump(request)), key=lambda definition: definition.name)


def _elements(
    channel: Channel, table: str, definition: SetDefinition
) -> tuple[dict[bytes, Data], tuple[str, ...]]:
    what = f"set {definition.name!r} of table {table!r}"
    request = Request(numbers.GET_ELEMENT, 0, codec.elements_head(table, definition.name), what)
    return decode_elements(_lists(channel.dump(request)))


def _element_for_all(channel: Channel, table: str, definition: SetDefinition) -> tuple[str, ...]:
    """Tell in words that a set has an element for all keys, which no packet writes; () where it has not."""
    flags = fields.number(numbers.ELEMENT_FLAGS, numbers.FOR_ALL_KEYS)
    listed = nested(numbers.ELEMENTS_LIST, nested(numbers.LIST_ELEMENT, flags))
    what = f"set {definition.name!r} of table {table!r}"
    body = codec.elements_head(table, definition.name) + listed
    try:
        answer = channel.ask(Request(numbers.GET_ELEMENT, 0, body, what))
    except NotFoundError:
        return ()
    return decode_elements([Fields(answer).raw(numbers.ELEMENTS_LIST)])[1]


def _lists(answers: list[bytes]) -> Iterator[bytes]:
    for answer in answers:
        for kind, value in attributes(answer):
            if kind == numbers.ELEMENTS_LIST:
                yield value
