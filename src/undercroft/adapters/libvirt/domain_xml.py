"""libvirt's XML as values: domains, storage volumes and backup jobs. Pure; no I/O.

Follows libvirt's "Domain XML format", "Storage volume XML format" and "Backup XML format". The text comes
from libvirtd, which is trusted more than a guest; it is still bounded, and DTDs, the carriers of entity
expansion, are refused. Unknown elements are ignored, as newer libvirts add some.

A missing `<backingStore>` means "not said"; an empty one ends the chain.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.parsers import expat

from undercroft.errors import InputError
from undercroft.model.domain import ChainEntry, DiskKind, DomainDisk

MAX_XML_CHARACTERS = 8 << 20
"""A domain with 1,000 disks has less than 1 MiB; libvirt's own limit for a message is 32 MiB."""
MAX_DISKS = 1024
MAX_CHAIN = 256
"""Images below the top; libvirt refuses chains of more than 200."""

_IMAGE_ATTRIBUTES = {"file": "file", "block": "dev"}


@dataclass(frozen=True, slots=True)
class VolumeName:
    """A storage volume as a domain refers to it."""

    pool: str
    volume: str


@dataclass(frozen=True, slots=True)
class DomainDefinition:
    """What a domain's XML says.

    Attributes:
        name: the domain's name.
        uuid: lower case, with hyphens.
        disks: in the order of the XML; those in `volumes` have no path yet.
        volumes: target -> the storage volume that holds it.
    """

    name: str
    uuid: str
    disks: tuple[DomainDisk, ...]
    volumes: dict[str, VolumeName]


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, *_identifiers: str | None) -> None:
        """Refuse the only place where entities can be declared."""
        raise InputError(f"libvirt's XML declares a document type ({name}); it never has one")


def parse_domain(untrusted_xml: str) -> DomainDefinition:
    """Return a domain's disks from its XML.

    Raises InputError where the XML is malformed, lacks a name or UUID, or passes a limit.
    """
    return definition(parse_root(untrusted_xml, "domain"))


def definition(root: ElementTree.Element) -> DomainDefinition:
    """Return a domain's disks from its parsed XML. Raises InputError as `parse_domain` does."""
    disks: list[DomainDisk] = []
    volumes: dict[str, VolumeName] = {}
    for element in root.iterfind("devices/disk"):
        if len(disks) == MAX_DISKS:
            raise InputError(f"libvirt's domain XML: more than {MAX_DISKS} disks")
        disk = _disk(element)
        disks.append(disk)
        source = element.find("source")
        if disk.kind is DiskKind.VOLUME and source is not None:
            volumes[disk.target] = VolumeName(source.get("pool", ""), source.get("volume", ""))
    name, uuid = root.findtext("name"), root.findtext("uuid")
    if not name or not uuid:
        raise InputError("libvirt's domain XML: no <name> or no <uuid>")
    return DomainDefinition(name, uuid.lower(), tuple(disks), volumes)


def parse_backup_scratch(untrusted_xml: str) -> tuple[str, ...]:
    """Return the scratch files of a running backup job. Raises InputError as `parse_domain` does."""
    root = parse_root(untrusted_xml, "domainbackup")
    paths = (scratch.get("file", "") for scratch in root.iterfind("disks/disk/scratch"))
    return tuple(path for path in paths if path)


def backup_xml(socket_path: str, scratch_files: dict[str, str], left_out: tuple[str, ...]) -> str:
    """Return the XML of a pull-mode backup job.

    Args:
        socket_path: where QEMU's NBD server listens.
        scratch_files: target -> file that keeps what the guest overwrites; the target is the export's name.
        left_out: targets that take no part; libvirt would include the ones that are not named.
    """
    root = ElementTree.Element("domainbackup", mode="pull")
    ElementTree.SubElement(root, "server", transport="unix", socket=socket_path)
    disks = ElementTree.SubElement(root, "disks")
    for target, path in scratch_files.items():
        disk = ElementTree.SubElement(
            disks, "disk", name=target, backup="yes", type="file", exportname=target
        )
        ElementTree.SubElement(disk, "driver", type="qcow2")
        ElementTree.SubElement(disk, "scratch", file=path)
    for target in left_out:
        ElementTree.SubElement(disks, "disk", name=target, backup="no")
    return ElementTree.tostring(root, encoding="unicode")


