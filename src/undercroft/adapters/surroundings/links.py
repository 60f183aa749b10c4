"""Network devices of the namespace, as far as they can carry a frame past a bridge's hooks.

Source: include/uapi/linux/if_link.h; br_port_fill_attrs, br_fill_info of Linux 6.18.
"""

import os
import struct
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from undercroft.adapters.netlinkcodec import attribute, attributes
from undercroft.adapters.surroundings.rtnetlink import Routing
from undercroft.assurance.firewall.hostfacts import BridgeFacts, PortFacts

_GET_LINK, _GET_ADDRESS = 18, 22
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_NAME, _LOWER, _MASTER, _INFO, _EXT_MASK, _PROMISCUITY, _SWITCH, _NETNS, _XDP = (
    3,
    5,
    10,
    18,
    29,
    30,
    36,
    37,
    43,
)
_SKIP_STATISTICS = 8
_UP = 1
_KIND, _DATA, _SLAVE_KIND, _SLAVE_DATA = 1, 2, 4, 5
_XDP_ATTACHED = 2
_PORT_HAIRPIN, _PORT_LEARNING, _PORT_PROXY, _PORT_PROXY_WIFI = 4, 8, 10, 12
_PORT_TUNNEL, _PORT_GROUPS, _PORT_SUPPRESS, _PORT_VLAN_SUPPRESS = 29, 31, 32, 43
_BRIDGE_STP, _BRIDGE_VLANS, _BRIDGE_GROUPS, _BRIDGE_CALLS = 5, 7, 9, (36, 37, 38)
_NOT_ON_TOP = frozenset(
    [
        "veth",
        "netkit",
        "vxcan",
        "vxlan",
        "geneve",
        "ip_vti",
        "vti6",
        "gre",
        "gretap",
        "erspan",
        "ip6gre",
        "ip6gretap",
        "sit",
        "ipip",
        "ip6tnl",
    ]
)
"""Kinds that take no frames from the device they name: it is their other end, or what they send by."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device.

    Attributes:
        name: as it is called.
        index: its number.
        kind: "tun", "bridge", "vlan", ...; "" for hardware.
        master: index of the device that it is a port of, 0 for none.
        lower: index of the device that it stands on, 0 for none, or where that is in another namespace.
        promiscuity: how many want all frames.
        xdp: programs are attached.
        switched: it belongs to a switch in hardware.
        up: it takes and sends frames.
        port: attributes of its being a bridge's port.
        bridge: attributes of its being a bridge.
    """

    name: str
    index: int
    kind: str = ""
    master: int = 0
    lower: int = 0
    promiscuity: int = 0
    xdp: bool = False
    switched: bool = False
    up: bool = False
    port: Mapping[int, bytes] = field(default_factory=dict)
    bridge: Mapping[int, bytes] = field(default_factory=dict)


def read_devices(kernel: Routing) -> tuple[Device, ...]:
    """Return all devices. Raises DeniedError, OperationError."""
    body = _LINK.pack(0, 0, 0, 0, 0) + attribute(_EXT_MASK, _host(_SKIP_STATISTICS))
    return tuple(decode_device(answer) for answer in kernel.dump(_GET_LINK, body, "the network devices"))


def read_device(kernel: Routing, name: str) -> Device:
    """Return one device. Raises NotFoundError, DeniedError, OperationError."""
    body = _LINK.pack(0, 0, 0, 0, 0) + attribute(_NAME, os.fsencode(name) + b"\0")
    return decode_device(kernel.ask(_GET_LINK, body + attribute(_EXT_MASK, _host(_SKIP_STATISTICS)), name))


def read_addressed(kernel: Routing) -> frozenset[int]:
    """Return the indices of the devices that have an address. Raises DeniedError, OperationError."""
    answers = kernel.dump(_GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0), "the addresses")
    return frozenset(_ADDRESS.unpack_from(answer)[4] for answer in answers)


def decode_device(body: bytes) -> Device:
    """Return the device of a message. Raises OperationError for one that is malformed."""
    _, _, index, flags, _ = _LINK.unpack_from(body)
    given = dict(attributes(body[_LINK.size :]))
    info = dict(attributes(given.get(_INFO, b"")))
    kind = _text(info.get(_KIND, b""))
    xdp = dict(attributes(given.get(_XDP, b"")))
    return Device(
        os.fsdecode(given.get(_NAME, b"").rstrip(b"\0")),
        index,
        kind,
        _number(given.get(_MASTER, b"")),
        0 if _NETNS in given else _number(given.get(_LOWER, b"")),
        _number(given.get(_PROMISCUITY, b"")),
        any(xdp.get(_XDP_ATTACHED, b"")),
        bool(given.get(_SWITCH, b"")),
        bool(flags & _UP),
        dict(attributes(info.get(_SLAVE_DATA, b""))) if _text(info.get(_SLAVE_KIND, b"")) == "bridge" else {},
        dict(attributes(info.get(_DATA, b""))) if kind == "bridge" else {},
    )


def port_facts(
    ports: Iterable[Device], devices: Iterable[Device], addressed: Collection[int]
) -> tuple[PortFacts, ...]:
    """Return the facts of ports among all devices."""
    by_index = {device.index: device for device in devices}
    uppers: dict[int, list[str]] = {}
    for device in by_index.values():
        if device.lower and device.kind not in _NOT_ON_TOP:
            uppers.setdefault(device.lower, []).append(device.name)
    return tuple(
        _port(port, by_index.get(port.master), uppers.get(port.index, []), port.index in addressed)
        for port in ports
    )


def _port(device: Device, master: Device | None, uppers: Iterable[str], addressed: bool) -> PortFacts:
    port = device.port
    kind = "bridge" if master is None else master.kind or "device of another kind"
    answering = (_PORT_PROXY, _PORT_PROXY_WIFI, _PORT_SUPPRESS, _PORT_VLAN_SUPPRESS)
    return PortFacts(
        device.name,
        master.name if master else "",
        kind,
        device.up,
        hairpin=_is_on(port, _PORT_HAIRPIN),
        learning=_is_on(port, _PORT_LEARNING) if _PORT_LEARNING in port else True,
        proxy=any(_is_on(port, number) for number in answering),
        vlan_tunnel=_is_on(port, _PORT_TUNNEL),
        offloaded=device.switched,
        xdp=device.xdp,
        promiscuity=device.promiscuity,
        uppers=tuple(sorted(uppers)),
        group_forward_mask=forwarded_groups(device),
        protocol_free=not addressed,
    )


def forwarded_groups(device: Device) -> int:
    """Return the mask of the reserved groups that a bridge's port forwards."""
    return _number(device.port.get(_PORT_GROUPS, b""))


def bridge_facts(device: Device) -> BridgeFacts:
    """Return the facts of a bridge."""
    given = device.bridge
    return BridgeFacts(
        device.name,
        vlan_filtering=_is_on(given, _BRIDGE_VLANS),
        group_forward_mask=_number(given.get(_BRIDGE_GROUPS, b"")),
        stp=_is_on(given, _BRIDGE_STP),
        call_iptables=any(_is_on(given, kind) for kind in _BRIDGE_CALLS),
    )


def _is_on(given: Mapping[int, bytes], kind: int) -> bool:
    return any(given.get(kind, b""))


def _number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)


def _host(value: int) -> bytes:
    return struct.pack("=I", value)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="backslashreplace")
