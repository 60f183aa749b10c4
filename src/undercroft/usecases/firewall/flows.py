"""What the dynamic sets remember of a machine's flows, for the host that the machine moves to.

An answer passes where its flow is remembered and the policy lets its receiver open it. So what another host
says of flows can let an answer by that nobody asked for, on a way that is allowed; it never opens a way. What
it says of machines that are not ours is left out.
"""

from collections.abc import Iterable, Mapping
from itertools import islice

from undercroft.errors import InputError
from undercroft.firewall.elements import Data
from undercroft.firewall.fleet import Port
from undercroft.firewall.kernel import FIELD_BYTES, SetDefinition, Table
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.reaching import DHCP_TIMEOUT_MS
from undercroft.firewall.registers import key_bytes
from undercroft.firewall.tracking import ECHO_TIMEOUT_MS, FRAGMENT_TIMEOUT_MS

Keys = Mapping[str, tuple[bytes, ...]]

MAX_MOVED = 1 << 16
"""Keys of one machine: what is beyond is not moved, and refused where it comes from another host."""

_TCP = 6
_MOVING = ("flows", "echoes", "pieces", "asked")
_ADDRESSES = frozenset({"ipv4_addr", "ipv6_addr"})


def moving(table: Table) -> tuple[SetDefinition, ...]:
    """Return the sets that go with a machine, flows first.

    Openings that nobody has answered yet do not: who opens does so again, and others make them many.
    """
    found = (one for one in table.sets if one.dynamic and one.name.rstrip("46") in _MOVING)
    return tuple(sorted(found, key=lambda one: (_MOVING.index(one.name.rstrip("46")), one.name)))


def flows_about(
    table: Table, elements: Mapping[str, Mapping[bytes, Data]], ports: Iterable[Port]
) -> dict[str, tuple[bytes, ...]]:
    """Return set name -> keys of the sets that go with a machine, about its ports' addresses or MACs.

    Args:
        table: for its sets.
        elements: theirs.
        ports: the machine's.
    """
    mine = _named(ports)
    found: dict[str, tuple[bytes, ...]] = {}
    room = MAX_MOVED
    for definition in moving(table):
        about = (key for key in elements.get(definition.name, {}) if mine & set(_parties(definition, key)))
        keys = tuple(islice(about, room))
        room -= len(keys)
        if keys:
            found[definition.name] = keys
    return found


def taken_in(
    table: Table, policy: FirewallPolicy, ports: Iterable[Port], untrusted: Keys
) -> dict[str, dict[bytes, int]]:
    """Return set name -> key -> timeout in ms of what another host says of these ports, flows first.

    Args:
        table: for its sets; what is said of others is left out.
        policy: for timeouts.
        ports: that may be meant.
        untrusted: what the other host says.

    Raises:
        InputError: more than `MAX_MOVED` keys, or one that is no key of its set.
    """
    mine = _named(ports)
    if sum(map(len, untrusted.values())) > MAX_MOVED:
        raise InputError(f"flows of another host: more than {MAX_MOVED:,} of one machine")
    found: dict[str, dict[bytes, int]] = {}
    for definition in moving(table):
        for key in untrusted.get(definition.name, ()):
            if len(key) != key_bytes(definition):
                raise InputError(
                    f"flows of another host: set {definition.name}: a key of {len(key)} bytes; "
                    f"{key_bytes(definition)} are expected"
                )
            if mine & set(_parties(definition, key)):
                found.setdefault(definition.name, {})[key] = _timeout_ms(definition, policy, key)
    return found


def _named(ports: Iterable[Port]) -> set[bytes]:
    found: set[bytes] = set()
    for port in ports:
        found.add(port.mac)
        found.update(address.packed for address in port.ipv4)
        found.update(address.packed for address in port.all_ipv6)
    return found


def _parties(definition: SetDefinition, key: bytes) -> tuple[bytes, ...]:
    """Return whom a key is about: a MAC, or the two addresses that it begins with."""
    if definition.key == ("ether_addr",):
        return (key,)
    if len(definition.key) > 1 and definition.key[0] == definition.key[1] and definition.key[0] in _ADDRESSES:
        width = FIELD_BYTES[definition.key[0]]
        return key[:width], key[width : 2 * width]
    return ()


def _timeout_ms(definition: SetDefinition, policy: FirewallPolicy, key: bytes) -> int:
    """Return for how long the rules remember it. See `tracking`, `reaching`."""
    kind = definition.name.rstrip("46")
    if kind == "flows":
        tcp = key[2 * FIELD_BYTES[definition.key[0]]] == _TCP
        return (policy.tcp_state_s if tcp else policy.other_state_s) * 1000
    fixed = {"echoes": ECHO_TIMEOUT_MS, "pieces": FRAGMENT_TIMEOUT_MS, "asked": DHCP_TIMEOUT_MS}
    return fixed.get(kind, definition.timeout_ms)
