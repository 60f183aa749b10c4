"""What a hypervisor says of a machine: its disks, interfaces, snapshots, and who it belongs to.

All of it is the host's own word: libvirt's definition, never anything that the guest wrote.
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class DiskKind(StrEnum):
    """Where a disk's bytes lie. A storage volume is resolved to its path and stays a `VOLUME`."""

    FILE = "file"
    BLOCK = "block"
    VOLUME = "volume"
    NETWORK = "network"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ChainEntry:
    """One backing image.

    Attributes:
        path: absolute path on this host.
        format: "raw", "qcow2", ... as the hypervisor names it; "" where it does not say or only guesses.
            Then the format is what the header of the image above names, and where that names none the
            chain is unread: probing would believe bytes that a guest may have written.
        data_file: the external data file's path, "" for none.
    """

    path: str
    format: str
    data_file: str = ""


@dataclass(frozen=True, slots=True)
class DomainDisk:
    """One disk of a machine.

    Attributes:
        target: the guest's name for it ("vda"), unique in the machine.
        device: "disk", "lun", "cdrom" or "floppy"; only the first two hold a machine's own software.
        kind: where the bytes lie.
        path: the top image's absolute path on this host, "" for none.
        format: the top image's format; the hypervisor's word, never probed.
        chain: backing images below the top, nearest first; () for none; None when the hypervisor does not
            say, which happens to stopped machines whose images lie in no storage pool.
        data_file: the top image's external data file, "" for none or not said.
        readonly: the guest cannot write it.
        shareable: other machines may write it at the same time.
        encrypted: the hypervisor holds a key for it.
        problem: why the files cannot be read as named, "" when they can. A running machine's
            `PointInTime` may serve the disk all the same.
        identity: what the path led to when the machine was last looked at while it ran, whatever the path is
            called: "file DEVICE:INODE" or "block MAJOR:MINOR"; "" where nobody looked or could.
    """

    target: str
    device: str
    kind: DiskKind
    path: str
    format: str
    chain: tuple[ChainEntry, ...] | None = ()
    data_file: str = ""
    readonly: bool = False
    shareable: bool = False
    encrypted: bool = False
    problem: str = ""
    identity: str = ""

    @property
    def removable(self) -> bool:
        """True for a CD-ROM or floppy drive, which a scan lists and skips."""
        return self.device in {"cdrom", "floppy"}


class Power(StrEnum):
    """Whether a machine runs. SAVED: off, with its RAM in a managed save image."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"
    SAVED = "saved"
    CRASHED = "crashed"

    @property
    def has_process(self) -> bool:
        """True while QEMU runs, also for a machine that is paused."""
        return self in {Power.RUNNING, Power.PAUSED}


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface.

    Attributes:
        mac: in lower case, "" where none is set yet.
        kind: libvirt's type: "network", "bridge", "user", "direct", "hostdev", "vhostuser", ...
        source: the network's or the bridge's name, "" for neither.
        bridge: the host's bridge, "" where the definition does not say (a network of a stopped machine).
        tap: the host's device, "" while there is none.
        addresses: what the libvirt network reserves for its MAC, IPv4 and IPv6 as `ipaddress` writes them,
            sorted; () for none. libvirt's word, as last surveyed.
    """

    mac: str
    kind: str
    source: str = ""
    bridge: str = ""
    tap: str = ""
    addresses: tuple[str, ...] = ()

    @property
    def holdable(self) -> bool:
        """True where a tap on a bridge carries the traffic, so that the host can hold it."""
        return self.kind in {"network", "bridge"}


@dataclass(frozen=True, slots=True)
class SnapshotDisk:
    """What a snapshot holds of one disk. `kind`: "no", "internal", "external" or "manual".

    `path` is an external snapshot's new top image: the file that the machine wrote to from then on.
    """

    target: str
    kind: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class DomainSnapshot:
    """One snapshot as libvirt keeps it.

    Attributes:
        name: unique in the machine.
        parent: the snapshot before it, "" for none.
        created_at_s: seconds since the epoch.
        state: libvirt's word for the machine's state then: "running", "paused", "shutoff", "disk-snapshot".
        memory: "no", "internal" or "external"; `memory_path` is the latter's file.
        disks: in the order of the definition.
        current: the machine descends from it.
    """

    name: str
    parent: str
    created_at_s: int
    state: str
    memory: str = "no"
    memory_path: str = ""
    disks: tuple[SnapshotDisk, ...] = ()
    current: bool = False


