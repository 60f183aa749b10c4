"""Base chains and flow tables of all tables of nftables but our own, with what their rules can do."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from types import MappingProxyType

from undercroft.adapters.netlinkcodec import attributes
from undercroft.adapters.nftables import numbers
from undercroft.adapters.nftables.fields import Fields
from undercroft.adapters.nftables.reading import read_generation
from undercroft.adapters.nftables.wire import Channel, InterruptedDumpError, Request
from undercroft.adapters.surroundings.effects import effects_of
from undercroft.assurance.firewall.hostfacts import ANYWHERE, Flowtable, OtherChain
from undercroft.errors import OperationError

ATTEMPTS = 5

_GET_FLOWTABLE = 23
_FLOWTABLE_TABLE, _FLOWTABLE_NAME, _FLOWTABLE_HOOK, _FLOWTABLE_DEVICES = 1, 2, 3, 3
_HOOK_DEVICE, _HOOK_DEVICES = 3, 4
_DEVICE_PREFIX = 2
_DORMANT = 1
_INET_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_HOOKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"netdev": ("ingress", "egress"), "arp": ("input", "output", "forward"), "bridge": _INET_HOOKS[:5]}
)
_Key = tuple[str, str, str]
"""Family, table, chain."""


@dataclass(slots=True)
class _Did:
    """What the rules of one chain can do, without those that they jump to."""

    effects: set[str] = field(default_factory=set)
    devices: set[int] = field(default_factory=set)
    chains: set[str] = field(default_factory=set)
    any_chain: bool = False
    readable: bool = True


@dataclass(frozen=True, slots=True)
class _Base:
    key: _Key
    hook: str
    priority: int
    devices: tuple[str, ...]


def read_tables(own: str, names: Mapping[int, str]) -> tuple[tuple[OtherChain, ...], tuple[Flowtable, ...]]:
    """Return the base chains and the flow tables of all tables but our own.

    Args:
        own: our table of the bridge family.
        names: of all devices, by index.

    Raises:
        DeniedError: no right to.
        OperationError: they cannot be read, or change all the time.
    """
    with closing(Channel()) as channel:
        for _ in range(ATTEMPTS):
            generation = read_generation(channel)
            try:
                found = _read(channel, own, names)
            except InterruptedDumpError:
                continue
            if read_generation(channel) == generation:
                return found
    raise OperationError("nftables: the tables change all the time, so they cannot be read: try again")


def _read(
    channel: Channel, own: str, names: Mapping[int, str]
) -> tuple[tuple[OtherChain, ...], tuple[Flowtable, ...]]:
    idle = _dormant(channel)
    bases, did = [], dict[_Key, _Did]()
    for family, data in channel.dump_families(Request(numbers.GET_CHAIN, 0, b"", "the chains", 0)):
        name = numbers.FAMILIES.get(family, f"family {family}")
        given = Fields(data)
        key = (name, given.text(numbers.CHAIN_TABLE), given.text(numbers.CHAIN_NAME))
        if key[:2] == ("bridge", own) or key[:2] in idle:
            continue
        did[key] = _Did()
        if given.has(numbers.CHAIN_HOOK):
            bases.append(_base(key, given.raw(numbers.CHAIN_HOOK), names))
    for family, data in channel.dump_families(Request(numbers.GET_RULE, 0, b"", "the rules", 0)):
        given = Fields(data)
        key = (
            numbers.FAMILIES.get(family, f"family {family}"),
            given.text(numbers.RULE_TABLE),
            given.text(numbers.RULE_CHAIN),
        )
        if key in did:
            _note(did[key], given)
    tables = defaultdict[tuple[str, str], dict[str, _Did]](dict)
    for (name, table, chain), what in did.items():
        tables[name, table][chain] = what
    chains = tuple(chain for base in bases for chain in _chains(base, tables[base.key[:2]], names))
    return chains, tuple(_flowtables(channel, names, idle))


def _dormant(channel: Channel) -> frozenset[tuple[str, str]]:
    """Return the tables that are asleep: none of their chains is on a hook."""
    found = set()
    for family, data in channel.dump_families(Request(numbers.GET_TABLE, 0, b"", "the tables", 0)):
        given = Fields(data)
        name = given.text(numbers.TABLE_NAME)
        if given.has(numbers.TABLE_FLAGS) and given.number(numbers.TABLE_FLAGS) & _DORMANT:
            found.add((numbers.FAMILIES.get(family, f"family {family}"), name))
    return frozenset(found)


def _base(key: _Key, hook: bytes, names: Mapping[int, str]) -> _Base:
    given = Fields(hook)
    number = given.number(numbers.HOOK_NUMBER)
    hooks = _HOOKS.get(key[0], _INET_HOOKS)
    priority = int.from_bytes(given.raw(numbers.HOOK_PRIORITY), "big", signed=True)
    devices: set[str] = set()
    if given.has(_HOOK_DEVICE):
        devices.add(given.text(_HOOK_DEVICE))
    if given.has(_HOOK_DEVICES):
        devices |= _devices(given.raw(_HOOK_DEVICES), names.values())
    return _Base(
        key, hooks[number] if number < len(hooks) else f"hook {number}", priority, tuple(sorted(devices))
    )


def _devices(listed: bytes, names: Collection[str]) -> set[str]:
    """Return the devices of a list; a prefix stands for all that are there."""
    found = set()
    for kind, value in attributes(listed):
        name = value.rstrip(b"\0").decode(errors="backslashreplace")
        if kind == _DEVICE_PREFIX or name.endswith("*"):
            found |= {other for other in names if other.startswith(name.removesuffix("*"))}
        else:
            found.add(name)
    return found


def _note(did: _Did, given: Fields) -> None:
    if not given.has(numbers.RULE_EXPRESSIONS):
        return
    try:
        for effect in effects_of(given.raw(numbers.RULE_EXPRESSIONS)):
            did.any_chain |= effect.any_chain
            if effect.name:
                did.effects.add(effect.name)
            if effect.chain:
                did.chains.add(effect.chain)
            if effect.name in {"fwd", "dup"}:
                did.devices.add(effect.device)
    except OperationError:
        did.readable, did.any_chain = False, True


def _chains(base: _Base, table: Mapping[str, _Did], names: Mapping[int, str]) -> Iterator[OtherChain]:
    """Yield a base chain with all that a packet can meet from there; once for each of its devices."""
    reached, left = set[str](), {base.key[2]}
    while left:
        name = left.pop()
        reached.add(name)
        did = table.get(name)
        if did is not None:
            left |= (set(table) if did.any_chain else did.chains) - reached
    met = [table[name] for name in reached if name in table]
    at_device = base.key[0] == "netdev" or base.hook == "ingress"
    for device in base.devices if at_device else ("",):
        yield OtherChain(
            *base.key,
            base.hook,
            base.priority,
            device,
            tuple(sorted({effect for did in met for effect in did.effects})),
            tuple(sorted({names.get(index, ANYWHERE) for did in met for index in did.devices})),
            readable=all(did.readable for did in met) and reached <= table.keys(),
        )


def _flowtables(
    channel: Channel, names: Mapping[int, str], idle: Collection[tuple[str, str]]
) -> Iterator[Flowtable]:
    for family, data in channel.dump_families(Request(_GET_FLOWTABLE, 0, b"", "the flow tables", 0)):
        given = Fields(data)
        name = numbers.FAMILIES.get(family, f"family {family}")
        table = given.text(_FLOWTABLE_TABLE)
        if (name, table) in idle:
            continue
        hook = Fields(given.raw(_FLOWTABLE_HOOK))
        listed = hook.raw(_FLOWTABLE_DEVICES) if hook.has(_FLOWTABLE_DEVICES) else b""
        devices = _devices(listed, names.values())
        yield Flowtable(name, table, given.text(_FLOWTABLE_NAME), tuple(sorted(devices)))
