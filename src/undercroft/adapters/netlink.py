"""Links over rtnetlink(7): which bridge a tap is on, taking it off, putting it back, and what changes.

A codec of our own: four messages of one family are not worth a dependency that would run as root.
"""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from undercroft.adapters.netlinkcodec import ACK, ERROR, REQUEST, attribute, attributes, message, messages
from undercroft.errors import InputError, NotFoundError, OperationError
from undercroft.model.fleet import HeldTap

TIMEOUT_S = 5.0
MAX_NAME_BYTES = 15
BUFFER_BYTES = 1 << 16
EVENT_BUFFER_BYTES = 4 << 20

_NEW_LINK, _DELETE_LINK, _GET_LINK, _SET_LINK = 16, 17, 18, 19
_IFNAME, _MASTER = 3, 10
_UP = 1
_LINK_GROUP = 1
_LINK = struct.Struct("=BxHiII")


@dataclass(frozen=True, slots=True)
class Link:
    """One link. `master` is the index of the bridge that it is on, 0 for none; `gone`: it is no more."""

    name: str
    index: int
    master: int
    up: bool
    gone: bool = False


class Netlink:
    """`ports.taps.Taps` in the network namespace of this process."""

    def hold(self, tap: str) -> HeldTap:
        """Take a tap off its bridge and set it down. See `hold`."""
        return hold(tap)

    def open_tap(self, held: HeldTap) -> None:
        """Put a tap back onto its bridge. See `open_tap`."""
        open_tap(held)

    def is_held(self, tap: str) -> bool:
        """Return whether a tap is closed. See `is_held`."""
        return is_held(tap)


def master_of(tap: str) -> str:
    """Return the bridge that a tap is on, "" for none. Raises NotFoundError, OperationError."""
    with _connected() as kernel:
        link = _link(kernel, tap)
        return _name_of(kernel, link.master) if link.master else ""


def is_held(tap: str) -> bool:
    """Return whether a tap is off any bridge and down. Raises NotFoundError, OperationError."""
    with _connected() as kernel:
        link = _link(kernel, tap)
    return not link.master and not link.up


def hold(tap: str) -> HeldTap:
    """Take a tap off its bridge and set it down, and see that it is so.

    Returns:
        The tap and the bridge that it was on, "" where it was on none.

    Raises:
        NotFoundError: there is no such device.
        OperationError: the kernel refuses; the tap may still be open.
    """
    with _connected() as kernel:
        link = _link(kernel, tap)
        bridge = _name_of(kernel, link.master) if link.master else ""
        _set(kernel, link, master=0, up=False)
        after = _link(kernel, tap)
    if after.master or after.up:
        raise OperationError(f"{tap}: it is still open after the kernel said that it is closed")
    return HeldTap(tap, bridge)


def open_tap(held: HeldTap) -> None:
    """Put a tap back onto its bridge and set it up. Raises NotFoundError, OperationError."""
    with _connected() as kernel:
        _set(kernel, _link(kernel, held.tap), master=_link(kernel, held.bridge).index, up=True)


async def watch_links() -> AsyncIterator[Link]:
    """Yield every change of a link, for ever.

    Raises OperationError when the kernel dropped some because nobody took them in time: look at all taps
    then, and watch again.
    """
    with _connected(_LINK_GROUP) as kernel:
        kernel.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(kernel, BUFFER_BYTES)
            except OSError as error:
                raise OperationError(f"netlink: {error.strerror}; changes of links were missed") from error
            for event in messages(data):
                # A tap that leaves its bridge is "deleted" too, from the bridge family.
                if event.kind in {_NEW_LINK, _DELETE_LINK} and event.body[0] == socket.AF_UNSPEC:
                    yield _decode(event.body, gone=event.kind == _DELETE_LINK)


@contextmanager
def _connected(groups: int = 0) -> Iterator[socket.socket]:
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
            kernel.bind((0, groups))
            kernel.settimeout(TIMEOUT_S)
            if groups:
                kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, EVENT_BUFFER_BYTES)
            yield kernel
    except OSError as error:
        raise OperationError(f"netlink: {error.strerror or error}") from error


def _link(kernel: socket.socket, name: str) -> Link:
    encoded = os.fsencode(name)
    if not 0 < len(encoded) <= MAX_NAME_BYTES:
        raise InputError(f"{name!r} is no name of a network device: 1 to {MAX_NAME_BYTES} bytes expected")
    return _ask(kernel, _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFNAME, encoded + b"\0"), name)


def _name_of(kernel: socket.socket, index: int) -> str:
    return _ask(kernel, _LINK.pack(0, 0, index, 0, 0), f"device {index}").name


def _ask(kernel: socket.socket, body: bytes, what: str) -> Link:
    return _decode(_exchange(kernel, _GET_LINK, 0, body, what))


def _set(kernel: socket.socket, link: Link, *, master: int, up: bool) -> None:
    body = _LINK.pack(0, 0, link.index, _UP if up else 0, _UP)
    _exchange(kernel, _SET_LINK, ACK, body + attribute(_MASTER, struct.pack("=I", master)), link.name)


def _exchange(kernel: socket.socket, kind: int, flags: int, body: bytes, what: str) -> bytes:
    """Send one message and return the body of the answer, b"" for an acknowledgement."""
    kernel.send(message(kind, REQUEST | flags, 1, body))
    for answer in messages(kernel.recv(BUFFER_BYTES)):
        if answer.kind != ERROR:
            return answer.body
        number = -struct.unpack_from("=i", answer.body)[0]
        if number in {19, 2}:  # ENODEV, ENOENT
            raise NotFoundError(f"{what}: no such network device: its machine may have stopped")
        if number:
            raise OperationError(f"{what}: {os.strerror(number)}")
        return b""
    raise OperationError(f"{what}: the kernel answered with nothing")


def _decode(body: bytes, *, gone: bool = False) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    values = dict(attributes(body[_LINK.size :]))
    name = os.fsdecode(values.get(_IFNAME, b"").rstrip(b"\0"))
    master = int.from_bytes(values.get(_MASTER, b""), sys.byteorder)
    return Link(name, index, master, bool(flags & _UP), gone)
