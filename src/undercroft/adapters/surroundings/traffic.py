"""What tc does with frames: the actions of all filters, at every device, qdisc and class.

Source: include/uapi/linux/pkt_cls.h, tc_act/tc_mirred.h; tc_dump_tfilter (net/sched/cls_api.c) of Linux 6.18.
"""

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from undercroft.adapters.netlinkcodec import attributes
from undercroft.adapters.surroundings.rtnetlink import Routing
from undercroft.assurance.firewall.hostfacts import ANYWHERE, TrafficFilter
from undercroft.errors import NotFoundError

_GET_QDISC, _GET_CLASS, _GET_FILTER = 38, 42, 46
_HEADER = struct.Struct("=BxxxiIII")
_KIND, _OPTIONS = 1, 2
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_ACTION_KIND, _ACTION_OPTIONS = 1, 2
_MIRRED_PARAMETERS, _MIRRED_BLOCK = 2, 3
_MIRRED = struct.Struct("=5Iii")
_MIRRED_NAMES: Mapping[int, str] = MappingProxyType(
    {1: "mirred redirect", 2: "mirred mirror", 3: "mirred redirect", 4: "mirred mirror"}
)
_ACTIONS: Mapping[str, int] = MappingProxyType(
    {"u32": 7, "flower": 3, "matchall": 2, "basic": 3, "bpf": 1, "fw": 4, "route": 6, "flow": 9, "cgroup": 1}
)
"""The attribute that holds a filter's actions, by the filter's kind."""
_POLICE: Mapping[str, int] = MappingProxyType(
    {"u32": 6, "basic": 4, "bpf": 2, "fw": 2, "route": 5, "flow": 10, "cgroup": 2}
)
_PLAIN = frozenset(
    [
        "noqueue",
        "noop",
        "pfifo",
        "bfifo",
        "pfifo_fast",
        "pfifo_head_drop",
        "fq",
        "fq_codel",
        "fq_pie",
        "codel",
        "pie",
        "cake",
        "tbf",
        "sfq",
        "mq",
        "mqprio",
        "netem",
        "htb",
        "hfsc",
        "prio",
        "drr",
        "qfq",
        "ets",
        "multiq",
        "cbq",
        "choke",
        "hhf",
        "etf",
        "cbs",
        "taprio",
        "skbprio",
        "plug",
        "gred",
        "ingress",
        "clsact",
    ]
)
"""Qdiscs that send a packet on as it is, later or never, and to nowhere else."""
_WITH_CLASSES = frozenset({"htb", "hfsc", "cbq", "atm"})
"""Qdiscs whose classes have filters of their own."""


def read_filters(kernel: Routing, names: Mapping[int, str]) -> tuple[TrafficFilter, ...]:
    """Return every action of every filter; a filter without one does nothing to a frame.

    Args:
        kernel: the socket.
        names: of all devices, by index.

    Raises:
        DeniedError, OperationError: see `Routing.dump`; also for attributes that are malformed.
    """
    found: dict[TrafficFilter, None] = {}
    for answer in kernel.dump(_GET_QDISC, _HEADER.pack(0, 0, 0, 0, 0), "the qdiscs"):
        _, index, handle, _, _ = _HEADER.unpack_from(answer)
        kind = _text(dict(attributes(answer[_HEADER.size :])).get(_KIND, b""))
        device = names.get(index)
        if device is None:
            continue  # It came after the devices were read, and is none of the ports that are asked about.
        if kind not in _PLAIN:
            found[TrafficFilter(device, "egress", f"qdisc {kind}")] = None
        if kind in {"noqueue", "noop"}:
            continue
        for parent, direction in _places(kernel, kind, index, handle):
            for item in _dumped(kernel, _GET_FILTER, index, parent, f"tc filters of {device}"):
                for action, target in _actions(item, names):
                    found[TrafficFilter(device, direction, action, target)] = None
    return tuple(found)


def _places(kernel: Routing, kind: str, index: int, handle: int) -> Iterator[tuple[int, str]]:
    """Yield where filters can be attached to a qdisc."""
    if kind == "clsact":
        yield _INGRESS, "ingress"
        yield _EGRESS, "egress"
        return
    yield handle, "ingress" if kind == "ingress" else "egress"
    if kind in _WITH_CLASSES or kind not in _PLAIN:
        for answer in _dumped(kernel, _GET_CLASS, index, handle, "tc classes"):
            yield _HEADER.unpack_from(answer)[2], "egress"


def _dumped(kernel: Routing, kind: int, index: int, parent: int, what: str) -> list[bytes]:
    try:
        return kernel.dump(kind, _HEADER.pack(0, index, 0, parent, 0), what)
    except NotFoundError:
        return []  # The device is gone, with its filters.


def _actions(answer: bytes, names: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    """Yield what a filter does, and the device that it sends to."""
    given = dict(attributes(answer[_HEADER.size :]))
    kind = _text(given.get(_KIND, b""))
    if kind == "bpf":
        yield "bpf", ANYWHERE
    if kind not in _ACTIONS:
        yield f"filter {kind}", ""
        return
    options = dict(attributes(given.get(_OPTIONS, b"")))
    if _POLICE.get(kind) in options:
        yield "police", ""
    for _, action in attributes(options.get(_ACTIONS[kind], b"")):
        yield _action(dict(attributes(action)), names)


def _action(given: Mapping[int, bytes], names: Mapping[int, str]) -> tuple[str, str]:
    kind = _text(given.get(_ACTION_KIND, b""))
    if kind == "bpf":
        return kind, ANYWHERE
    if kind != "mirred":
        return kind, ""
    options = dict(attributes(given.get(_ACTION_OPTIONS, b"")))
    parameters = options.get(_MIRRED_PARAMETERS, b"")
    if len(parameters) < _MIRRED.size:
        return "mirred redirect", ANYWHERE
    *_, action, index = _MIRRED.unpack_from(parameters)
    target = ANYWHERE if _MIRRED_BLOCK in options else names.get(index, ANYWHERE)
    return _MIRRED_NAMES.get(action, "mirred redirect"), target


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="backslashreplace")
