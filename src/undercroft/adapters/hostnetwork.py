"""This host's own addresses over rtnetlink(7): those of all devices in this process's network namespace.

Source: include/uapi/linux/if_addr.h, rtnetlink.h.
"""

import socket
import struct
from ipaddress import ip_address

from undercroft.adapters.netlinkcodec import (
    DONE,
    DUMP,
    DUMP_INTERRUPTED,
    ERROR,
    REQUEST,
    Message,
    attributes,
    message,
    messages,
)
from undercroft.errors import OperationError
from undercroft.model.addresses import Address

TIMEOUT_S = 5.0
BUFFER_BYTES = 1 << 18
MAX_ADDRESSES = 1 << 16
MAX_ATTEMPTS = 5
"""At a dump that is whole: addresses may change while the kernel tells them."""

_NEW_ADDRESS, _GET_ADDRESS = 20, 22
_ADDRESS, _LOCAL = 1, 2
_HEADER = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index of the device."""
_BYTES = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}


def host_addresses() -> tuple[Address, ...]:
    """Return the host's addresses, each once, IPv4 first; without loopback ones, with link-local ones.

    Raises:
        OperationError: the kernel cannot be asked, or says what cannot be read.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
            kernel.bind((0, 0))
            kernel.settimeout(TIMEOUT_S)
            for attempt in range(MAX_ATTEMPTS):
                found = _dump(kernel, attempt + 1)
                if found is not None:
                    return tuple(sorted(found, key=lambda address: (address.version, int(address))))
    except OSError as error:
        raise OperationError(f"netlink: this host's addresses: {error.strerror or error}") from error
    raise OperationError("netlink: this host's addresses changed whenever they were asked for; try again")


def _dump(kernel: socket.socket, sequence: int) -> set[Address] | None:
    """Return all addresses, None where they changed meanwhile."""
    kernel.send(message(_GET_ADDRESS, REQUEST | DUMP, sequence, _HEADER.pack(socket.AF_UNSPEC, 0, 0, 0, 0)))
    found: set[Address] = set()
    whole = True
    while True:
        data, _, flags, _ = kernel.recvmsg(BUFFER_BYTES)
        if flags & socket.MSG_TRUNC:
            raise OperationError(f"netlink: a message of more than {BUFFER_BYTES} bytes")
        for answer in messages(data):
            if answer.sequence != sequence:
                continue  # the rest of an earlier dump
            whole = whole and not answer.flags & DUMP_INTERRUPTED
            if answer.kind == DONE:
                return found if whole else None
            if answer.kind == ERROR:
                number = -struct.unpack_from("=i", answer.body)[0]
                raise OSError(number, f"the kernel answers with error {number}")
            if answer.kind == _NEW_ADDRESS and (address := _address(answer)) is not None:
                found.add(address)
        if len(found) > MAX_ADDRESSES:
            raise OperationError(f"netlink: this host has more than {MAX_ADDRESSES} addresses")


def _address(answer: Message) -> Address | None:
    """Return the address of a message, None for a loopback one or another family's."""
    family = answer.body[0] if len(answer.body) >= _HEADER.size else 0
    values = dict(attributes(answer.body[_HEADER.size :]))
    # The peer's address stands in _ADDRESS on a point-to-point link; then the host's own is in _LOCAL.
    raw = values.get(_LOCAL, values.get(_ADDRESS, b""))
    if family not in _BYTES:
        return None
    if len(raw) != _BYTES[family]:
        raise OperationError("netlink: the kernel sent an address that cannot be read")
    address = ip_address(raw)
    return None if address.is_loopback else address
