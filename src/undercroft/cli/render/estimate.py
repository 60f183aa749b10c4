"""How far a scan of many images has come, in words, and how long it may still take where that can be known.

Honest: a time is told only after `SURE_AFTER_S`, once `SURE_AFTER` images are done, and only where the pace
of the last minute and that of the whole agree within a factor of two. Images differ a hundredfold in what
they cost, and anything else would be a guess.
"""

from collections import deque

from undercroft.cli.render import words
from undercroft.usecases.images.scanning import Done

SURE_AFTER_S = 10.0
SURE_AFTER = 20
WINDOW_S = 60.0
AGREEMENT = 2.0


class Estimate:
    """Follows one scan."""

    def __init__(self) -> None:
        self._phase = ""
        self._since_s = 0.0
        self._recent: deque[tuple[float, int]] = deque()

    def text(self, done: Done, now_s: float) -> str:
        """Return the words for what is shown beside the bar.

        Args:
            done: how far it is.
            now_s: by a clock that does not jump.
        """
        if done.phase != self._phase:
            self._phase, self._since_s = done.phase, now_s
            self._recent.clear()
        self._recent.append((now_s, done.done))
        while len(self._recent) > 2 and now_s - self._recent[0][0] > WINDOW_S:
            self._recent.popleft()
        parts = [f"{done.phase} {done.text}".strip()]
        if done.done_bytes:
            parts.append(f"{words.size(done.done_bytes)} of {words.size(done.total_bytes)}")
        passed_s = now_s - self._since_s
        if passed_s >= 1 and done.done:
            parts.append(f"{done.done / passed_s:,.1f} a second")
        left = self._left_s(done, now_s)
        if left is not None:
            parts.append(f"about {words.age(left)} left" if left >= 60 else "less than a minute left")
        return ", ".join(parts)

    def _left_s(self, done: Done, now_s: float) -> float | None:
        """Return the seconds that are left, None where nobody can know."""
        passed_s = now_s - self._since_s
        if passed_s < SURE_AFTER_S or done.done < SURE_AFTER or done.done >= done.total:
            return None
        begun_s, before = self._recent[0]
        if now_s <= begun_s or done.done <= before:
            return None
        overall = passed_s / done.done
        recent = (now_s - begun_s) / (done.done - before)
        if max(overall, recent) > AGREEMENT * min(overall, recent):
            return None
        return recent * (done.total - done.done)
