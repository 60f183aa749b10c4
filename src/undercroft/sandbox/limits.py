"""What one job may use up, and how those limits are named to people."""

from dataclasses import dataclass, replace

MIB = 1 << 20

UNLOCKING = "unlock"
"""The job that derives keys from passphrases. Its cost is what the volume's header asks for (ADR 8)."""

UNLOCKING_MEMORY_BYTES = 1024 * MIB
UNLOCKING_S = 300
"""What that job may use beyond every other: the most memory that Argon2 may ask for, and time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one job; each holds for a single child.

    Attributes:
        memory_bytes: address space (RLIMIT_AS), the interpreter's own 40 MiB included.
        cpu_s: processor time of a call in whole seconds (RLIMIT_CPU).
        stream_cpu_s: the same for a stream, which may have a large file to send.
        wall_s: time until the answer. For a stream only the time that the host waits for the child
            counts, so that a slow consumer (a pager) does not end it, and each MiB sent earns a second.
        answer_bytes: size of an answer's JSON. Parsing it takes the host up to 20 times as much.
    """

    memory_bytes: int = 512 * MIB
    cpu_s: int = 10
    stream_cpu_s: int = 600
    wall_s: float = 30.0
    answer_bytes: int = 16 * MIB

    def of(self, job: str) -> "Limits":
        """Return the limits of one job: these, or wider ones where keys are derived."""
        if job != UNLOCKING:
            return self
        return replace(
            self,
            memory_bytes=self.memory_bytes + UNLOCKING_MEMORY_BYTES,
            cpu_s=self.cpu_s + UNLOCKING_S,
            wall_s=self.wall_s + 2 * UNLOCKING_S,
        )
