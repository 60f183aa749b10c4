"""What a table may be made of at all: looked at before anything is proven of its rules and contents.

The model knows tables that filter and nothing else: no flags, no chain made for one rule, sets whose elements
stay until they are taken away, and a few sets that packets write themselves. All else fails the proof here,
also where no rule leads to it: what is not known is not harmless.
"""

from collections.abc import Collection, Mapping

from undercroft.errors import UnsupportedError
from undercroft.firewall.kernel import FIELD_BYTES, Chain, SetDefinition, Table, Unknown
from undercroft.firewall.registers import key_bytes

WRITTEN = {
    "asked": 6,
    "flows4": 20,
    "flows6": 44,
    "tries4": 20,
    "tries6": 44,
    "tries-rate4": 8,
    "tries-rate6": 20,
    "knocks4": 20,
    "knocks6": 44,
    "knocks-rate4": 8,
    "knocks-rate6": 20,
    "echoes4": 12,
    "echoes6": 36,
    "pieces4": 16,
    "pieces6": 40,
}
"""Sets that packets write -> bytes of their keys: a MAC; addresses, protocol and ports; a mark and an
address; addresses and ids."""

_FLAGS = {1: "it is dormant and filters nothing", 2: "it goes with the process that has made it"}
_CURE = "apply the policy again"


def check_shape(table: Table, static: Mapping[str, Collection[bytes]]) -> None:
    """Check that a table is made of nothing but what the model knows.

    Args:
        table: as it was read from the kernel; it may be anything.
        static: sets whose contents follow from policy and fleet -> the keys that they are to have.

    Raises:
        UnsupportedError: the first thing that it should not have, and what to do.
    """
    for bit in range(table.flags.bit_length()):
        if table.flags >> bit & 1:
            told = _FLAGS.get(1 << bit, f"it has the flag {1 << bit:#x}, which the proof does not know")
            raise UnsupportedError(f"table {table.name}: {told}: {_CURE}")
    if len({chain.name for chain in table.chains}) != len(table.chains) or (
        len({definition.name for definition in table.sets}) != len(table.sets)
    ):
        raise UnsupportedError(f"table {table.name}: two chains or two sets have one name: read it again")
    for definition in table.sets:
        _check_set(definition, static)
    for name in sorted(static.keys() - {definition.name for definition in table.sets}):
        raise UnsupportedError(f"set {name}: it is not in the table: {_CURE}")
    for chain in table.chains:
        _check_chain(chain)


def _check_set(definition: SetDefinition, static: Mapping[str, Collection[bytes]]) -> None:
    name = definition.name
    key = next(iter(static.get(name, ())), None)
    written = name in WRITTEN and name not in static
    wrong = ""
    if definition.unknown:
        wrong = f"it has {', '.join(definition.unknown)}, which the proof does not know"
    elif not written and name not in static:
        wrong = "it is none of the policy's"
    elif definition.anonymous:
        wrong = "it was made for one rule"
    elif not definition.size:
        wrong = "it says no size"
    elif definition.dynamic is not written:
        wrong = "packets write it" if definition.dynamic else "no packet can write it"
    elif bool(definition.timeout_ms) is not written:
        wrong = "its elements end by themselves" if definition.timeout_ms else "its elements never end"
    elif written and (definition.data or _key_bytes(definition) != WRITTEN[name]):
        wrong = "its elements are none that the rules write"
    elif key is not None and _key_bytes(definition) != len(key):
        wrong = "its keys have another size"
    if wrong:
        raise UnsupportedError(f"set {name}: {wrong}: {_CURE}")


def _key_bytes(definition: SetDefinition) -> int:
    return key_bytes(definition) if all(name in FIELD_BYTES for name in definition.key) else 0


def _check_chain(chain: Chain) -> None:
    if chain.unknown:
        told = ", ".join(chain.unknown)
        raise UnsupportedError(f"chain {chain.name}: it has {told}, which the proof does not know: {_CURE}")
    if chain.bound:
        raise UnsupportedError(f"chain {chain.name}: it was made for one rule: {_CURE}")
    for place, rule in enumerate(chain.rules, 1):
        for expression in rule.expressions:
            if isinstance(expression, Unknown):
                raise UnsupportedError(
                    f"chain {chain.name}, rule {place}: {expression.name!r} is an expression that the proof "
                    "does not know: nothing is proven while it stands there"
                )
