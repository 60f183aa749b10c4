"""A frame as the kernel's bridge sees it: where its headers stand, and which protocol it carries.

Source: net/core/skbuff.c (skb_vlan_untag), include/net/netfilter/nf_tables_ipv4.h and nf_tables_ipv6.h,
net/ipv6/exthdrs_core.c (ipv6_find_hdr).
"""

from dataclasses import dataclass

ETHER_BYTES = 14
TAG_BYTES = 4
VLAN = 0x8100
TAGS = frozenset({VLAN, 0x88A8})
IPV4, IPV6, ARP, RARP = 0x0800, 0x86DD, 0x0806, 0x8035

_HOP_OPTIONS, _ROUTING, _FRAGMENT, _AUTHENTICATION, _NONE, _TARGET_OPTIONS = 0, 43, 44, 51, 59, 60
_EXTENSIONS = frozenset({_HOP_OPTIONS, _ROUTING, _FRAGMENT, _AUTHENTICATION, _NONE, _TARGET_OPTIONS})
_MAX_OFFSET = 0xFFFF


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame with what the kernel finds in it.

    Attributes:
        frame: from the Ethernet header on, at least 14 bytes; the kernel drops shorter ones.
        network_offset: of the header after the Ethernet header and one tag.
        ether_type: what follows; after a tag, what the tag says.
        protocol: of the transport header, None where the kernel knows none.
        transport_offset: from the start of the frame; None for a later fragment too.
        misread_offset: where kernels look for the transport header of a later fragment that read up to four
            bytes of it all the same (Linux 6.18 does); for others `transport_offset`.
    """

    frame: bytes
    network_offset: int
    ether_type: int
    protocol: int | None = None
    transport_offset: int | None = None
    misread_offset: int | None = None

    @property
    def outer_type(self) -> int:
        """The type field of the Ethernet header as sent: a tag's, where there is one."""
        return int.from_bytes(self.frame[12:14], "big")

    @property
    def vlan(self) -> int | None:
        """The id in its 802.1Q tag, None without one; the outermost, where there are several."""
        return int.from_bytes(self.frame[14:16], "big") & 0x0FFF if self.outer_type == VLAN else None

    def link(self, offset: int, length: int) -> bytes | None:
        """Return bytes from the Ethernet header on, None where the frame is too short."""
        return self._bytes(offset, length)

    def network(self, offset: int, length: int) -> bytes | None:
        """Return bytes from the network header on, None where the frame is too short."""
        return self._bytes(self.network_offset + offset, length)

    def transport(self, offset: int, length: int) -> bytes | None:
        """Return bytes from the transport header on, None where there is none or it is too short."""
        if self.transport_offset is None:
            return None
        return self._bytes(self.transport_offset + offset, length)

    def misread_transport(self, offset: int, length: int) -> bytes | None:
        """Return the same as some kernels do for later fragments."""
        if self.misread_offset is None or length not in {1, 2, 4}:
            return self.transport(offset, length)
        return self._bytes(self.misread_offset + offset, length)

    def _bytes(self, start: int, length: int) -> bytes | None:
        found = self.frame[start : start + length]
        return found if len(found) == length else None


def parse(untrusted_frame: bytes) -> Packet | None:
    """Return what the kernel makes of a frame; None for one that it drops before any rule.

    Args:
        untrusted_frame: any bytes, without the checksum at the end.
    """
    frame = untrusted_frame
    if len(frame) < ETHER_BYTES:
        return None
    offset, ether_type = ETHER_BYTES, int.from_bytes(frame[12:14], "big")
    if ether_type in TAGS:
        if len(frame) < ETHER_BYTES + TAG_BYTES:
            return None
        offset, ether_type = ETHER_BYTES + TAG_BYTES, int.from_bytes(frame[16:18], "big")
    if ether_type == IPV4:
        protocol, transport = _ipv4(frame, offset)
    elif ether_type == IPV6:
        protocol, transport = _ipv6(frame, offset)
    else:
        protocol, transport = None, None
    misread = transport
    if protocol is not None and transport is None:
        misread = offset + 20 if ether_type == IPV4 else offset
    return Packet(frame, offset, ether_type, protocol, transport, misread)


def _ipv4(frame: bytes, start: int) -> tuple[int | None, int | None]:
    header = frame[start : start + 20]
    if len(header) < 20 or header[0] >> 4 != 4:
        return None, None
    header_bytes, total = (header[0] & 15) * 4, int.from_bytes(header[2:4], "big")
    if header_bytes < 20 or len(frame) - start < total or total < header_bytes:
        return None, None
    if int.from_bytes(header[6:8], "big") & 0x1FFF:
        return header[9], None
    return header[9], start + header_bytes


def _ipv6(frame: bytes, start: int) -> tuple[int | None, int | None]:
    header = frame[start : start + 40]
    if len(header) < 40 or header[0] >> 4 != 6:
        return None, None
    if int.from_bytes(header[4:6], "big") + 40 > len(frame) - start:
        return None, None
    following, offset = header[6], start + 40
    while following in _EXTENSIONS and following != _NONE:
        extension = frame[offset : offset + 4]
        if len(extension) < (4 if following in {_ROUTING, _FRAGMENT} else 2):
            return None, None
        length = (extension[1] + 1) * 8
        if following == _FRAGMENT:
            length = 8
            if int.from_bytes(extension[2:4], "big") & 0xFFF8:
                inner = extension[0]
                return (inner, None) if inner not in _EXTENSIONS or inner == _NONE else (None, None)
        elif following == _AUTHENTICATION:
            length = (extension[1] + 2) * 4
        following, offset = extension[0], offset + length
    return (following, offset) if offset - start <= _MAX_OFFSET else (None, None)
