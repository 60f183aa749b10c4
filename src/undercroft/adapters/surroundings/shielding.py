"""A managed port so that no frame from it, for its machine, or of the host's own passes the table by.

A bridge hands frames to 01:80:c2:00:00:0e, and with a spanning tree those to ...00, to the host's own stack
through no hook; a port that forwards these groups lets the table see them first, which drops them. A device
that has IPv6 has an address of its own, by which the host speaks to the machine past the bridge. A frame to
those groups moves the station that has sent it, whatever the table says: whoever sends one elsewhere with a
machine's MAC would get what is for the machine.
"""

import os
import socket
import struct
from pathlib import Path

from undercroft.adapters.netlink import MAX_NAME_BYTES
from undercroft.adapters.netlinkcodec import attribute, nested
from undercroft.adapters.surroundings import links, stations
from undercroft.adapters.surroundings.rtnetlink import connected
from undercroft.assurance.firewall.portjudgement import SHIELD
from undercroft.errors import DeniedError, InputError, OperationError
from undercroft.firewall.fleet import Port

_NEW_LINK = 16
_LINK = struct.Struct("=BxHiII")
_INFO, _SLAVE_KIND, _SLAVE_DATA, _GROUPS = 18, 4, 5, 31
_SETTINGS = Path("/proc/sys/net/ipv6/conf")


def shield(port: Port) -> None:
    """Shield a machine's port: its tap, and its MAC's place, which is elsewhere still while it is arriving.

    Raises as `shield_tap`.
    """
    shield_tap(port.tap)
    with connected() as kernel:
        device = links.read_device(kernel, port.tap)
        if device.master:
            place = stations.loosen if port.arriving else stations.fix
            place(kernel, device.index, port.mac, f"port {port.tap}, MAC {port.mac.hex(':')}")


def shield_tap(tap: str) -> None:
    """Shield a tap, now: what is set goes when it leaves its bridge. One that is on none is left as it is.

    Args:
        tap: the device's name.

    Raises:
        InputError: no device can have this name.
        NotFoundError: there is no such device.
        DeniedError: no right to.
        OperationError: what it is on is no bridge, or the kernel refuses.
    """
    name = os.fsencode(tap)
    # A setting of "all" or "default" is every device's.
    if not 0 < len(name) <= MAX_NAME_BYTES or "/" in tap or tap in {"all", "default"}:
        raise InputError(f"{tap!r} is no name of a network device: 1 to {MAX_NAME_BYTES} bytes expected")
    with connected() as kernel:
        device = links.read_device(kernel, tap)
        if not device.master:
            return
        # Each change waits for all others of the host's devices, and most taps are as they should be.
        if links.forwarded_groups(device) != SHIELD:
            groups = attribute(_GROUPS, struct.pack("=H", SHIELD))
            info = nested(_INFO, attribute(_SLAVE_KIND, b"bridge"), nested(_SLAVE_DATA, groups))
            body = _LINK.pack(socket.AF_UNSPEC, 0, device.index, 0, 0) + info
            kernel.change(_NEW_LINK, body, f"port {tap}")
    _without_ipv6(tap)


def _without_ipv6(tap: str) -> None:
    setting = _SETTINGS / tap / "disable_ipv6"
    try:
        if setting.read_text().strip() != "1":
            setting.write_text("1")
    except FileNotFoundError:
        return  # A kernel without IPv6.
    except PermissionError as error:
        raise DeniedError(f"{setting}: {error.strerror}; run it as root") from error
    except OSError as error:
        raise OperationError(f"{setting}: {error.strerror}") from error
