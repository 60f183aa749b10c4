"""libvirt's XML as values beyond a domain's disks: interfaces, snapshots, volumes, pools. Pure; no I/O.

Follows libvirt's "Domain XML format", "Snapshot XML format" and "Storage pool and volume XML format". Limits
and trust as in `domain_xml`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from xml.etree import ElementTree

from undercroft.adapters.libvirt import domain_xml
from undercroft.adapters.libvirt.boot_xml import runs_beside
from undercroft.adapters.libvirt.channel_xml import ChannelDefinition, channel_of
from undercroft.adapters.libvirt.domain_xml import DomainDefinition, end_tag, parse_root
from undercroft.adapters.libvirt.ownership_xml import parse_ownership
from undercroft.errors import InputError
from undercroft.model.domain import (
    ChainEntry,
    DomainCheckpoint,
    DomainSnapshot,
    Interface,
    Ownership,
    PoolVolume,
    SnapshotDisk,
)

MAX_INTERFACES = 1024
MAX_ID = 2**31 - 1
MAX_SECONDS = 2**40

_Taken = TypeVar("_Taken", DomainSnapshot, DomainCheckpoint)

_SOURCE_ATTRIBUTES = {"network": "network", "bridge": "bridge"}
_HOST_VOLUMES = frozenset({"file", "block"})


@dataclass(frozen=True, slots=True)
class MachineDefinition:
    """What a domain's XML says of it, with `disks` as in `DomainDefinition`, `beside` as in `Domain`."""

    disks: DomainDefinition
    libvirt_id: int
    genid: bool
    interfaces: tuple[Interface, ...]
    ownership: Ownership
    beside: tuple[str, ...]
    channel: ChannelDefinition | None = None


@dataclass(frozen=True, slots=True)
class PoolDefinition:
    """A storage pool: `kind` is libvirt's type ("dir", "logical", ...), `path` its target folder or ""."""

    name: str
    kind: str
    path: str


def parse_machine(untrusted_xml: str) -> MachineDefinition:
    """Return a domain's definition. Raises InputError as `domain_xml.parse_domain` does."""
    root = parse_root(untrusted_xml, "domain")
    interfaces = root.findall("devices/interface")
    if len(interfaces) > MAX_INTERFACES:
        raise InputError(f"libvirt's domain XML: more than {MAX_INTERFACES} interfaces")
    libvirt_id = _number(root.get("id", "0"), MAX_ID)
    return MachineDefinition(
        disks=domain_xml.definition(root),
        libvirt_id=libvirt_id,
        genid=root.find("genid") is not None,
        interfaces=tuple(_interface(element, live=libvirt_id > 0) for element in interfaces),
        ownership=parse_ownership(root),
        beside=runs_beside(root),
        channel=channel_of(root),
    )


def parse_snapshot(untrusted_xml: str, *, current: bool) -> DomainSnapshot:
    """Return one snapshot. Raises InputError where the XML is malformed, nameless, or over a limit."""
    root = parse_root(untrusted_xml, "domainsnapshot")
    name = root.findtext("name")
    if not name:
        raise InputError("libvirt's snapshot XML: no <name>")
    disks = root.findall("disks/disk")
    if len(disks) > domain_xml.MAX_DISKS:
        raise InputError(f"snapshot {name!r}: more than {domain_xml.MAX_DISKS} disks")
    memory = root.find("memory")
    return DomainSnapshot(
        name=name,
        parent=root.findtext("parent/name") or "",
        created_at_s=_number(root.findtext("creationTime") or "0", MAX_SECONDS),
        state=root.findtext("state") or "",
        memory=memory.get("snapshot", "no") if memory is not None else "no",
        memory_path=memory.get("file", "") if memory is not None else "",
        disks=tuple(_snapshot_disk(disk) for disk in disks),
        current=current,
    )


def parse_snapshot_images(untrusted_xml: str) -> tuple[ChainEntry, ...]:
    """Return the images that the machine wrote to when a snapshot was taken, as its definition was then.

    Raises InputError as `parse_snapshot` does.
    """
    kept = parse_root(untrusted_xml, "domainsnapshot").find("domain")
    if kept is None:
        return ()
    disks = domain_xml.definition(kept).disks
    return tuple(ChainEntry(disk.path, disk.format, disk.data_file) for disk in disks if disk.path)


