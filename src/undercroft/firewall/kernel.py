"""Rules of nftables as the kernel holds them: one value for each expression, with its registers.

The compiler writes these, `adapters.nftables` turns them into netlink attributes and back, one to one.
Nothing here says what they mean: `simulate` does for one packet, `assurance.firewall.symbolic` for all.

Registers are numbered as the kernel's 32-bit ones: 0 to 15, each of 4 bytes; a value of more bytes fills
the following ones. The verdict register is no number: what writes it is an `Immediate`, or a `Lookup` of
verdicts.
Source: include/uapi/linux/netfilter/nf_tables.h, net/netfilter/nft_*.c.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

REGISTERS = 16
REGISTER_BYTES = 4


class Base(StrEnum):
    """Where a payload offset counts from: the Ethernet, the network or the transport header."""

    LINK = "link"
    NETWORK = "network"
    TRANSPORT = "transport"


class Operator(StrEnum):
    """How `Compare` and `Range` compare, bytes being big-endian numbers."""

    EQUAL = "=="
    UNEQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="


class Key(StrEnum):
    """What `Meta` loads. Integers are in host order, as the kernel keeps them; PROTOCOL is big-endian.

    A kind is what has made the device, "tun" for a tap; hardware has none, which ends the rule.
    """

    LENGTH = "length"
    PROTOCOL = "protocol"
    MARK = "mark"
    INPUT_NAME = "iifname"
    OUTPUT_NAME = "oifname"
    INPUT_INDEX = "iif"
    OUTPUT_INDEX = "oif"
    INPUT_KIND = "iifkind"
    OUTPUT_KIND = "oifkind"
    TRANSPORT_PROTOCOL = "l4proto"
    NETWORK_FAMILY = "nfproto"
    PACKET_TYPE = "pkttype"


class Code(StrEnum):
    """Verdicts."""

    ACCEPT = "accept"
    DROP = "drop"
    CONTINUE = "continue"
    RETURN = "return"
    JUMP = "jump"
    GOTO = "goto"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict; `chain` is the target of JUMP and GOTO, "" for the others."""

    code: Code
    chain: str = ""


@dataclass(frozen=True, slots=True)
class Payload:
    """Load `length` bytes of the packet; a packet that is too short ends the rule."""

    register: int
    base: Base
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Meta:
    """Load what is known of the packet beside its bytes; names and kinds are padded to 16 bytes."""

    register: int
    key: Key


@dataclass(frozen=True, slots=True)
class SetMark:
    """Set the packet's mark from a register (4 bytes, host order)."""

    register: int


@dataclass(frozen=True, slots=True)
class Compare:
    """End the rule unless the register compares so with `data`."""

    register: int
    operator: Operator
    data: bytes


@dataclass(frozen=True, slots=True)
class Range:
    """End the rule unless the register lies in [low, high], or outside where `inverted`."""

    register: int
    low: bytes
    high: bytes
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class Bitwise:
    """`target = (source & mask) ^ xor`."""

    source: int
    target: int
    mask: bytes
    xor: bytes


@dataclass(frozen=True, slots=True)
class Lookup:
    """Look the key in the registers from `register` up in a set or map.

    Without the key in it the rule ends (with it, where `inverted`). `target` takes a map's data; None for a
    set, and for a map of verdicts, whose verdict then counts.
    """

    set_name: str
    register: int
    target: int | None = None
    inverted: bool = False
    verdicts: bool = False


@dataclass(frozen=True, slots=True)
class Immediate:
    """Give a verdict."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Load:
    """Put constant bytes into registers from `register` up."""

    register: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Conntrack:
    """Load the state of the packet's connection: a bit mask in host order (invalid 1, established 2)."""

    register: int


@dataclass(frozen=True, slots=True)
class Limit:
    """End the rule for what is beyond `rate` packets in `per_s` seconds, `burst` more at once."""

    rate: int
    per_s: int
    burst: int


@dataclass(frozen=True, slots=True)
class Update:
    """Put the key in the registers into a dynamic set, or renew its timeout; a full set ends the rule.

    `limit` is one for each key: what is beyond it ends the rule too, when the key has been put there.
    """

    set_name: str
    register: int
    timeout_ms: int
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """Tell a netlink group of the packet; changes nothing."""

    group: int
    prefix: str
    snap_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Counter:
    """Count; changes nothing. What it has counted is no part of a rule's meaning."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An expression, or an attribute of one, that this model does not know. A proof fails on it."""

    name: str
    attributes: bytes


Expression = (
    Payload
    | Meta
    | SetMark
    | Compare
    | Range
    | Bitwise
    | Lookup
    | Immediate
    | Load
    | Update
    | Conntrack
    | Limit
    | Log
    | Counter
    | Unknown
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Expressions in order; `comment` is for people and has no meaning."""

    expressions: tuple[Expression, ...]
    comment: str = ""


class Hook(StrEnum):
    """Where a base chain of the bridge family sits."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    POSTROUTING = "postrouting"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain. `hook`, `priority` and `policy` are a base chain's; `hook` is None for others.

    `bound`: made for the one rule that jumps to it, and gone with that rule. `unknown`: what of it this
    model does not know, in words; a proof fails on any.
    """

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None
    priority: int = 0
    policy: Code = Code.ACCEPT
    bound: bool = False
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetDefinition:
    """A set or map.

    Attributes:
        name: at most 31 characters.
        key: the field's names as nft has them ("ifname", "ether_addr", "ipv4_addr", "ipv6_addr",
            "inet_proto", "inet_service", "mark"), at most 5: a concatenation where there are several.
        data: "" for a set, "mark" or "verdict" for a map.
        size: the most elements.
        dynamic: rules add to it.
        timeout_ms: of its elements, 0 for none.
        anonymous: made for the one rule that looks something up in it, and gone with that rule.
        unknown: what of it, or of its elements, this model does not know, in words. A proof fails on any.
    """

    name: str
    key: tuple[str, ...]
    data: str = ""
    size: int = 65536
    dynamic: bool = False
    timeout_ms: int = 0
    anonymous: bool = False
    unknown: tuple[str, ...] = ()


FIELD_BYTES: Mapping[str, int] = {
    "ifname": 16,
    "ether_addr": 6,
    "ipv4_addr": 4,
    "ipv6_addr": 16,
    "inet_proto": 1,
    "inet_service": 2,
    "mark": 4,
    "ether_type": 2,
    "icmp_type": 1,
}
"""Length of each field; in a concatenation each is padded with zeros to a multiple of 4 bytes."""

Element = tuple[bytes, bytes | Verdict | None]
"""A key, one field as it is, several each padded (`FIELD_BYTES`), and a map's data."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the bridge family with everything in it, but for its sets' elements.

    `flags` as the kernel has them, 0 for none (1: dormant, 2: owned).
    """

    name: str
    sets: tuple[SetDefinition, ...]
    chains: tuple[Chain, ...]
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Ruleset:
    """A table and its sets' elements: set name -> key -> data (None for a set)."""

    table: Table
    elements: Mapping[str, Mapping[bytes, bytes | Verdict | None]] = field(default_factory=dict)
    generation: int = 0
