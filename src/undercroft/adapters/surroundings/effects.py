"""What a rule of nftables can do beside giving a verdict, told from its expressions.

An expression that is not known has its name as effect: what it does is then unknown, and never nothing.
Source: include/uapi/linux/netfilter/nf_tables.h; net/netfilter/nft_*.c of Linux 6.18.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from undercroft.adapters.netlinkcodec import attributes
from undercroft.adapters.nftables import numbers
from undercroft.adapters.nftables.expressions import decode_expression
from undercroft.adapters.nftables.fields import Fields, UnknownShapeError
from undercroft.firewall.kernel import Immediate, Load, Lookup, Unknown

_HARMLESS = frozenset(
    [
        "bitwise",
        "byteorder",
        "cmp",
        "connlimit",
        "counter",
        "dynset",
        "fib",
        "hash",
        "immediate",
        "inner",
        "last",
        "limit",
        "log",
        "lookup",
        "match",
        "notrack",
        "numgen",
        "osf",
        "quota",
        "range",
        "reject",
        "rt",
        "socket",
        "tunnel",
        "xfrm",
    ]
)
"""Expressions that look, count, tell, or refuse."""
_BY_NAME: Mapping[str, str] = MappingProxyType(
    {
        "fwd": "fwd",
        "dup": "dup",
        "nat": "nat",
        "masq": "nat",
        "redir": "nat",
        "synproxy": "nat",
        "queue": "queue",
        "tproxy": "tproxy",
        "flow_offload": "flow offload",
    }
)
_META_SOURCE, _META_KEY = 3, 2
_META: Mapping[int, str] = MappingProxyType(
    {2: "", 3: "meta mark", 12: "", 14: "", 19: "meta pkttype", 35: "broute"}
)
_CT_SOURCE, _CT_KEY, _CT_MARK = 4, 2, 3
_PAYLOAD_SOURCE = 5
_HEADER_TARGET = 1
_OBJECT_TYPE = 1
_OBJECTS: Mapping[int, str] = MappingProxyType(
    {**dict.fromkeys((1, 2, 3, 4, 5, 7, 8, 9), ""), 6: "tunnel_key", 10: "nat"}
)
_SENT_TO: Mapping[str, int] = MappingProxyType({"fwd": 1, "dup": 2})
_XT: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            [
                "ACCEPT",
                "AUDIT",
                "CHECKSUM",
                "CLASSIFY",
                "CONNSECMARK",
                "CT",
                "DROP",
                "ERROR",
                "IDLETIMER",
                "LED",
                "LOG",
                "NFLOG",
                "NOTRACK",
                "RATEEST",
                "REJECT",
                "RETURN",
                "SECMARK",
                "SET",
                "TRACE",
                "ULOG",
                "log",
                "nflog",
                "standard",
            ],
            "",
        ),
        **dict.fromkeys(["CONNMARK", "HMARK", "MARK", "mark"], "meta mark"),
        **dict.fromkeys(
            ["DNAT", "MASQUERADE", "NETMAP", "REDIRECT", "SNAT", "dnat", "snat", "mangle"], "nat"
        ),
        **dict.fromkeys(
            ["DNPT", "DSCP", "ECN", "HL", "SNPT", "SYNPROXY", "TCPMSS", "TCPOPTSTRIP", "TOS", "TTL"],
            "field",
        ),
        "NFQUEUE": "queue",
        "TEE": "dup",
        "TPROXY": "tproxy",
        "arpreply": "arpreply",
        "redirect": "redirect",
    }
)
"""Targets of iptables, arptables and ebtables. CHECKSUM completes a checksum, and changes nothing else."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one expression can do.

    Attributes:
        name: see `OtherChain.effects`, "" for nothing.
        chain: another chain of the table that the packet may go to, "" for none.
        any_chain: it may go to any of them.
        device: index of the device that the packet is sent to, 0 where that is not told.
    """

    name: str = ""
    chain: str = ""
    any_chain: bool = False
    device: int = 0


def effects_of(listed: bytes) -> Iterator[Effect]:
    """Yield what the expressions of a rule can do.

    Args:
        listed: the attributes of the list, as the kernel sent them.

    Raises OperationError for attributes that are malformed.
    """
    before: Sequence[object] = ()
    for _, data in attributes(listed):
        expression = decode_expression(data)
        match expression:
            case Immediate(verdict) if verdict.chain:
                yield Effect(chain=verdict.chain)
            case Lookup() if expression.verdicts:
                yield Effect(any_chain=True)
            case _:
                yield _told(data, before, known=not isinstance(expression, Unknown))
        before = (expression,)


def xt_effect(target: str) -> str:
    """Return the effect of a target of iptables, "" for none."""
    return _XT.get(target, f"target {target}")


def _told(data: bytes, before: Sequence[object], *, known: bool) -> Effect:
    try:
        outer = Fields(data)
        name = outer.text(numbers.EXPRESSION_NAME)
        given = Fields(outer.raw(numbers.EXPRESSION_DATA) if outer.has(numbers.EXPRESSION_DATA) else b"")
        if name in _SENT_TO:
            return Effect(name, device=_device(name, given, before))
        if not known and name in {"immediate", "lookup"}:
            return Effect("" if name == "lookup" else f"expression {name}", any_chain=True)
        return Effect(_effect(name, given))
    except UnknownShapeError:
        return Effect("an expression that cannot be read", any_chain=True)


def _effect(name: str, given: Fields) -> str:
    match name:
        case "meta":
            key = given.number(_META_KEY)
            return _META.get(key, f"meta key {key}") if given.has(_META_SOURCE) else ""
        case "ct":
            return "ct mark" if given.has(_CT_SOURCE) and given.number(_CT_KEY) == _CT_MARK else ""
        case "payload":
            return "payload" if given.has(_PAYLOAD_SOURCE) else ""
        case "exthdr":
            return "" if given.has(_HEADER_TARGET) else "exthdr"
        case "objref":
            kind = given.number(_OBJECT_TYPE) if given.has(_OBJECT_TYPE) else 0
            return _OBJECTS.get(kind, "objects of a map")
        case "target":
            return xt_effect(given.text(1))
        case _:
            return "" if name in _HARMLESS else _BY_NAME.get(name, f"expression {name}")


def _device(name: str, given: Fields, before: Sequence[object]) -> int:
    """Return the index that the expression before has put into the register of the device, else 0."""
    if not given.has(_SENT_TO[name]):
        return 0
    register = given.register(_SENT_TO[name])
    match before:
        case (Load(loaded, constant),) if loaded == register and len(constant) == 4:
            return int.from_bytes(constant, sys.byteorder)
        case _:
            return 0
