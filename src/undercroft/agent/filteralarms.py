"""Alarms of the firewall, in the log and the journal: at once, but no flood of them.

Who changes tables may do so for ever. Of each kind one alarm goes into the log within some seconds; it says
how many more there were. One that cannot be put on record is told again.
"""

import threading
import time

from undercroft.agent.host import Host, now
from undercroft.assurance.firewall.certificate import Counterexample
from undercroft.errors import UndercroftError
from undercroft.model.schema import Json
from undercroft.ports.packetfilter import GenerationChange

ALARM_EVERY_S = 5.0
"""How often, at most, an alarm of one kind goes into the log."""
MAX_TOLD_CHARS = 4000


class Alarms:
    """Those of one host. Every method may be called from any thread."""

    def __init__(self, host: Host) -> None:
        """Tell them in the name of a host."""
        self._host = host
        self._lock = threading.Lock()
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, tuple[str, int]] = {}

    @property
    def are_untold(self) -> bool:
        """True while any waits to be told."""
        return bool(self._untold)

    def alarm(self, kind: str, reason: str) -> None:
        """Tell of a difference, in the log and the journal: at once, or with others of its kind later."""
        self.keep(kind, reason)
        self.tell_again()

    def tell_again(self) -> None:
        """Tell what is due; what fails is a problem, and keeps its caller from nothing else."""
        try:
            self.tell()
        except UndercroftError as error:
            self._host.problem("an alarm of the firewall is not on record yet; it is told again", error)

    def keep(self, kind: str, reason: str) -> None:
        """Let an alarm be told by the next `tell`; it waits for nothing."""
        with self._lock:
            _, count = self._untold.get(kind, ("", 0))
            self._untold[kind] = reason, count + 1

    def tell(self) -> None:
        """Tell what is due; from any thread, each alarm is one thread's to tell.

        Raises OperationError where the record does not take one; it is due again as if it had been told.
        """
        with self._lock:
            kinds = tuple(self._untold)
        for kind in kinds:
            with self._lock:
                last = self._told_at.get(kind)
                is_due = last is None or time.monotonic() - last >= ALARM_EVERY_S
                taken = self._untold.pop(kind, None) if is_due else None
            if taken is None:
                continue
            reason, count = taken
            more = f" (and {count - 1} times more since the last alarm)" if count > 1 else ""
            try:
                self._put(kind, reason + more)
            except UndercroftError:
                with self._lock:
                    newer, since = self._untold.get(kind, (reason, 0))
                    self._untold[kind] = newer, since + count
                raise
            finally:
                self._told_at[kind] = time.monotonic()

    def _put(self, kind: str, reason: str) -> None:
        body: dict[str, Json] = {"alarm": kind, "executions": [], "reason": reason}
        with self._host.records.transaction() as record:
            record.log("alarm", self._host.name, body, now())
        self._host.report(f"alarm: {reason}")


def words(answer: Counterexample, change: GenerationChange) -> str:
    """Return what has become of the table, and who did it, as far as the kernel knows."""
    name = "".join(letter if letter.isprintable() else "?" for letter in change.process_name)
    who = f"process {change.process_id} ({name})" if change.process_id else "somebody"
    return f"{who} has changed the firewall's table in the kernel: {text(answer)}"[:MAX_TOLD_CHARS]


def text(answer: Counterexample) -> str:
    """Return what differs, in lines; names in foreign tables are anybody's."""
    lines = answer.text().strip().splitlines()
    told = "\n".join("".join(letter if letter.isprintable() else "?" for letter in line) for line in lines)
    return told[:MAX_TOLD_CHARS]