def parse_checkpoint(untrusted_xml: str) -> DomainCheckpoint:
    """Return one checkpoint. Raises InputError where the XML is malformed, nameless, or over a limit."""
    root = parse_root(untrusted_xml, "domaincheckpoint")
    name = root.findtext("name")
    if not name:
        raise InputError("libvirt's checkpoint XML: no <name>")
    created_at_s = _number(root.findtext("creationTime") or "0", MAX_SECONDS)
    return DomainCheckpoint(name, root.findtext("parent/name") or "", created_at_s)


def parents_first(taken: Sequence[_Taken]) -> tuple[_Taken, ...]:
    """Return snapshots, or checkpoints: parents before children, siblings in the order of their making.

    One whose parent is not there, or that descends from itself, comes with the roots.
    """
    names = {one.name for one in taken}
    children: dict[str, list[_Taken]] = {}
    for one in sorted(taken, key=lambda one: (one.created_at_s, one.name)):
        children.setdefault(one.parent if one.parent in names else "", []).append(one)
    ordered: dict[str, _Taken] = {}
    waiting = children.pop("", [])
    while waiting or children:
        if not waiting:  # only a circle is left: broken anywhere
            waiting = children.pop(next(iter(children)))
        for one in waiting:
            ordered[one.name] = one
        waiting = [child for one in waiting for child in children.pop(one.name, [])]
    return tuple(ordered.values())


def parse_pool(untrusted_xml: str) -> PoolDefinition:
    """Return a storage pool's definition. Raises InputError where the XML is malformed or nameless."""
    root = parse_root(untrusted_xml, "pool")
    name = root.findtext("name")
    if not name:
        raise InputError("libvirt's pool XML: no <name>")
    return PoolDefinition(name, root.get("type", ""), root.findtext("target/path") or "")


def parse_volume(untrusted_xml: str, pool: str) -> PoolVolume | None:
    """Return one volume, None when it is no file or block device of this host. Raises InputError."""
    root = parse_root(untrusted_xml, "volume")
    name, path = root.findtext("name"), root.findtext("target/path")
    if root.get("type", "file") not in _HOST_VOLUMES:
        return None
    if not name or not path:
        raise InputError("libvirt's volume XML: no <name> or no <path>")
    image_format = root.find("target/format")
    size = root.findtext("physical") or root.findtext("capacity") or "0"
    return PoolVolume(
        pool=pool,
        name=name,
        path=path,
        format=image_format.get("type", "") if image_format is not None else "",
        size_bytes=_number(size, 2**63),
    )


def with_genid(definition_xml: str) -> str:
    """Return a domain's XML with `<genid/>`, all else byte for byte as it was; unchanged if it has one.

    Put in as text: a parser that writes the XML anew renames the prefixes of namespaces, and libvirt drops
    what it does not know by its own ("qemu:commandline").

    Raises InputError where the XML is malformed or has no <uuid> to put it after.
    """
    if parse_root(definition_xml, "domain").find("genid") is not None:
        return definition_xml
    data = definition_xml.encode()
    place = end_tag(data, "uuid")
    if place < 0:
        raise InputError("libvirt's domain XML: no <uuid>")
    place = data.index(b">", place) + 1
    return (data[:place] + b"\n  <genid/>" + data[place:]).decode()


def _interface(element: ElementTree.Element, *, live: bool) -> Interface:
    """Return one interface; a definition may name a tap that is not there while the machine is off."""
    kind = element.get("type", "")
    source, mac, target = element.find("source"), element.find("mac"), element.find("target")
    attribute = _SOURCE_ATTRIBUTES.get(kind)
    return Interface(
        mac=mac.get("address", "").lower() if mac is not None else "",
        kind=kind,
        source=source.get(attribute, "") if source is not None and attribute else "",
        bridge=source.get("bridge", "") if source is not None and attribute else "",
        tap=target.get("dev", "") if live and target is not None else "",
    )


def _snapshot_disk(element: ElementTree.Element) -> SnapshotDisk:
    kind = element.get("snapshot", "no")
    source = element.find("source")
    path = ""
    if kind == "external" and source is not None:
        path = source.get("file", "") or source.get("dev", "")
    return SnapshotDisk(element.get("name", ""), kind, path)


def _number(untrusted_text: str, maximum: int) -> int:
    if not (untrusted_text.isascii() and untrusted_text.isdigit() and len(untrusted_text) <= 20):
        raise InputError(f"libvirt's XML: a number expected, found {untrusted_text[:40]!r}")
    number = int(untrusted_text)
    if number > maximum:
        raise InputError(f"libvirt's XML: number {number}, at most {maximum} is possible")
    return number
