"""Traffic at full speed through a bridge of taps, counted by the kernel before and after the filter.

    with Traffic(wire, allowed, denied) as traffic:
        ...                     # change the filter
    traffic.told                # Told(came=..., lost=0, leaked=0), once it has ended

Frames bear a mark where no rule of the filter looks: in the IPv4 type of service, the IPv6 traffic class, or
the padding of ARP. A table of the test's own counts what comes in with it and what goes out.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

from wire import Wire

ALLOWED, DENIED = 0xA8, 0x54
SLOW_RULES = 300
"""They only count, and make the moment longer that a frame spends between the filter's hooks."""

_SENDER = """
import os, signal, sys
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
frames = [(int(tap), bytes.fromhex(frame)) for tap, frame in (word.split(":") for word in sys.argv[1:])]
print("sending", flush=True)
sent, parent = 0, os.getppid()
while not stop and os.getppid() == parent:
    for tap, frame in frames:
        os.write(tap, frame)
    sent += len(frames)
print(sent, flush=True)
"""


@dataclass(frozen=True)
class Told:
    """Frames: allowed ones that came in, those of them that did not get out, and denied ones that did."""

    allowed: int
    denied: int
    lost: int
    leaked: int


def marked(frame: bytes, mark: int) -> bytes:
    """Return a frame with the mark; its form is plain IP or ARP, behind any number of 802.1Q tags."""
    start = 14
    while frame[start - 2 : start] == b"\x81\0":
        start += 4
    changed = bytearray(frame)
    if frame[start - 2 : start] == b"\x08\0":
        changed[start + 1] = mark
    elif frame[start - 2 : start] == b"\x86\xdd":
        changed[start : start + 2] = bytes((0x60 | mark >> 4, mark << 4 & 0xF0))
    else:
        changed[start + 28] = mark
    return bytes(changed)


class Traffic:
    """Processes that send, one for each list of frames, while the block runs."""

    def __init__(
        self, wire: Wire, allowed: Sequence[tuple[str, str, bytes]], denied: Sequence[tuple[str, bytes]]
    ) -> None:
        """Set up; the packet filter may have other tables already.

        Args:
            wire: its taps are where frames go in.
            allowed: the port where it goes in, the one where it has to come out, and the frame.
            denied: the port where it goes in, and the frame.
        """
        self._taps = wire.taps
        mixed = [(port, marked(frame, ALLOWED)) for port, _, frame in allowed]
        mixed += [(port, marked(frame, DENIED)) for port, frame in denied]
        self._orders = (mixed, mixed[::-1])
        self._processes: list[subprocess.Popen[str]] = []
        self._stack = ExitStack()
        self._told: Told | None = None
        ways = {(frame[:6].hex(":"), out) for _, out, frame in allowed}
        subprocess.run(["nft", "-f", "-"], input=_counting(sorted(ways)).encode(), check=True)

    def __enter__(self) -> "Traffic":
        for frames in self._orders:
            words = [f"{self._taps[port]}:{frame.hex()}" for port, frame in frames]
            process = subprocess.Popen(
                [sys.executable, "-c", _SENDER, *words],
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=tuple(self._taps.values()),
            )
            self._stack.enter_context(process)
            self._stack.callback(process.kill)
            self._processes.append(process)
            assert process.stdout is not None
            assert process.stdout.readline() == "sending\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            for process in self._processes:
                process.send_signal(signal.SIGTERM)
            for process in self._processes:
                process.communicate(timeout=60)
        counted = _counted()
        self._told = Told(
            counted["came-allowed"],
            counted["came-denied"],
            counted["came-allowed"] - counted["passed-allowed"],
            counted["passed-denied"],
        )

    @property
    def told(self) -> Told:
        """What has become of the frames."""
        assert self._told is not None
        return self._told


def _counting(ways: Sequence[tuple[str, str]]) -> str:
    """Return a table with one chain before every filter and others after it."""

    def forms(mark: int) -> tuple[str, ...]:
        return (
            f"@nh,0,4 4 @nh,8,8 {mark:#x}",
            f"@nh,0,4 6 @nh,4,8 {mark:#x}",
            f"@nh,0,4 0 @nh,224,8 {mark:#x}",
        )

    came = [f"{form} counter name came-allowed" for form in forms(ALLOWED)]
    came += [f"{form} counter name came-denied" for form in forms(DENIED)]
    out = [
        f'oifname "{port}" ether daddr {mac} {form} counter name passed-allowed'
        for mac, port in ways
        for form in forms(ALLOWED)
    ]
    leaked = [f"{form} counter name passed-denied" for form in forms(DENIED)]
    # What comes from outside and not from a machine is the host's own business.
    to_host = [f'iifname "vnet*" {rule}' for rule in leaked]
    counters = "".join(
        f"  counter {name} {{ }}\n"
        for name in ("came-allowed", "came-denied", "passed-allowed", "passed-denied")
    )
    chains = (
        ("prerouting", -900, came),
        ("prerouting", 900, ["counter"] * SLOW_RULES),
        ("forward", 900, [*out, *leaked]),
        ("input", 900, to_host),
    )
    text = "".join(
        f"  chain at-{hook}{priority} {{ type filter hook {hook} priority {priority};\n    "
        + "\n    ".join(rules)
        + "\n  }\n"
        for hook, priority, rules in chains
    )
    return f"table bridge counting {{\n{counters}{text}}}\n"


def _counted() -> dict[str, int]:
    command = ["nft", "-j", "list", "counters", "table", "bridge", "counting"]
    listed = subprocess.run(command, check=True, capture_output=True)
    entries = [entry["counter"] for entry in json.loads(listed.stdout)["nftables"] if "counter" in entry]
    return {entry["name"]: entry["packets"] for entry in entries}
