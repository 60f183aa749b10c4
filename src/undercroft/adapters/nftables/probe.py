"""What this kernel can do in the bridge family: each thing is asked for in a batch that the kernel undoes.

No table is left, no generation is made, and no rule is ever on a hook.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from undercroft.adapters.nftables import codec
from undercroft.adapters.nftables.wire import Channel, Request
from undercroft.firewall.kernel import (
    Chain,
    Code,
    Conntrack,
    Expression,
    Immediate,
    Key,
    Limit,
    Log,
    Lookup,
    Meta,
    Rule,
    SetDefinition,
    Update,
    Verdict,
)
from undercroft.ports.packetfilter import FilterFeatures

_TABLE = "undercroft-probe"
_INET = 1
_NARROW = ("ifname", "ether_addr")
_MAP = SetDefinition("map", ("ifname",), "verdict", 16)
_DYNAMIC = SetDefinition("dynamic", ("mark",), "", 16, dynamic=True, timeout_ms=60_000)
_RULES: Mapping[str, tuple[Expression, ...]] = {
    "conntrack": (Conntrack(0),),
    "rate limits": (Limit(10, 1, 5), Immediate(Verdict(Code.DROP))),
    "logs": (Log(1, "probe"),),
    "dynamic sets": (Meta(0, Key.MARK), Update(_DYNAMIC.name, 0, 1000)),
    "verdict maps": (Meta(0, Key.INPUT_NAME), Lookup(_MAP.name, 0, verdicts=True)),
}
_WIDTHS: Mapping[int, tuple[str, ...]] = {
    64: ("ipv6_addr", "ipv6_addr", "ifname", "ifname"),
    44: ("ifname", "ether_addr", "ipv6_addr", "mark"),
    24: _NARROW,
}
"""Keys by their length in registers: as much as there is, the longest of our own, and a short one."""


def probe(channel: Channel) -> FilterFeatures:
    """Return what the kernel can do. Raises DeniedError, or OperationError where it has no nftables."""
    named = dict(_requests())
    refused = channel.rehearse(list(named.values()))
    errors = {name: refused[index] for index, name in enumerate(named) if index in refused}
    for name in (_TABLE, "chain"):
        if name in errors:
            raise errors[name]
    widths = [width for width in _WIDTHS if _width(width) not in errors]
    return FilterFeatures(
        conntrack="conntrack" not in errors,
        dynamic_sets=not {"dynamic sets", _DYNAMIC.name} & errors.keys(),
        rate_limits="rate limits" not in errors,
        logs="logs" not in errors,
        verdict_maps=not {"verdict maps", _MAP.name} & errors.keys(),
        concatenation_bytes=max(widths, default=0),
        inet_tables="inet tables" not in errors,
        missing=tuple(errors),
    )


def _requests() -> Iterator[tuple[str, Request]]:
    yield _TABLE, codec.new_table(_TABLE, 0)
    yield "chain", codec.new_chain(_TABLE, Chain("chain", ()))
    yield _MAP.name, codec.new_set(_TABLE, _MAP, 1)
    yield _DYNAMIC.name, codec.new_set(_TABLE, _DYNAMIC, 2)
    for name, expressions in _RULES.items():
        (request,) = codec.new_rules(_TABLE, Chain("chain", (Rule(expressions),)))
        yield name, replace(request, what=f"{name} in the bridge family")
    for number, (width, key) in enumerate(_WIDTHS.items(), start=3):
        definition = SetDefinition(f"width{width}", key, "", 16)
        yield _width(width), codec.new_set(_TABLE, definition, number)
    yield "inet tables", replace(codec.new_table(_TABLE, 0), family=_INET)


def _width(width: int) -> str:
    return f"keys of {width} bytes"
