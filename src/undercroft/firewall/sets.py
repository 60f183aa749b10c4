"""The sets of the table: what each is keyed by. Hashed ones only, so that a look-up costs the same always.

Maps of machines hold marks, never verdicts: the kernel goes through the whole table, with every element of
every map of verdicts, in each transaction that adds a verdict.
"""

from undercroft.firewall.grants import Granted, Side
from undercroft.firewall.kernel import SetDefinition
from undercroft.firewall.marks import MAX_CLASS
from undercroft.firewall.tracking import StateKind

MACHINE_SET_SIZE = 1 << 17
CLASS_MAP_SIZE = MAX_CLASS + 1
FLOW_SET_SIZE = 1 << 20
TRY_SET_SIZE = 1 << 19
ECHO_SET_SIZE = 1 << 18
FRAGMENT_SET_SIZE = 1 << 17
SMALLEST_SET_SIZE = 64
DEFAULT_TIMEOUT_MS = 120_000

_IP = {4: "ipv4_addr", 6: "ipv6_addr"}


def fixed_sets(state: StateKind) -> tuple[SetDefinition, ...]:
    """Return the sets that every policy has."""
    return (
        _machines("classes", "ifname", data="mark"),
        _machines("taps", "ifname"),
        _machines("macs", "ifname", "ether_addr"),
        _machines("stations", "ether_addr"),
        *(definition for version in _IP for definition in _by_address(version)),
        SetDefinition("class-targets", ("mark",), "verdict", size=CLASS_MAP_SIZE),
        SetDefinition("class-whole", ("mark",), "verdict", size=CLASS_MAP_SIZE),
        SetDefinition("class-near", ("mark",), "verdict", size=CLASS_MAP_SIZE),
        SetDefinition("uplinks", ("ifname",), size=SMALLEST_SET_SIZE * 4),
        SetDefinition("headers6", ("inet_proto",), size=SMALLEST_SET_SIZE),
        SetDefinition("transports6", ("inet_proto",), size=SMALLEST_SET_SIZE),
        SetDefinition("sent-icmp6", ("icmp_type",), size=SMALLEST_SET_SIZE),
        SetDefinition("errors4", ("icmp_type",), size=SMALLEST_SET_SIZE),
        SetDefinition("errors6", ("icmp_type",), size=SMALLEST_SET_SIZE),
        _dynamic("asked", MACHINE_SET_SIZE, "ether_addr"),
        *(_tracking_sets() if state is StateKind.TUPLES else ()),
    )


def side_sets(side: Side, granted: Granted) -> tuple[SetDefinition, ...]:
    """Return the sets of one target, with room for twice of what is in them."""
    name = side.name
    port = ("mark", "inet_proto", "inet_service")
    logged = (_sized(f"logged-{name}", port, len(granted.logged)),) if granted.logged else ()
    return (
        _sized(f"to-{name}", port, len(granted.opened)),
        _sized(f"back-{name}", port, len(granted.answered)),
        _sized(f"ping-{name}", ("mark",), len(granted.pinged)),
        _sized(f"pong-{name}", ("mark",), len(granted.ponged)),
        _sized(f"near-{name}", ("mark",), len(granted.near)),
        *logged,
    )


def _by_address(version: int) -> tuple[SetDefinition, ...]:
    address = _IP[version]
    return (
        _machines(f"sources{version}", "ifname", "ether_addr", address, data="mark" if version == 4 else ""),
        _machines(f"targets{version}", "ifname", "ether_addr", address, data="mark"),
        _machines(f"near{version}", "ifname", address, data="mark"),
        _machines(f"places{version}", address, data="mark"),
        _machines(f"outside{version}", address, data="mark"),
        SetDefinition(f"named-sources{version}", (address,), "mark", size=4096),
        SetDefinition(f"named-targets{version}", (address,), "verdict", size=4096),
    )


def _tracking_sets() -> tuple[SetDefinition, ...]:
    return (
        *(
            _dynamic(f"{name}{version}", size, ip, ip, "inet_proto", "inet_service", "inet_service")
            for name, size in (("flows", FLOW_SET_SIZE), ("tries", TRY_SET_SIZE), ("knocks", TRY_SET_SIZE))
            for version, ip in _IP.items()
        ),
        *(
            _dynamic(f"{name}{version}", MACHINE_SET_SIZE, "mark", ip)
            for name in ("tries-rate", "knocks-rate")
            for version, ip in _IP.items()
        ),
        *(_dynamic(f"echoes{version}", ECHO_SET_SIZE, ip, ip, "inet_service") for version, ip in _IP.items()),
        _dynamic("pieces4", FRAGMENT_SET_SIZE, "ipv4_addr", "ipv4_addr", "inet_proto", "inet_service"),
        _dynamic("pieces6", FRAGMENT_SET_SIZE, "ipv6_addr", "ipv6_addr", "inet_proto", "mark"),
    )


def _machines(name: str, *key: str, data: str = "") -> SetDefinition:
    return SetDefinition(name, key, data, size=MACHINE_SET_SIZE)


def _dynamic(name: str, size: int, *key: str) -> SetDefinition:
    return SetDefinition(name, key, size=size, dynamic=True, timeout_ms=DEFAULT_TIMEOUT_MS)


def _sized(name: str, key: tuple[str, ...], count: int) -> SetDefinition:
    return SetDefinition(name, key, size=max(SMALLEST_SET_SIZE, 1 << (2 * count - 1).bit_length()))
