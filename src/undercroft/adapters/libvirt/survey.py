"""Everything that one libvirt has: machines in every state, and the volumes of its pools.

The number of calls is one for each machine, one more for each that runs, and those for snapshots and
checkpoints only where there are any: what else is asked about all machines comes from filtered lists.
"""

import socket
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from undercroft.adapters.libvirt import domain_xml, machine_xml, pools, taken, volumes
from undercroft.adapters.libvirt.bindings import Connection, Libvirt, code, message
from undercroft.adapters.libvirt.bindings import Domain as Handle
from undercroft.adapters.libvirt.connections import raise_when_dead
from undercroft.adapters.libvirt.imagefiles import ImageFiles
from undercroft.adapters.libvirt.machine_xml import MachineDefinition
from undercroft.adapters.libvirt.network_xml import NetworkDefinition, parse_network
from undercroft.adapters.libvirt.qemuprocess import loaded_snapshot
from undercroft.errors import InputError
from undercroft.model.domain import (
    DiskKind,
    Domain,
    DomainDisk,
    Interface,
    Power,
    Survey,
)

MAX_TAINT_CHARACTERS = 200

_TAINT_PREFIX = "tainted: "
_TAINTS = {
    "custom configuration parameters specified": "custom-argv",
    "custom monitor control commands issued": "custom-monitor",
    "running with undesirable elevated privileges": "high-privileges",
    "network configuration using opaque shell scripts": "shell-scripts",
    "potentially unsafe disk format probing": "disk-probing",
    "managing externally launched configuration": "external-launch",
    "potentially unsafe use of host CPU passthrough": "host-cpu",
    "configuration potentially modified by hook script": "hook-script",
    "use of host cdrom passthrough": "cdrom-passthrough",
    "custom device tree blob used": "custom-dtb",
    "custom guest agent control commands issued": "custom-ga-command",
    "hypervisor feature autodetection override": "custom-hypervisor-feature",
    "use of deprecated configuration settings": "deprecated-config",
    "custom device configuration": "custom-device",
}
"""libvirt's message -> its word for it (`virDomainTaint`); one that is not here stays as it came."""

_IMAGE_FILES = ImageFiles()
"""Of all surveys of this process: what hangs in one must not hang in each."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What libvirt says of one machine beside its XML. `active_power` is its power if it is active."""

    active_power: Power
    persistent: bool
    autostart: bool
    managed_save: bool
    has_snapshots: bool
    has_checkpoints: bool


