"""Tables of the legacy iptables, ip6tables, arptables and ebtables, read from the kernel itself.

What their rules can do is told from their targets' names. Of ebtables only is told whether there are rules.
Source: include/uapi/linux/netfilter_ipv4/ip_tables.h and its likes; net/bridge/netfilter/ebtables.c.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from undercroft.adapters.surroundings.effects import xt_effect
from undercroft.assurance.firewall.hostfacts import OtherChain
from undercroft.errors import DeniedError, OperationError

MAX_TABLE_BYTES = 64 << 20
MAX_NAMES_BYTES = 4096
NET = Path("/proc/thread-self/net")

_NAME_BYTES = 32
_INFO = struct.Struct("=32sI5I5III")
_ENTRIES_HEAD = 40
_TARGET_NAME_AT, _TARGET_NAME_BYTES = 2, 29
_EBTABLES = ("broute", "nat", "filter")
_EBTABLES_INFO = 128
_EBTABLES_BYTES = 120
_EBTABLES_COUNT_AT = 36


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the three: its file of names, socket, option, and where an entry has its offsets."""

    family: str
    names: str
    socket_family: int
    level: int
    info: int
    offsets_at: int


_KINDS = (
    _Kind("ip", "ip_tables_names", socket.AF_INET, socket.SOL_IP, 64, 88),
    _Kind("ip6", "ip6_tables_names", socket.AF_INET6, socket.IPPROTO_IPV6, 64, 140),
    _Kind("arp", "arp_tables_names", socket.AF_INET, socket.SOL_IP, 96, 164),
)


def read_legacy() -> tuple[OtherChain, ...]:
    """Return the tables that there are, each as one chain with all that its rules can do.

    Raises DeniedError without the right to, OperationError where one cannot be read.
    """
    return tuple(_table(kind, name) for kind in _KINDS for name in _names(NET / kind.names))


def read_ebtables(modules: Path = Path("/proc/modules")) -> tuple[str, ...]:
    """Return the names of the tables that hold rules.

    To ask for a table would load its module, so only those are asked for that are there.

    Raises DeniedError, OperationError.
    """
    loaded = (
        {line.split(" ", 1)[0] for line in modules.read_text().splitlines()} if modules.exists() else set()
    )
    return tuple(
        name
        for name in _EBTABLES
        if ("ebtables" not in loaded or f"ebtable_{name}" in loaded) and _ebtables_rules(name)
    )


def _names(path: Path) -> list[str]:
    try:
        with path.open() as file:
            return file.read(MAX_NAMES_BYTES).split()
    except FileNotFoundError:
        return []  # This kernel has none of them.
    except PermissionError as error:
        raise DeniedError(f"{path}: {error.strerror}; run it as root") from error


def _table(kind: _Kind, name: str) -> OtherChain:
    with _asking(kind.socket_family) as kernel:
        head = name.encode().ljust(_NAME_BYTES, b"\0")
        info = _asked(kernel, kind.level, kind.info, head.ljust(_INFO.size, b"\0"), name)
        size = _INFO.unpack(info)[-1]
        if size > MAX_TABLE_BYTES:
            raise OperationError(
                f"table {name!r} of the legacy iptables: {size} bytes; {MAX_TABLE_BYTES} are read"
            )
        request = (head + struct.pack("=I", size)).ljust(_ENTRIES_HEAD + size, b"\0")
        entries = _asked(kernel, kind.level, kind.info + 1, request, name)[_ENTRIES_HEAD:]
    targets = list(_targets(entries, kind.offsets_at))
    effects = sorted({effect for target in targets if (effect := xt_effect(target))})
    return OtherChain(kind.family, f"{name} (legacy)", "", "its hooks", 0, effects=tuple(effects))


def _targets(entries: bytes, offsets_at: int) -> Iterator[str]:
    """Yield the name of each entry's target. Raises OperationError for entries that no kernel sends."""
    at = 0
    while at < len(entries):
        if at + offsets_at + 4 > len(entries):
            raise OperationError("the legacy iptables: an entry is cut off; please report this")
        target, following = struct.unpack_from("=HH", entries, at + offsets_at)
        start = at + target + _TARGET_NAME_AT
        if not offsets_at < target < following or start + _TARGET_NAME_BYTES > len(entries):
            raise OperationError("the legacy iptables: an entry cannot be read; please report this")
        name = entries[start : start + _TARGET_NAME_BYTES].split(b"\0", 1)[0]
        yield name.decode(errors="backslashreplace") or "standard"
        at += following


def _ebtables_rules(name: str) -> bool:
    with _asking(socket.AF_INET) as kernel:
        request = name.encode().ljust(_EBTABLES_BYTES, b"\0")
        try:
            answer = _asked(kernel, socket.SOL_IP, _EBTABLES_INFO, request, name)
        except _MissingError:
            return False
    return bool(struct.unpack_from("=I", answer, _EBTABLES_COUNT_AT)[0])


def _asking(family: int) -> socket.socket:
    """Return what the kernel is asked through: any of the family will do, and a raw one needs more rights."""
    return socket.socket(family, socket.SOCK_DGRAM)


class _MissingError(OperationError):
    """There is no such table."""


def _asked(kernel: socket.socket, level: int, option: int, request: bytes, name: str) -> bytes:
    """Return what the kernel makes of a request, which Python's own getsockopt cannot hand over."""
    buffer = ctypes.create_string_buffer(request, len(request))
    size = ctypes.c_uint32(len(request))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(kernel.fileno(), level, option, buffer, ctypes.byref(size)) == 0:
        return buffer.raw[: size.value]
    code = ctypes.get_errno()
    text = f"table {name!r} of the legacy iptables: {os.strerror(code)}"
    if code in {errno.ENOPROTOOPT, errno.ENOENT}:
        raise _MissingError(text)
    raise DeniedError(f"{text}; run it as root") if code == errno.EPERM else OperationError(text)