@dataclass(frozen=True, slots=True)
class DomainCheckpoint:
    """One checkpoint: a moment since which libvirt knows which blocks changed. It holds no state of its own.

    Attributes:
        name: unique in the machine.
        parent: the checkpoint before it, "" for none.
        created_at_s: seconds since the epoch, 0 where nobody knows.
    """

    name: str
    parent: str = ""
    created_at_s: int = 0


@dataclass(frozen=True, slots=True)
class Ownership:
    """What the administrator wrote into the machine's metadata (namespace `urn:undercroft:machine:1`).

    Attributes:
        owner: a person or a team, "" for nobody.
        labels: sorted.
        expires_on: the first day on which it may not start any more, None for never.
        template: never started itself; others are made from it.
        problem: why the metadata is not as it should be, "" when it is. Its fields then say nothing.
        addresses: sorted; "192.0.2.7" is its first interface's, "192.0.2.7@52:54:00:00:00:01" that of the
            interface with this MAC. As `ipaddress` writes them, MACs in lower case.
    """

    owner: str = ""
    labels: tuple[str, ...] = ()
    expires_on: date | None = None
    template: bool = False
    problem: str = ""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """One machine as its hypervisor defines it.

    Attributes:
        uuid: in lower case with hyphens; the machine's identity.
        name: unique on its host at one time.
        power: at the time of the survey.
        libvirt_id: the running instance's number, 0 while off.
        persistent: False for a transient machine, which is gone when it stops.
        autostart: started with the host.
        genid: the definition has `<genid/>`, so that libvirt renews it at a restore.
        disks, interfaces: in the order of the definition.
        snapshots, checkpoints: parents before children.
        managed_save: the path of its managed save image, "" for none.
        ownership: from its metadata.
        beside: what it may run that none of its disks holds and no scan sees, in words ("a CD-ROM in sda").
        loaded: the snapshot that its process was started from, as its command line has it, "" for none.
        tainted: libvirt's marks ("custom-monitor", ...): somebody went past it.
        problem: why it could not be read whole, "" when it could.
        channel: it has a port for what runs beneath its guest (`model.channel.NAME`).
        channel_path: the socket on which its process listens for that, "" while it is off.
    """

    uuid: str
    name: str
    power: Power
    libvirt_id: int = 0
    persistent: bool = True
    autostart: bool = False
    genid: bool = False
    disks: tuple[DomainDisk, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    snapshots: tuple[DomainSnapshot, ...] = ()
    checkpoints: tuple[DomainCheckpoint, ...] = ()
    managed_save: str = ""
    ownership: Ownership = Ownership()
    beside: tuple[str, ...] = ()
    loaded: str = ""
    tainted: tuple[str, ...] = ()
    problem: str = ""
    channel: bool = False
    channel_path: str = ""


@dataclass(frozen=True, slots=True)
class PoolVolume:
    """One volume of a storage pool that is a file or a block device of this host.

    `format` is the pool's word for it, "" where it has none. It comes from the volume's own header.
    """

    pool: str
    name: str
    path: str
    format: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Survey:
    """All that a hypervisor has, at one time.

    Attributes:
        host: the host's name.
        uri: the connection.
        taken_at: with a time zone.
        domains: sorted by name.
        volumes: of all active pools, sorted by path; also those that domains use.
        problems: what could not be listed (an inactive pool, a domain that vanished is none).
    """

    host: str
    uri: str
    taken_at: datetime
    domains: tuple[Domain, ...]
    volumes: tuple[PoolVolume, ...] = ()
    problems: tuple[str, ...] = ()

    def unused_volumes(self) -> tuple[PoolVolume, ...]:
        """Return the volumes that no machine has as a top or backing image, nor as a snapshot's file."""
        used = {path for domain in self.domains for path in _paths(domain)}
        return tuple(volume for volume in self.volumes if volume.path not in used)


def _paths(domain: Domain) -> set[str]:
    paths = {disk.path for disk in domain.disks} | {disk.data_file for disk in domain.disks}
    paths |= {entry.path for disk in domain.disks for entry in disk.chain or ()}
    paths |= {disk.path for snapshot in domain.snapshots for disk in snapshot.disks}
    paths |= {snapshot.memory_path for snapshot in domain.snapshots}
    return paths
