"""How often the TPM's memory is written: a bucket of writes that fills up slowly, and survives restarts.

The flash of a common TPM is rated for 500,000 cycles: one write in 315 s lasts five years. The bucket counts
the seconds that are saved up; a write takes `SECONDS` of them.
"""

from dataclasses import dataclass

SECONDS = 315
SAVED_WRITES = 2_000
START_WRITES = 2
"""Of one start: the counter and the index."""
SHARE_WRITES = 125
"""What one machine's vault may have saved up of them: one guest cannot use up what all have."""


@dataclass(slots=True)
class Budget:
    """A bucket.

    Attributes:
        saved_s: seconds saved up; below 0 after starts and ends that could not wait.
        at_s: Unix time up to which they were counted.
        most_s: how many seconds may be saved up.
    """

    saved_s: int = SECONDS * SAVED_WRITES
    at_s: int = 0
    most_s: int = SECONDS * SAVED_WRITES

    def count(self, now_s: int) -> None:
        """Count the seconds up to now; a clock that went back saves none."""
        self.saved_s = min(self.most_s, self.saved_s + max(0, now_s - self.at_s))
        self.at_s = now_s

    def take(self, now_s: int) -> bool:
        """Take one write where one is saved up; whether it was."""
        self.count(now_s)
        if self.saved_s < SECONDS:
            return False
        self.saved_s -= SECONDS
        return True

    def owe(self, now_s: int, writes: int) -> None:
        """Take writes that cannot wait, also where none are saved up."""
        self.count(now_s)
        self.saved_s -= SECONDS * writes

    @property
    def writes(self) -> int:
        """How many writes are saved up."""
        return max(0, self.saved_s) // SECONDS

    def wait_s(self, now_s: int) -> int:
        """Return in how many seconds a write is saved up; 0 for now."""
        self.count(now_s)
        return max(0, SECONDS - self.saved_s)
