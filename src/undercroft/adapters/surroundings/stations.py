"""Where a bridge looks for a MAC: its forwarding database, an entry for each station.

A bridge learns stations from the frames that it takes, also from some that no hook sees: those to the groups
that it keeps for itself. An entry that is static and sticky is moved by none of them; a static one alone is.
Source: br_fdb_update, fdb_add_entry (net/bridge/br_fdb.c), __br_handle_local_finish (br_input.c) of Linux
6.18; include/uapi/linux/neighbour.h.
"""

import struct
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from undercroft.adapters.netlinkcodec import CREATE, REPLACE, attribute, attributes
from undercroft.adapters.surroundings.rtnetlink import Routing
from undercroft.errors import NotFoundError

_NEW, _DELETE, _GET = 28, 29, 30
_ENTRY = struct.Struct("=BxxxiHBB")
_BRIDGES = 7
_ADDRESS, _MASTER = 2, 9
_UNCHANGING, _OF_THE_BRIDGE = 0x40, 0x80
"""NUD_NOARP, which `bridge fdb` calls static; NUD_PERMANENT: the bridge's own."""
_IN_MASTER, _STICKY = 0x04, 0x40


@dataclass(frozen=True, slots=True)
class Station:
    """One entry: the bridge and the port behind which a MAC is, by index; `fixed`: no frame moves it."""

    mac: bytes
    bridge: int
    port: int
    fixed: bool


def fix(kernel: Routing, port: int, mac: bytes, what: str) -> None:
    """Let the bridge look for a MAC behind this port, whatever comes in elsewhere.

    Args:
        kernel: of the namespace.
        port: the port's index.
        mac: 6 bytes.
        what: the port, for people.

    Raises:
        NotFoundError: there is no such device.
        DeniedError: no right to.
        OperationError: it is on no bridge, or the kernel refuses.
    """
    body = _ENTRY.pack(_BRIDGES, port, _UNCHANGING, _IN_MASTER | _STICKY, 0) + attribute(_ADDRESS, mac)
    kernel.change(_NEW, body, what, CREATE | REPLACE)


def loosen(kernel: Routing, port: int, mac: bytes, what: str) -> None:
    """Let the bridge find out where a MAC is, if it takes it to be behind this port. Raises as `fix`."""
    body = _ENTRY.pack(_BRIDGES, port, 0, _IN_MASTER, 0) + attribute(_ADDRESS, mac)
    try:
        kernel.change(_DELETE, body, what)
    except NotFoundError:
        return  # The bridge knows nothing of it.


def read_stations(kernel: Routing, macs: Collection[bytes]) -> tuple[Station, ...]:
    """Return what bridges know of these MACs, in any order. Raises DeniedError, OperationError."""
    wanted = frozenset(macs)
    body = _ENTRY.pack(_BRIDGES, 0, 0, 0, 0)
    answers = kernel.dump(_GET, body, "the bridges' stations", lambda answer: _mac(answer) in wanted)
    found = []
    for answer in answers:
        _, port, state, flags, _ = _ENTRY.unpack_from(answer)
        given = _given(answer)
        if _MASTER in given and not state & _OF_THE_BRIDGE:
            fixed = bool(state & _UNCHANGING) and bool(flags & _STICKY)
            bridge = int.from_bytes(given[_MASTER], sys.byteorder)
            found.append(Station(given[_ADDRESS], bridge, port, fixed))
    return tuple(found)


def _mac(answer: bytes) -> bytes:
    return _given(answer).get(_ADDRESS, b"")


def _given(answer: bytes) -> Mapping[int, bytes]:
    return dict(attributes(answer[_ENTRY.size :]))
