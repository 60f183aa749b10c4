"""libvirt as the hypervisor: finds machines and their disks. Read-only unless a running one is held."""

import difflib
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from undercroft.adapters.libvirt import domain_xml, taken, volumes
from undercroft.adapters.libvirt.backup import Backup
from undercroft.adapters.libvirt.bindings import Connection, Domain, Libvirt, code, load, message
from undercroft.adapters.libvirt.scratch import ScratchLimits
from undercroft.errors import InputError, NotFoundError, OperationError
from undercroft.model.domain import DiskKind, DomainDisk
from undercroft.ports.hypervisor import MachineDisks

SYSTEM_STATE_DIRECTORY = Path("/var/lib/libvirt/qemu")
"""Where the system instance of libvirt keeps one folder per running domain, owned by its QEMU process."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_ID = re.compile(r"[0-9]{1,10}")
_MAX_ID = 2**31 - 1


def default_uri() -> str:
    """Return LIBVIRT_DEFAULT_URI, else the system instance for root and the user's own for others."""
    fallback = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
    return os.environ.get("LIBVIRT_DEFAULT_URI") or fallback


class LibvirtHypervisor:
    """`ports.hypervisor.Hypervisor` over one libvirt connection URI. Use as a context manager.

    Args:
        uri: a libvirt connection URI of this host; "" for `default_uri`.
        limits: how much room a held machine may take, and where.
        state_directory: the system instance's folder of domains.

    Raises:
        OperationError: libvirt-python is missing, libvirt cannot be reached, or the URI names another host,
            whose images cannot be opened from here.
    """

    def __init__(
        self,
        uri: str = "",
        limits: ScratchLimits | None = None,
        state_directory: Path = SYSTEM_STATE_DIRECTORY,
    ) -> None:
        self.uri = uri or default_uri()
        self._limits = limits or ScratchLimits()
        self._state_directory = state_directory
        require_local(self.uri)
        self._libvirt: Libvirt = load()
        self._reading = self._open(self._libvirt.openReadOnly)
        self._writing: Connection | None = None

    def __enter__(self) -> "LibvirtHypervisor":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        for connection in (self._writing, self._reading):
            if connection is not None:
                connection.close()
        self._writing = None

    def find(self, machine: str) -> MachineDisks:
        """Return the machine of that ID, UUID or name. See `Hypervisor.find`."""
        domain = self._lookup(self._reading, machine)
        try:
            running = bool(domain.isActive())
            untrusted_xml = domain.XMLDesc()
        except self._libvirt.libvirtError as error:
            raise OperationError(f"machine {machine!r}: {message(error)}") from error
        definition = domain_xml.parse_domain(untrusted_xml)
        del untrusted_xml
        disks = tuple(self._resolved(disk, definition.volumes.get(disk.target)) for disk in definition.disks)
        told = self._snapshots(domain)
        return MachineDisks(
            definition.name, definition.uuid, running, disks, told.snapshots, told.images, told.problem
        )

    def _snapshots(self, domain: Domain) -> taken.Taken:
        """Return a machine's snapshots, and what is wrong with them; its disks are read all the same."""
        try:
            return taken.snapshots_of(self._libvirt, self._reading, domain, with_images=True)
        except self._libvirt.libvirtError as error:
            if code(error) == self._libvirt.VIR_ERR_NO_SUPPORT:
                return taken.Taken(())
            return taken.Taken((), problem=f"libvirt does not list its snapshots: {message(error)}")

    def point_in_time(self, machine: MachineDisks) -> AbstractContextManager[Backup]:
        """Hold a running machine's disks at one moment. See `Hypervisor.point_in_time`."""
        if self._writing is None:
            self._writing = self._open(self._libvirt.open)
        domain = self._lookup(self._writing, machine.uuid)
        system = urlsplit(self._writing.getURI()).path == "/system"
        state_directory = self._state_directory if system else None
        return Backup(
            self._libvirt, self.uri, domain, machine, limits=self._limits, state_directory=state_directory
        )

    def _lookup(self, connection: Connection, machine: str) -> Domain:
        attempts: list[Callable[[], Domain]] = []
        if _ID.fullmatch(machine) and int(machine) <= _MAX_ID:
            attempts.append(lambda: connection.lookupByID(int(machine)))
        if _UUID.fullmatch(machine):
            attempts.append(lambda: connection.lookupByUUIDString(machine))
        attempts.append(lambda: connection.lookupByName(machine))
        for attempt in attempts:
            try:
                return attempt()
            except self._libvirt.libvirtError as error:
                if code(error) != self._libvirt.VIR_ERR_NO_DOMAIN:
                    raise OperationError(f"machine {machine!r} on {self.uri}: {message(error)}") from error
        raise NotFoundError(self._not_found(connection, machine))

    def _not_found(self, connection: Connection, machine: str) -> str:
        try:
            names = [domain.name() for domain in connection.listAllDomains()]
        except self._libvirt.libvirtError:
            names = []
        near = difflib.get_close_matches(machine, names, n=3, cutoff=0.5)
        hint = (
            f"did you mean {', '.join(near)}?" if near else f"it has {len(names)} machines: virsh list --all"
        )
        return f"machine {machine!r}: not on {self.uri}; {hint}"

    def _resolved(self, disk: DomainDisk, volume: domain_xml.VolumeName | None) -> DomainDisk:
        """Add what only the storage pools know: a volume's path."""
        try:
            if disk.kind is DiskKind.VOLUME and volume is not None:
                disk = replace(disk, path=volumes.volume_path(self._libvirt, self._reading, volume))
        except InputError as error:
            return replace(disk, problem=disk.problem or str(error))
        return disk

    def _open(self, opener: Callable[[str], Connection]) -> Connection:
        try:
            return opener(self.uri)
        except self._libvirt.libvirtError as error:
            raise OperationError(
                f"libvirt at {self.uri}: {message(error)}; start libvirtd (systemctl start libvirtd), name"
                " another with -c URI, or scan the image files themselves"
            ) from error


def require_local(uri: str) -> None:
    """Raise OperationError for a URI of another host: its paths and sockets mean nothing here."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    if parts.netloc or transport not in {"", "unix"}:
        raise OperationError(
            f"{uri}: machines of another host cannot be read from here; run undercroft on that host"
        )
