"""The channel beneath the guest in libvirt's domain XML: read, added, and as a device to be plugged in.

Follows libvirt's "Domain XML format", section "Channel". Limits and trust as in `domain_xml`.
"""

from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from undercroft.adapters.libvirt.domain_xml import end_tag, parse_root
from undercroft.errors import InputError
from undercroft.model.channel import NAME

DEVICE = f"<channel type='unix'><target type='virtio' name='{NAME}'/></channel>"
"""libvirt chooses the socket's path, in a folder of the machine's own, and adds a controller for it."""
_LISTENS = "bind"
MAX_PATH_BYTES = 107
"""Of a unix socket's address."""


@dataclass(frozen=True, slots=True)
class ChannelDefinition:
    """A machine's channel: the socket on which QEMU listens, "" where none is named; why it is of no use."""

    path: str
    problem: str = ""


def channel_of(root: ElementTree.Element) -> ChannelDefinition | None:
    """Return the channel of a domain's XML, None where it has none."""
    for element in root.findall("devices/channel"):
        target = element.find("target")
        if target is None or target.get("name") != NAME or target.get("type") != "virtio":
            continue
        source = element.find("source")
        path = source.get("path", "") if source is not None else ""
        if element.get("type") != "unix" or (source is not None and source.get("mode", _LISTENS) != _LISTENS):
            return ChannelDefinition("", f"its channel {NAME} is none on which QEMU listens at a unix socket")
        if len(path.encode()) > MAX_PATH_BYTES or (path and not path.startswith("/")):
            return ChannelDefinition("", f"its channel's path is none of a socket: {path[:MAX_PATH_BYTES]!r}")
        return ChannelDefinition(path)
    return None


def with_channel(definition_xml: str) -> str:
    """Return a domain's XML with the channel, all else byte for byte as it was; unchanged if it has one.

    Put in as text, for the reasons of `machine_xml.with_genid`.

    Raises InputError where the XML is malformed or has no <devices> to put it into.
    """
    if channel_of(parse_root(definition_xml, "domain")) is not None:
        return definition_xml
    data = definition_xml.encode()
    place = end_tag(data, "devices")
    if place < 0 or not data[place:].startswith(b"</devices"):
        raise InputError("libvirt's domain XML: no <devices> with anything in it")
    return (data[:place] + f"  {DEVICE}\n  ".encode() + data[place:]).decode()


def snapshot_xml(name: str) -> str:
    """Return what libvirt takes a snapshot of that name by: internal, with RAM where the machine runs."""
    return f"<domainsnapshot><name>{escape(name)}</name></domainsnapshot>"