class Surveyor:
    """One look at one libvirt; made anew for each.

    Every method raises libvirtError where the connection died.

    Args:
        libvirt: the loaded binding.
        connection: may be read-only.
        save_directory: where managed save images lie.
        networks: what networks said when they were read last, by name; kept up to date. A network that
            cannot be read for a moment takes no machine's addresses away.
    """

    def __init__(
        self,
        libvirt: Libvirt,
        connection: Connection,
        save_directory: Path,
        networks: MutableMapping[str, NetworkDefinition] | None = None,
    ) -> None:
        self._libvirt = libvirt
        self._connection = connection
        self._save_directory = save_directory
        self._networks: dict[str, NetworkDefinition] = {}
        self._remembered = {} if networks is None else networks
        self._problems: list[str] = []

    def survey(self, uri: str) -> Survey:
        """Return everything."""
        taken_at = datetime.now(UTC)
        handles = self._connection.listAllDomains()
        standing_of = self._standings()
        found = [self._domain(handle, standing_of(handle)) for handle in handles]
        domains = sorted((domain for domain in found if domain is not None), key=lambda domain: domain.name)
        found_volumes, problems = pools.list_volumes(self._libvirt, self._connection)
        return Survey(
            host=socket.gethostname(),
            uri=uri,
            taken_at=taken_at,
            domains=tuple(domains),
            volumes=found_volumes,
            problems=(*self._problems, *problems),
        )

    def domain(self, handle: Handle) -> Domain | None:
        """Return one machine, None when it has gone."""
        try:
            persistent = bool(handle.isPersistent())
            standing = Standing(
                active_power=self._active_power(handle),
                persistent=persistent,
                autostart=persistent and bool(handle.autostart()),
                managed_save=bool(handle.hasManagedSaveImage()),
                has_snapshots=True,
                has_checkpoints=True,
            )
        except self._libvirt.libvirtError as error:
            if code(error) == self._libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise
        return self._domain(handle, standing)

    def _standings(self) -> Callable[[Handle], Standing]:
        """Ask once for each question about all machines; return what answers for one of them."""
        transient = self._uuids(self._libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT)
        autostart = self._uuids(self._libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)
        saved = self._uuids(self._libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
        with_snapshots = self._uuids(self._libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT)
        with_checkpoints = self._uuids(self._libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT)
        paused = self._uuids(self._libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED)
        other = self._uuids(self._libvirt.VIR_CONNECT_LIST_DOMAINS_OTHER)

        def standing_of(handle: Handle) -> Standing:
            uuid = handle.UUIDString()
            power = Power.PAUSED if uuid in paused else Power.RUNNING
            if uuid in other:
                power = self._active_power(handle)
            return Standing(
                active_power=power,
                persistent=uuid not in transient,
                autostart=uuid in autostart,
                managed_save=uuid in saved,
                has_snapshots=uuid in with_snapshots,
                has_checkpoints=uuid in with_checkpoints,
            )

        return standing_of

    def _uuids(self, flag: int) -> frozenset[str]:
        return frozenset(handle.UUIDString() for handle in self._connection.listAllDomains(flag))

    def _active_power(self, handle: Handle) -> Power:
        try:
            state = handle.state()[0]
        except self._libvirt.libvirtError:
            return Power.RUNNING  # gone, or the connection died: the next call tells
        powers = {
            self._libvirt.VIR_DOMAIN_PAUSED: Power.PAUSED,
            self._libvirt.VIR_DOMAIN_PMSUSPENDED: Power.PAUSED,
            self._libvirt.VIR_DOMAIN_CRASHED: Power.CRASHED,
        }
        return powers.get(state, Power.RUNNING)

    def _domain(self, handle: Handle, standing: Standing) -> Domain | None:
        active = handle.ID() > 0
        found = Domain(
            uuid=handle.UUIDString().lower(),
            name=handle.name(),
            power=_power(standing, active=active),
            persistent=standing.persistent,
            autostart=standing.autostart,
            managed_save=self._save_image(handle.name()) if standing.managed_save else "",
        )
        try:
            definition = machine_xml.parse_machine(handle.XMLDesc())
            found = self._defined(found, definition, standing)
            if found.libvirt_id:
                found = replace(found, tainted=self._taints(handle), loaded=loaded_snapshot(found.name))
            if standing.has_snapshots:
                found = taken.with_snapshots(self._libvirt, self._connection, handle, found)
            if standing.has_checkpoints:
                found = taken.with_checkpoints(self._libvirt, self._connection, handle, found)
        except (self._libvirt.libvirtError, InputError, UnicodeDecodeError) as error:
            if code(error) == self._libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise_when_dead(self._libvirt, self._connection, error)
            found = replace(found, problem=found.problem or f"unread: {message(error)}")
        return found

    def _defined(self, found: Domain, definition: MachineDefinition, standing: Standing) -> Domain:
        active = definition.libvirt_id > 0
        disks = (
            self._with_path(disk, definition.disks.volumes.get(disk.target))
            for disk in definition.disks.disks
        )
        return replace(
            found,
            name=definition.disks.name,
            power=_power(standing, active=active),
            libvirt_id=definition.libvirt_id,
            genid=definition.genid,
            # Only what runs can share an image with what runs: files that nobody has open are left alone.
            disks=tuple(
                replace(disk, identity=_IMAGE_FILES.identity(disk.path)) if active else disk for disk in disks
            ),
            interfaces=tuple(self._with_network(interface) for interface in definition.interfaces),
            ownership=definition.ownership,
            beside=definition.beside,
            channel=definition.channel is not None,
            channel_path=definition.channel.path if active and definition.channel else "",
        )

    def _save_image(self, name: str) -> str:
        return str(self._save_directory / f"{name}.save")

    def _with_path(self, disk: DomainDisk, volume: domain_xml.VolumeName | None) -> DomainDisk:
        if disk.kind is not DiskKind.VOLUME or volume is None:
            return disk
        try:
            return replace(disk, path=volumes.volume_path(self._libvirt, self._connection, volume))
        except InputError as error:
            return replace(disk, problem=disk.problem or str(error))

    def _with_network(self, interface: Interface) -> Interface:
        """Return an interface with what its libvirt network says of it: the bridge, and its reservations."""
        if interface.kind != "network" or not interface.source:
            return interface
        if interface.source not in self._networks:
            self._networks[interface.source] = self._network(interface.source)
        network = self._networks[interface.source]
        return replace(
            interface,
            bridge=interface.bridge or network.bridge,
            addresses=network.reserved.get(interface.mac, ()),
        )

    def _network(self, name: str) -> NetworkDefinition:
        try:
            found = parse_network(self._connection.networkLookupByName(name).XMLDesc())
        except (self._libvirt.libvirtError, InputError, UnicodeDecodeError) as error:
            raise_when_dead(self._libvirt, self._connection, error)
            if code(error) == self._libvirt.VIR_ERR_NO_NETWORK:
                self._remembered.pop(name, None)
            known = self._remembered.get(name)
            what = "are not known" if known is None else "may be others than when they were read last"
            self._problems.append(f"network {name!r}: its bridge and reservations {what} ({message(error)})")
            return known or NetworkDefinition()
        self._remembered[name] = found
        self._problems += [f"network {name!r}: {problem}" for problem in found.problems]
        return found

    def _taints(self, handle: Handle) -> tuple[str, ...]:
        try:
            messages = handle.messages(self._libvirt.VIR_DOMAIN_MESSAGE_TAINTING)
        except self._libvirt.libvirtError as error:
            if code(error) == self._libvirt.VIR_ERR_NO_SUPPORT:  # the binding or driver has no such call
                return ()
            raise
        texts = (text.removeprefix(_TAINT_PREFIX)[:MAX_TAINT_CHARACTERS] for text in messages)
        return tuple(sorted({_TAINTS.get(text, text) for text in texts}))


def _power(standing: Standing, *, active: bool) -> Power:
    if active:
        return standing.active_power
    return Power.SAVED if standing.managed_save else Power.OFF
