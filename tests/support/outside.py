"""What lies beyond hosts' uplinks: a network namespace at the other end of a port of each one's bridge.

with outside.joined([host.daemon], BRIDGE, "up0", ["192.0.2.1/24"]) as world:
    with world.serving("192.0.2.1", 443): ...
    world.talks("192.0.2.21", 443)
"""

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import libvirtd

Result = TypeVar("Result")

DEVICE = "out0"
TIMEOUT_S = 1.5
_NEW_NETWORK = 0x40000000
_WAIT = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"


@dataclass(frozen=True, slots=True)
class World:
    """The namespace, by the number of a process in it, as seen from here."""

    pid: int

    @property
    def inside(self) -> tuple[str, ...]:
        """Put before a command, it runs in this network."""
        return ("nsenter", "--target", str(self.pid), "--net")

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in this network; sockets that it makes stay there."""
        results: list[Result] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                namespace = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
                if ctypes.CDLL(None, use_errno=True).setns(namespace, _NEW_NETWORK):
                    raise OSError(ctypes.get_errno(), "setns")
                os.close(namespace)
                results.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def connected(self, address: str, port: int, source: str = "") -> socket.socket:
        """Return a connection to a machine. Raises OSError where there is none in time."""
        bound = (source, 0) if source else None
        return self.call(lambda: socket.create_connection((address, port), TIMEOUT_S, bound))

    def reaches(self, address: str, port: int, source: str = "") -> bool:
        """Tell whether a machine answers there."""
        try:
            with self.connected(address, port, source) as connection:
                return echoes(connection)
        except OSError:
            return False

    @contextmanager
    def serving(self, address: str, port: int) -> Iterator[None]:
        """Send back what comes in on a port while the block runs."""
        listener = self.call(lambda: socket.create_server((address, port)))
        thread = threading.Thread(target=_serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()


def echoes(connection: socket.socket, word: bytes = b"ask\n") -> bool:
    """Tell whether the other side of a connection sends back what it is sent."""
    try:
        connection.sendall(word)
        return connection.recv(len(word)) == word
    except OSError:
        return False


@contextmanager
def joined(
    daemons: Sequence[libvirtd.Libvirtd], bridge: str, uplink: str, addresses: Sequence[str]
) -> Iterator[World]:
    """Join a network to the bridges of hosts by a port of that name, with these addresses in it."""
    command = ["unshare", "--net", "python3", "-c", _WAIT]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        world = World(process.pid)
        for number, daemon in enumerate(daemons):
            namespace = ("nsenter", "--target", str(daemon.pid), "--net")
            for line in (
                f"link add {uplink} type veth peer name host{number} netns {process.pid}",
                f"link set {uplink} master {bridge}",
                f"link set {uplink} up",
            ):
                _run([*namespace, "ip", *line.split()])
        for line in (
            "link set lo up",
            f"link add {DEVICE} type bridge",
            *(f"link set host{number} master {DEVICE}" for number in range(len(daemons))),
            *(f"link set host{number} up" for number in range(len(daemons))),
            *(f"address add {address} dev {DEVICE}" for address in addresses),
            f"link set {DEVICE} up",
        ):
            _run([*world.inside, "ip", *line.split()])
        yield world
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        connection.settimeout(TIMEOUT_S)
        try:
            while data := connection.recv(4096):
                connection.sendall(data)
        except OSError:
            pass


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
