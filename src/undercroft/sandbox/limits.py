"""What one job may use up, and how those limits are named to people."""

from dataclasses import dataclass

MIB = 1 << 20


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
