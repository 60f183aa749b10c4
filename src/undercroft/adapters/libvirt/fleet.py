"""libvirt as the fleet's hypervisor: everything that it has, what happens to it, and a few commands."""

import difflib
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from undercroft.adapters.libvirt import channel_xml, jobs, machine_xml, ownership_xml, scratch, watch
from undercroft.adapters.libvirt.bindings import Connection, Libvirt, Snapshot, code, load, message
from undercroft.adapters.libvirt.bindings import Domain as Handle
from undercroft.adapters.libvirt.connections import Connections, raise_when_dead
from undercroft.adapters.libvirt.hypervisor import SYSTEM_STATE_DIRECTORY, default_uri, require_local
from undercroft.adapters.libvirt.network_xml import NetworkDefinition
from undercroft.adapters.libvirt.survey import Surveyor
from undercroft.errors import BusyError, NotFoundError, OperationError, StateError
from undercroft.model.domain import Domain, DomainSnapshot, Survey
from undercroft.ports.fleet import ChannelEnabled, MachineEvent

EXTERNAL_CURE = (
    "this libvirt cannot do it for external snapshots; libvirt 9.9 and newer can, and by hand: virsh"
    " blockcommit, then virsh snapshot-delete --metadata"
)
_BLOCK_JOB = "active block job"
"""What libvirt calls a backup, which a scan is, where it refuses a revert."""