def parse_root(untrusted_xml: str, expected: str) -> ElementTree.Element:
    """Return the root of libvirt's XML, which is `<expected>`.

    Raises InputError where it is malformed, another element, over the limit, or declares a document type.
    """
    if len(untrusted_xml) > MAX_XML_CHARACTERS:
        raise InputError(
            f"libvirt's {expected} XML: {len(untrusted_xml)} characters, the limit is {MAX_XML_CHARACTERS}"
        )
    parser = ElementTree.XMLParser(target=_NoDoctype())  # noqa: S314 - DTDs are refused, the size is bounded
    try:
        parser.feed(untrusted_xml)
        untrusted_root: object = parser.close()
    except (ElementTree.ParseError, UnicodeEncodeError) as error:
        raise InputError(f"libvirt's {expected} XML is malformed: {error}") from error
    if not isinstance(untrusted_root, ElementTree.Element) or untrusted_root.tag != expected:
        raise InputError(f"libvirt's XML: <{expected}> expected, found something else")
    return untrusted_root


def _disk(element: ElementTree.Element) -> DomainDisk:
    target = element.find("target")
    name = target.get("dev", "") if target is not None else ""
    if not name:
        raise InputError("libvirt's domain XML: a disk without <target dev=...>")
    kind = _kind(element.get("type", "file"))
    source = element.find("source")
    driver = element.find("driver")
    image_format = driver.get("type", "raw") if driver is not None else "raw"
    chain, chain_problem = _chain(element)
    if chain is None and image_format == "raw":
        chain = ()  # raw has no header: there is nothing that could name a backing image
    return DomainDisk(
        target=name,
        device=element.get("device", "disk"),
        kind=kind,
        path=_image_path(element.get("type", "file"), source),
        format=image_format,
        chain=chain,
        data_file=_data_file(source),
        readonly=element.find("readonly") is not None,
        shareable=element.find("shareable") is not None,
        encrypted=element.find("encryption") is not None or element.find("source/encryption") is not None,
        problem=_source_problem(element.get("type", "file"), source) or chain_problem,
    )


def _kind(untrusted_type: str) -> DiskKind:
    try:
        return DiskKind(untrusted_type)
    except ValueError:
        return DiskKind.OTHER


def _image_path(source_type: str, source: ElementTree.Element | None) -> str:
    attribute = _IMAGE_ATTRIBUTES.get(source_type)
    return source.get(attribute, "") if attribute and source is not None else ""


def _data_file(source: ElementTree.Element | None) -> str:
    """Return the path in `<dataStore>` (libvirt 10.10 and newer), "" without one."""
    store = source.find("dataStore") if source is not None else None
    return _image_path(store.get("type", "file"), store.find("source")) if store is not None else ""


def _source_problem(source_type: str, source: ElementTree.Element | None) -> str:
    if source_type == "volume":
        return ""
    if source_type == "network" and source is not None:
        return f"network disk ({source.get('protocol', '?')}:{source.get('name', '')}): unread"
    if source_type not in _IMAGE_ATTRIBUTES:
        return f"disk of type {source_type}: unread"
    if source is not None and source.find("slices/slice[@type='storage']") is not None:
        return "a slice of a file: unread"
    return ""


def _chain(disk: ElementTree.Element) -> tuple[tuple[ChainEntry, ...] | None, str]:
    """Return (chain, problem); the chain is None where the XML does not tell its end."""
    entries: list[ChainEntry] = []
    for store in _backing_stores(disk):
        if not len(store):
            return tuple(entries), ""
        if len(entries) == MAX_CHAIN:
            raise InputError(f"libvirt's domain XML: more than {MAX_CHAIN} backing images")
        source_type, source = store.get("type", "file"), store.find("source")
        if problem := _source_problem(source_type, source):
            return tuple(entries), f"backing image {len(entries) + 1}: {problem}"
        entry = ChainEntry(_image_path(source_type, source), _format(store), _data_file(source))
        if not entry.path or not entry.format:
            return tuple(entries), f"backing image {len(entries) + 1}: libvirt names no file or no format"
        entries.append(entry)
    if entries and entries[-1].format == "raw":
        return tuple(entries), ""
    return None, ""


def _backing_stores(disk: ElementTree.Element) -> Iterator[ElementTree.Element]:
    store = disk.find("backingStore")
    while store is not None:
        yield store
        store = store.find("backingStore")


def _format(parent: ElementTree.Element | None) -> str:
    element = parent.find("format") if parent is not None else None
    return element.get("type", "") if element is not None else ""


def end_tag(data: bytes, name: str) -> int:
    """Return where the end tag of the last `name` right below the root begins, -1 for none.

    An empty element's own tag counts as its end. The XML is well-formed: `parse_root` has read it.
    """
    depth, place = 0, -1
    parser = expat.ParserCreate("utf-8")

    def start(_name: str, _attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1

    def end(found: str) -> None:
        nonlocal depth, place
        depth -= 1
        if depth == 1 and found == name:
            place = parser.CurrentByteIndex

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(data, True)
    return place
