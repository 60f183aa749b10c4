"""What a bridge carries, heard on the bridge itself by a socket of our own."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LISTENER = """
import socket, sys
bridge, path = sys.argv[1:]
OUTGOING = 4  # linux/if_packet.h: sent by this host, not received
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as heard, open(path, "w") as told:
    heard.bind((bridge, 0))
    print("listening", flush=True)
    while True:
        frame, (_, protocol, kind, _, _) = heard.recvfrom(2048)
        if kind != OUTGOING:
            print(frame[6:12].hex(":"), f"{protocol:#06x}", frame[:64].hex(), file=told, flush=True)
"""


@dataclass(frozen=True)
class Ear:
    """What has come in over a bridge so far: source address, protocol, and the frame's beginning."""

    path: Path

    def frames(self) -> list[tuple[str, str, str]]:
        """Return the frames in order."""
        lines = [line.split() for line in self.path.read_text().splitlines()]
        return [(source, protocol, frame) for source, protocol, frame in lines]

    def sources(self) -> set[str]:
        """Return the source addresses."""
        return {source for source, _, _ in self.frames()}


def make_bridge(inside: Sequence[str], name: str) -> None:
    """Make a bridge that is up and says nothing itself."""
    for command in (
        ["ip", "link", "add", name, "type", "bridge"],
        ["sysctl", "-q", "-w", f"net.ipv6.conf.{name}.disable_ipv6=1"],
        ["ip", "link", "set", name, "up"],
    ):
        subprocess.run([*inside, *command], check=True, capture_output=True)


@contextmanager
def listening(inside: Sequence[str], bridge: str, path: Path) -> Iterator[Ear]:
    """Hear everything that comes in over the bridge while the block runs."""
    command = [*inside, sys.executable, "-c", _LISTENER, bridge, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield Ear(path)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
