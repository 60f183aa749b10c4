"""The helper's daemon on one end of a socket pair, a host's session on the other; its kernel is a folder."""

import os
import socket
from pathlib import Path

from channelpair import BOOT, EID, MACHINE, Host, helper

from undercroft.channel.session import Event, Ready


class FolderKernel(helper.Kernel):
    """A kernel that is a folder, and that writes down what was asked of it."""

    def __init__(self, root: Path, boot: bytes = BOOT) -> None:
        super().__init__(str(root))
        self.id, self.log, self.takes = boot, [], True

    def boot(self) -> bytes:
        return self.id

    def credit(self, seed: bytes) -> bool:
        self.log.append(("credit", seed))
        return self.takes

    def drain(self, wanted: int = 64, most_s: float = 0.3) -> int:
        self.log.append(("drain", wanted))
        return wanted


class RecordingFreezer(helper.Freezer):
    """A freezer that freezes nothing, and writes down what was asked of it in the kernel's log."""

    def __init__(self, record: str, log: list) -> None:
        super().__init__(record)
        self.log = log

    def freeze(self, number: int) -> tuple[bool, int, str]:
        self.number = number
        self._note("quiesce", str(number))
        self.log.append(("freeze", number))
        return True, 12, "groups and signals"

    def thaw(self) -> int:
        self.log.append(("thaw", self.number))
        self.told = (Path(self.record).parent / "generation").read_text()
        self.number = 0
        Path(self.record).unlink()
        return 12


class Lab:
    """One guest whose daemon runs when `turn` is called, and its host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "hooks").mkdir(exist_ok=True)
        self.kernel = FolderKernel(folder)
        self.listener = helper.listen(str(folder / "guest.sock"))
        self.line, self.port = socket.socketpair()
        self.line.setblocking(False)
        self.host = Host()
        self.daemon = self.started()

    def started(self) -> "helper.Daemon":
        """Start a daemon, as after one before it was killed."""
        freezer = RecordingFreezer(str(self.folder / "frozen"), self.kernel.log)
        return helper.Daemon(
            self.port.fileno(),
            str(self.folder),
            self.kernel,
            freezer,
            str(self.folder / "hooks"),
            self.listener,
            os.getuid(),
        )

    def turn(self, count: int = 1, most_s: float = 0.0) -> list[Event]:
        """Let the daemon do what there is, and the host take what it says."""
        events: list[Event] = []
        for _ in range(count):
            self.daemon.step(most_s)
            try:
                events += self.host.take(self.line.recv(1 << 20))
            except BlockingIOError:
                continue
        return events

    def until(self, done, turns: int = 3000):
        """Take turns until `done()` is true; return what it gave."""
        for _ in range(turns):
            found = done()
            if found:
                return found
            self.turn(1, 0.01)
        raise AssertionError("it did not come to that")

    def meet(self, seed: bytes | None = None, generation: int = 7, following: int = 1) -> Ready:
        """Begin a session, welcome the guest; return its answer."""
        before = len(self.host.events)
        self.line.send(self.host.session.begin())
        (ready,) = self.until(lambda: [each for each in self.host.events[before:] if isinstance(each, Ready)])
        self.line.send(self.host.session.welcome(generation, seed, following))
        self.until(lambda: self.daemon.session.open)
        return ready

    def said(self, kind: type) -> list:
        """All messages of one kind so far."""
        return [each for each in self.host.said() if isinstance(each, kind)]

    def client(self) -> socket.socket:
        """A local program's connection."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.folder / "guest.sock"))
        connection.setblocking(False)
        self.turn(2)
        return connection

    def kill(self) -> None:
        """End the daemon as a kill does: nothing is said, and its descriptors are closed."""
        for client in self.daemon.clients.values():
            client.connection.close()
        self.daemon.selector.close()
        self.daemon.generation.word.release()

    def close(self) -> None:
        """End it all."""
        self.kill()
        for each in (self.line, self.port, self.listener):
            each.close()


def local(operation: str, *arguments: object) -> bytes:
    """A local program's request as bytes."""
    body = helper.pack([operation, list(arguments)])
    return len(body).to_bytes(4, "big") + body


def answers(data: bytes) -> list:
    """The answers that a local program got."""
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(helper.unpack(data[4 : 4 + size]))
        data = data[4 + size :]
    return found


__all__ = ["EID", "MACHINE", "FolderKernel", "Lab", "answers", "helper", "local"]
