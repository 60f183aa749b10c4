"""Facts of this host for `assurance.firewall.surroundings`, from the kernel itself, without other programs.

    facts = gather("undercroft", taps, priorities)
    findings = judge(facts)

Everything is of the network namespace of the thread that asks. Nothing is changed, and no module is loaded.
What cannot be read is in `unread`, with the reason: it is never left out.
"""

import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from undercroft.adapters.surroundings import legacy, links, programs, routes, stations, tables, traffic
from undercroft.adapters.surroundings.rtnetlink import connected
from undercroft.assurance.firewall.hostfacts import (
    ANYWHERE,
    Flowtable,
    OtherChain,
    PortFacts,
    Surroundings,
    TrafficFilter,
)
from undercroft.errors import DeniedError, UndercroftError

BRIDGE_CALLS = Path("/proc/sys/net/bridge")
_CALLS = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")
_T = TypeVar("_T")
NO_MACS: Mapping[str, bytes] = MappingProxyType({})


def gather(
    table: str,
    taps: Collection[str],
    priorities: Collection[tuple[str, int]] = (),
    macs: Mapping[str, bytes] = NO_MACS,
) -> Surroundings:
    """Return the facts of this host.

    Args:
        table: the name of our own table of the bridge family.
        taps: the managed ports.
        priorities: hook -> priority of our base chains, where the table is at hand.
        macs: of machines that are behind these ports, by port; of one that is arriving it is elsewhere still.

    Returns:
        The facts; what could not be read is told in `unread`.
    """
    return _Gathering(table, taps, tuple(priorities), macs).done()


def machine_taps(prefixes: Collection[str]) -> tuple[str, ...]:
    """Return the devices that may be machines' ports, sorted: whose names begin so, and taps on any bridge.

    Raises DeniedError, OperationError.
    """
    with connected() as kernel:
        devices = links.read_devices(kernel)
    named = tuple(prefixes)
    return tuple(
        sorted(
            device.name
            for device in devices
            if device.name.startswith(named) or (device.kind == "tun" and device.master)
        )
    )


class _Gathering:
    def __init__(
        self,
        table: str,
        taps: Collection[str],
        priorities: tuple[tuple[str, int], ...],
        macs: Mapping[str, bytes],
    ) -> None:
        self._table, self._taps, self._priorities, self._macs = table, taps, priorities, macs
        self._unread: list[str] = []

    def done(self) -> Surroundings:
        devices = self._read("network devices", _devices, tuple[links.Device, ...]())
        names = {device.index: device.name for device in devices}
        none = (tuple[OtherChain, ...](), tuple[Flowtable, ...]())
        chains, flowtables = self._read("nftables", lambda: tables.read_tables(self._table, names), none)
        legacy_chains = self._read("legacy iptables", legacy.read_legacy, tuple[OtherChain, ...]())
        filters = self._read("tc", lambda: _filters(names), tuple[TrafficFilter, ...]())
        programs_found = self._read(
            "bpf", lambda: programs.read_programs(devices), tuple[TrafficFilter, ...]()
        )
        ports = self._ports(devices)
        by_name = {device.name: device for device in devices}
        bridges = {port.bridge for port in ports} & by_name.keys()
        xdp = tuple(
            TrafficFilter(device.name, "xdp", "bpf")
            for device in devices
            if device.xdp and device.name not in self._taps
        )
        return Surroundings(
            self._table,
            self._priorities,
            (*chains, *legacy_chains),
            flowtables,
            (*filters, *programs_found, *xdp),
            ports,
            tuple(links.bridge_facts(by_name[name]) for name in sorted(bridges)),
            self._read("bridge-nf-call", _bridge_calls, tuple[str, ...]()),
            self._read("legacy ebtables", legacy.read_ebtables, tuple[str, ...]()),
            self._read("routes", _encapsulations, tuple[str, ...]()),
            routes.tunnels(devices),
            tuple(self._unread),
        )

    def _ports(self, devices: tuple[links.Device, ...]) -> tuple[PortFacts, ...]:
        addressed = self._read("addresses", _addressed, frozenset[int]())
        found = {device.name: device for device in devices}
        missing = sorted(set(self._taps) - found.keys())
        self._unread += [
            f"port {tap}: there is no such device here: its machine may have stopped" for tap in missing
        ]
        ports = [found[tap] for tap in sorted(set(self._taps) & found.keys())]
        facts = links.port_facts(ports, devices, addressed)
        return self._placed(facts, found) if self._macs else facts

    def _placed(
        self, facts: tuple[PortFacts, ...], found: Mapping[str, links.Device]
    ) -> tuple[PortFacts, ...]:
        """Add where the bridges take the machines to be; nothing is told where that cannot be read."""
        known = self._read("the bridges' stations", lambda: _stations(self._macs.values()), None)
        if known is None:
            return facts
        names = {device.index: device.name for device in found.values()}
        return tuple(
            _placed(port, found[port.device], self._macs[port.device], known, names)
            if port.device in self._macs
            else port
            for port in facts
        )

    def _read(self, what: str, read: Callable[[], _T], nothing: _T) -> _T:
        """Return what a part reads; what it cannot is noted."""
        try:
            return read()
        except UndercroftError as error:
            self._unread.append(str(error))
        except (OSError, struct.error, ValueError, IndexError) as error:
            self._unread.append(f"{what}: {error}")
        return nothing


def _devices() -> tuple[links.Device, ...]:
    with connected() as kernel:
        return links.read_devices(kernel)


def _stations(macs: Iterable[bytes]) -> tuple[stations.Station, ...]:
    with connected() as kernel:
        return stations.read_stations(kernel, frozenset(macs))


def _placed(
    facts: PortFacts,
    port: links.Device,
    mac: bytes,
    known: Iterable[stations.Station],
    names: Mapping[int, str],
) -> PortFacts:
    """Return a port's facts with the place of its machine's MAC; one elsewhere counts before its own."""
    places = [one for one in known if one.mac == mac and one.bridge == port.master]
    others = [names.get(one.port, ANYWHERE) for one in places if one.port != port.index]
    fixed = bool(places) and not others and all(one.fixed for one in places)
    own = port.name if places else ""
    return replace(facts, mac=mac.hex(":"), found_at=others[0] if others else own, fixed=fixed)


def _addressed() -> frozenset[int]:
    with connected() as kernel:
        return links.read_addressed(kernel)


def _encapsulations() -> tuple[str, ...]:
    with connected() as kernel:
        return routes.read_encapsulations(kernel)


def _filters(names: dict[int, str]) -> tuple[TrafficFilter, ...]:
    with connected() as kernel:
        return traffic.read_filters(kernel, names)


def _bridge_calls() -> tuple[str, ...]:
    """Return which of the settings are on; without br_netfilter there are none."""
    found = []
    for name in _CALLS:
        path = BRIDGE_CALLS / name
        try:
            if path.read_text().strip() != "0":
                found.append(name)
        except FileNotFoundError:
            continue
        except PermissionError as error:
            raise DeniedError(f"{path}: {error.strerror}; run it as root") from error
    return tuple(found)
