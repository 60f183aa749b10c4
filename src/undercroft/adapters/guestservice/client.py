"""The guest service's orders; all of it blocks, at the most `timeout_s`."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from undercroft.adapters.guestservice.watch import GuestEvent, Watch
from undercroft.adapters.guestservice.wire import TIMEOUT_S, Answer, connected, ordered, why
from undercroft.errors import OperationError

VERIFY_S = 3_600.0


class GuestService:
    """A client. Every order raises OperationError where the service is not there or says nothing in time."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        """Take where it listens; nothing is connected yet."""
        self._path, self._timeout_s = path, timeout_s
        self._line: socket.socket | None = None
        self._lock = threading.Lock()
        self._number = 0

    @classmethod
    def connect(cls, path: Path, timeout_s: float = TIMEOUT_S) -> "GuestService":
        """Return a client that is connected.

        Args:
            path: of the socket (`Places.guest_socket`).
            timeout_s: of each order.

        Raises:
            OperationError: the service does not run.
            DeniedError: only root may ask.
        """
        client = cls(path, timeout_s)
        client._line = connected(path, timeout_s)
        return client

    def __enter__(self) -> "GuestService":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Let the connection go. Twice is no error."""
        with self._lock:
            self._let_go()

    def attach(
        self,
        machine: str,
        name: str,
        execution: str,
        line: int,
        *,
        forked: bool = False,
        elsewhere: str = "",
        epoch: int = 0,
    ) -> bool:
        """Hand a guest's channel over; return whether its execution holds the vault.

        Args:
            machine: UUID in lower case.
            name: libvirt's, for people.
            execution: 32 hexadecimal digits.
            line: descriptor of the connected socket; the caller closes its own copy afterwards.
            forked: it was copied from the RAM of a machine that may live on.
            elsewhere: the host that keeps its vault, "" for this one.
            epoch: the one that was noted for it; 0 for any.

        Raises StateError where the start of the vaults was refused, or another epoch is served.
        """
        order = {"machine": machine, "name": name, "execution": execution, "forked": forked}
        order |= {"elsewhere": elsewhere, "epoch": epoch}
        return bool(self._order("attach", order, (line,))["fence"])

    def renew(
        self,
        machine: str,
        execution: str,
        *,
        forked: bool = False,
        before: str = "",
        elsewhere: str = "",
        epoch: int = 0,
    ) -> bool:
        """Let a machine's channel go on in another execution; return whether that holds the vault.

        Args:
            machine: UUID.
            execution: the new one; the same asks for the fence again.
            forked: as in `attach`.
            before: the execution that goes on, where a machine is attached in several.
            elsewhere: as in `attach`.
            epoch: as in `attach`.

        Raises NotFoundError, StateError.
        """
        order: Answer = {"machine": machine, "execution": execution, "forked": forked}
        order |= {"elsewhere": elsewhere, "epoch": epoch}
        return bool(self._order("renew", order | ({"before": before} if before else {}))["fence"])

    def lift(self, above: int) -> int:
        """Have an epoch served that is above another host's; return it. Guests may have to be attached again.

        Raises StateError where no vault is served, or none is above it.
        """
        return int(self._order("lift", {"above": above})["epoch"])

    def detach(self, machine: str, execution: str, *, ended: bool) -> bool:
        """Close a guest's channel; return whether its fence was let go, which only `ended` does.

        Raises NotFoundError where it is not attached and has not ended.
        """
        order = {"machine": machine, "execution": execution, "ended": ended}
        return bool(self._order("detach", order)["fence"])

    def quiesce(self, machine: str, execution: str) -> int:
        """Ask a guest to freeze; return the number. The event `quiesced` follows, or `silent`.

        Raises NotFoundError; StateError where it has no session.
        """
        return int(self._order("quiesce", {"machine": machine, "execution": execution})["number"])

    def again(self, machine: str, execution: str) -> bool:
        """Begin another session, with a seed; return whether the guest was frozen from `quiesced` until now.

        Raises NotFoundError, StateError.
        """
        return bool(self._order("again", {"machine": machine, "execution": execution})["held"])

    def status(self) -> Answer:
        """Return version, state, problem, tpm, unprotected, epoch, voids, anchors, writes and guests."""
        return self._order("status", {})

    def guests(self) -> Iterator[Answer]:
        """Yield each guest that is attached."""
        yield from self._pages("guests", {}, "guests")

    def vaults(self) -> Iterator[Answer]:
        """Yield the summary of each machine's vault."""
        yield from self._pages("vaults", {}, "vaults")

    def vault(self, machine: str) -> Answer:
        """Return the summary of a machine's vault. Raises NotFoundError."""
        return self._order("vault", {"machine": machine})

    def entries(self, machine: str, kind: str) -> Iterator[Answer]:
        """Yield what a vault has of a kind: `vaultorders.KINDS` of the service.

        Raises NotFoundError, InputError.
        """
        yield from self._pages("vault", {"machine": machine, "kind": kind}, "entries")

    def verify(self, timeout_s: float = VERIFY_S) -> Answer:
        """Have the whole log read again; return what was found. Raises StateError where it is under way."""
        return self._order("verify", {}, timeout_s=timeout_s)

    def adopt(self, reason: str) -> int:
        """Go on with vaults that do not fit the TPM; return the epoch. Raises InputError, StateError."""
        return int(self._order("adopt", {"reason": reason})["epoch"])

    def watch(self) -> Watch:
        """Return a watch, on a connection of its own."""
        return Watch(self._path, self._timeout_s)

    def events(self) -> Iterator[GuestEvent]:
        """Yield events from now on, those first that say how each guest is; until the connection ends.

        Raises OperationError when it ends.
        """
        with self.watch() as watch:
            yield from watch.events()

    def _pages(self, word: str, order: Answer, member: str) -> Iterator[Answer]:
        more = ""
        while True:
            page = self._order(word, order | {"after": more})
            yield from page[member]
            more = page["more"]
            if not more:
                return

    def _order(
        self, word: str, order: Answer, descriptors: tuple[int, ...] = (), timeout_s: float | None = None
    ) -> Answer:
        with self._lock:
            if self._line is None:
                self._line = connected(self._path, self._timeout_s)
            self._number += 1
            try:
                self._line.settimeout(timeout_s or self._timeout_s)
                return ordered(self._line, {"id": self._number, "order": word, **order}, descriptors)
            except OSError as error:
                self._let_go()
                raise OperationError(f"the guest service has not answered `{word}`: {why(error)}") from error

    def _let_go(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