class LibvirtFleet:
    """`ports.fleet.FleetHypervisor` over one libvirt connection URI. Use as a context manager.

    Nothing is connected until it is needed, and a connection that died is made anew: it may be made before
    libvirt runs, and outlives its restarts.

    Args:
        uri: a libvirt connection URI of this host; "" for `default_uri`.
        save_directory: where managed save images lie; None for libvirt's own place.

    Raises:
        OperationError: libvirt-python is missing, or the URI names another host, whose images cannot be
            opened from here.
    """

    def __init__(self, uri: str = "", save_directory: Path | None = None) -> None:
        self.uri = uri or default_uri()
        require_local(self.uri)
        self._libvirt: Libvirt = load()
        self._save_directory = save_directory or _save_directory(self.uri)
        self._connections = Connections(self._libvirt, self.uri)
        self._networks: dict[str, NetworkDefinition] = {}

    def __enter__(self) -> "LibvirtFleet":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._connections.close()

    def survey(self) -> Survey:
        """Return everything. See `FleetHypervisor.survey`."""
        with self._connections.reading() as connection:
            return self._surveyor(connection).survey(self.uri)

    def domain(self, uuid: str) -> Domain:
        """Return one machine. See `FleetHypervisor.domain`."""
        with self._connections.reading() as connection:
            handle = self._handle(connection, uuid)
            found = self._surveyor(connection).domain(handle)
        if found is None:
            raise NotFoundError(self._not_found(uuid))
        return found

    def events(self) -> AsyncIterator[MachineEvent]:
        """Yield events for ever. See `FleetHypervisor.events`."""
        return watch.watch(self._libvirt, self._connections)

    def revert(self, uuid: str, snapshot: str, *, paused: bool = False) -> None:
        """Revert a machine to a snapshot. See `FleetHypervisor.revert`.

        libvirt's --force is never used: where libvirt calls a revert risky, its words are the answer.
        """
        flags = self._libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED if paused else 0
        with self._handled(uuid, f"revert to {snapshot!r}", EXTERNAL_CURE) as handle:
            found = self._snapshot(handle, snapshot)
            try:
                handle.revertToSnapshot(found, flags)
            except self._libvirt.libvirtError as error:
                if code(error) == self._libvirt.VIR_ERR_OPERATION_INVALID and self._is_held(handle, error):
                    raise BusyError(
                        f"machine {handle.name()}: a scan holds its disks, and libvirt reverts none that is"
                        f" held ({message(error)}): virsh domjobinfo {handle.name()}"
                    ) from error
                raise

    def _is_held(self, handle: Handle, error: Exception) -> bool:
        """Tell whether a scan of ours kept libvirt from it, also one that has ended since."""
        files = jobs.scratch_files(self._libvirt, handle)
        if files is not None:
            return scratch.marked_folder(files) is not None
        return _BLOCK_JOB in message(error)

    def start(self, uuid: str) -> None:
        """Start a machine that is off. See `FleetHypervisor.start`."""
        with self._handled(uuid, "start") as handle:
            handle.create()

    def destroy(self, uuid: str, libvirt_id: int = 0) -> None:
        """Stop a machine at once. See `FleetHypervisor.destroy`.

        libvirt itself goes by the UUID: what is started anew in the instant after the look is stopped too.
        """
        with self._handled(uuid, "destroy") as handle:
            if libvirt_id and handle.isActive() and handle.ID() != libvirt_id:
                raise StateError(
                    f"machine {handle.name()}: it was started anew since, and is another process than the one"
                    " that was to be stopped: look at it first"
                )
            try:
                handle.destroy()
            except self._libvirt.libvirtError as error:
                if code(error) != self._libvirt.VIR_ERR_OPERATION_INVALID or handle.isActive():
                    raise

    def enable_genid(self, uuid: str) -> None:
        """Add `<genid/>` to a machine's definition. See `FleetHypervisor.enable_genid`.

        Raises InputError where the definition cannot be read.
        """
        what = "define with <genid/>"
        with self._connections.commanding() as connection, self._told(connection, uuid, what):
            handle = self._handle(connection, uuid)
            if not handle.isPersistent():
                raise OperationError(
                    f"machine {handle.name()}: transient, it has no definition to change; add <genid/> to the"
                    " XML that it is created from"
                )
            flags = self._libvirt.VIR_DOMAIN_XML_INACTIVE | self._libvirt.VIR_DOMAIN_XML_SECURE
            before = handle.XMLDesc(flags)
            after = machine_xml.with_genid(before)
            if after != before:
                connection.defineXML(after)

    def enable_channel(self, uuid: str) -> ChannelEnabled:
        """Give a machine its channel. See `FleetHypervisor.enable_channel`.

        Raises InputError where the definition cannot be read.
        """
        flags = self._libvirt.VIR_DOMAIN_XML_INACTIVE | self._libvirt.VIR_DOMAIN_XML_SECURE
        what = "define with a channel"
        with self._connections.commanding() as connection, self._told(connection, uuid, what):
            handle = self._handle(connection, uuid)
            done = ChannelEnabled()
            if handle.isPersistent():
                before = handle.XMLDesc(flags)
                after = channel_xml.with_channel(before)
                if after != before:
                    connection.defineXML(after)
                    done = replace(done, defined=True)
            return self._plugged(handle, done) if handle.isActive() else done

    def _plugged(self, handle: Handle, done: ChannelEnabled) -> ChannelEnabled:
        """Plug the channel into what runs, where libvirt can."""
        if channel_xml.with_channel(live := handle.XMLDesc()) == live:
            return done
        try:
            handle.attachDeviceFlags(channel_xml.DEVICE, self._libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except self._libvirt.libvirtError as error:
            return replace(done, problem=message(error))
        return replace(done, plugged=True)

    def take_snapshot(self, uuid: str, snapshot: str) -> DomainSnapshot:
        """Take an internal snapshot. See `FleetHypervisor.take_snapshot`."""
        what = f"take snapshot {snapshot!r}"
        cure = "internal snapshots need qcow2 disks, and no passed-through device"
        with self._handled(uuid, what, cure) as handle:
            names = [known.getName() for known in handle.listAllSnapshots()]
            if snapshot in names:
                raise StateError(f"machine {handle.name()}: it has a snapshot {snapshot!r} already")
            try:
                made = handle.snapshotCreateXML(channel_xml.snapshot_xml(snapshot))
            except self._libvirt.libvirtError as error:
                if code(error) == self._libvirt.VIR_ERR_OPERATION_INVALID and self._is_held(handle, error):
                    raise BusyError(
                        f"machine {handle.name()}: a scan holds its disks: {message(error)}"
                    ) from error
                raise
            return machine_xml.parse_snapshot(made.getXMLDesc(), current=True)

    def is_paused(self, uuid: str) -> bool:
        """Tell whether a machine's process stands still. See `FleetHypervisor.is_paused`."""
        with self._connections.reading() as connection, self._told(connection, uuid, "ask its state"):
            return self._handle(connection, uuid).state()[0] == self._libvirt.VIR_DOMAIN_PAUSED

    def set_ownership(
        self,
        uuid: str,
        *,
        owner: str,
        labels: Sequence[str],
        expires_on: str,
        template: bool,
        addresses: Sequence[str],
    ) -> None:
        """Write a machine's metadata element. See `FleetHypervisor.set_ownership`.

        Raises InputError for a value that the element cannot hold.
        """
        element = ownership_xml.ownership_xml(owner, labels, expires_on, addresses, template=template)
        with self._handled(uuid, "set metadata") as handle:
            flags = self._libvirt.VIR_DOMAIN_AFFECT_CONFIG if handle.isPersistent() else 0
            if handle.isActive():
                flags |= self._libvirt.VIR_DOMAIN_AFFECT_LIVE
            kind = self._libvirt.VIR_DOMAIN_METADATA_ELEMENT
            handle.setMetadata(kind, element, ownership_xml.PREFIX, ownership_xml.NAMESPACE, flags)

    def delete_snapshot(self, uuid: str, snapshot: str) -> None:
        """Delete one snapshot. See `FleetHypervisor.delete_snapshot`."""
        with self._handled(uuid, f"delete snapshot {snapshot!r}", EXTERNAL_CURE) as handle:
            self._snapshot(handle, snapshot).delete()

    @contextmanager
    def _handled(self, uuid: str, what: str, cure: str = "") -> Iterator[Handle]:
        """Give a machine for one command; libvirt's error becomes one that names machine and command."""
        with self._connections.commanding() as connection, self._told(connection, uuid, what, cure):
            yield self._handle(connection, uuid)

    @contextmanager
    def _told(self, connection: Connection, uuid: str, what: str, cure: str = "") -> Iterator[None]:
        try:
            yield
        except self._libvirt.libvirtError as error:
            raise_when_dead(self._libvirt, connection, error)
            if code(error) == self._libvirt.VIR_ERR_NO_DOMAIN:
                raise NotFoundError(self._not_found(uuid)) from error
            unsupported = code(error) in {
                self._libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
                self._libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
            }
            hint = f"; {cure}" if cure and unsupported else ""
            raise OperationError(f"machine {uuid}: {what}: {message(error)}{hint}") from error

    def _handle(self, connection: Connection, uuid: str) -> Handle:
        try:
            return connection.lookupByUUIDString(uuid)
        except self._libvirt.libvirtError as error:
            raise_when_dead(self._libvirt, connection, error)
            raise NotFoundError(self._not_found(uuid)) from error

    def _surveyor(self, connection: Connection) -> Surveyor:
        return Surveyor(self._libvirt, connection, self._save_directory, self._networks)

    def _snapshot(self, handle: Handle, name: str) -> Snapshot:
        try:
            return handle.snapshotLookupByName(name)
        except self._libvirt.libvirtError as error:
            if code(error) != self._libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
                raise
            names = [snapshot.getName() for snapshot in handle.listAllSnapshots()]
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"it has {len(names)}: virsh snapshot-list"
            raise NotFoundError(f"machine {handle.name()}: no snapshot {name!r}; {hint}") from error

    def _not_found(self, uuid: str) -> str:
        return f"machine {uuid!r}: not on {self.uri}; virsh list --all --uuid"


def _save_directory(uri: str) -> Path:
    """Return where libvirt puts managed save images: of the system instance, or of the user's own."""
    if urlsplit(uri).path == "/session":
        config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(config) / "libvirt" / "qemu" / "save"
    return SYSTEM_STATE_DIRECTORY / "save"
