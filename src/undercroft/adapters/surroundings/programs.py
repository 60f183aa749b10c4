"""Programs of BPF at devices that no netlink message tells of: TCX and netkit, asked for by bpf(2).

Source: include/uapi/linux/bpf.h; tcx_prog_query (kernel/bpf/tcx.c) of Linux 6.18.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from undercroft.adapters.surroundings.links import Device
from undercroft.assurance.firewall.hostfacts import ANYWHERE, TrafficFilter
from undercroft.errors import DeniedError, OperationError, UnsupportedError

_NUMBERS: Mapping[str, int] = MappingProxyType(
    {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361, "loongarch64": 280}
)
_QUERY = 16
_ATTRIBUTES = struct.Struct("=IIIIQIIQQQQ")
_COUNT_AT = 24
_TCX = ((46, "ingress"), (47, "egress"))
_NETKIT = ((54, "egress"), (55, "ingress"))
_NONE = frozenset({errno.ENOENT, errno.EINVAL, errno.ENODEV})
"""No program is there, the kernel knows no such place, the device is gone."""


def read_programs(devices: Iterable[Device]) -> tuple[TrafficFilter, ...]:
    """Return the programs at these devices.

    Raises:
        UnsupportedError: how this machine calls bpf(2) is not known.
        DeniedError: no right to.
        OperationError: the kernel refuses.
    """
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise UnsupportedError(f"programs at devices: bpf(2) on {platform.machine()} is not known")
    return tuple(
        TrafficFilter(device.name, direction, "bpf", ANYWHERE)
        for device in devices
        for place, direction in (*_TCX, *(_NETKIT if device.kind == "netkit" else ()))
        if _count(number, device, place)
    )


def _count(number: int, device: Device, place: int) -> int:
    given = ctypes.create_string_buffer(_ATTRIBUTES.pack(device.index, place, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, _QUERY, given, _ATTRIBUTES.size) == 0:
        return int(struct.unpack_from("=I", given, _COUNT_AT)[0])
    code = ctypes.get_errno()
    if code in _NONE:
        return 0
    if code in {errno.EPERM, errno.EACCES}:
        raise DeniedError("programs at devices (bpf): this needs CAP_BPF or CAP_NET_ADMIN; run it as root")
    if code == errno.ENOSYS:
        return 0
    raise OperationError(f"programs at {device.name} (bpf): {os.strerror(code)}")
