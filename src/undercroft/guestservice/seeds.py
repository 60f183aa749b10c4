"""The seeds of one execution: one in each session until one is confirmed, and in the first after a quiesce.

What was confirmed holds for the boot that confirmed it: the generator of a guest that rebooted began anew,
perhaps with a seed file that was put back with its disk. Its next session has a seed too.

A seed is of one session, and goes with it: whoever drops the offer drops all that is known of the seed.
"""

from collections.abc import Callable

from undercroft.channel.keys import Random
from undercroft.channel.messages import Confirmed
from undercroft.entropy.seed import Offer
from undercroft.guestservice.keep import Confirmation, Kept
from undercroft.guestservice.naming import Who


class Seeds:
    """What is offered, and what was confirmed.

    Attributes:
        are_due: the next session has one whatever was confirmed.
    """

    def __init__(self, who: Who, kept: Kept, random: Random, next_generation: Callable[[], int]) -> None:
        """Take whose they are, what was confirmed before, and where bytes and generations come from."""
        self._who, self._kept, self._random, self._next = who, kept, random, next_generation
        self._offer: Offer | None = None
        self._boot = b""
        self.are_due = False

    def drop(self) -> None:
        """The session is over: its seed is confirmed by nobody any more."""
        self._offer = None

    def give(self, nonces: bytes, boot: bytes, *, frozen: bool) -> tuple[int, bytes | None]:
        """Return the generation of a session, and its seed where one is due.

        Args:
            nonces: both sides' of the session.
            boot: id of the boot that the guest says it is in.
            frozen: the guest says that it waits for one.
        """
        confirmed = self._kept.confirmed
        self._boot = boot
        if confirmed is not None and confirmed.boot == boot and not self.are_due and not frozen:
            return confirmed.generation, None
        number = self._next()
        who = self._who
        self._offer = Offer.make(self._random, nonces, who.machine, who.execution, number)
        return number, self._offer.seed

    def confirmed(self, message: Confirmed, milliseconds: int) -> Confirmation | None:
        """Return what a guest confirmed; None where its tag is not of the seed that this session offered."""
        offer = self._offer
        if offer is None or not offer.is_confirmed_by(message.generation, message.tag):
            return None
        self._offer, self.are_due = None, False
        return Confirmation(
            message.generation,
            message.credited,
            message.drained,
            message.hooks,
            message.failed,
            milliseconds,
            self._boot,
        )


def confirmed_fields(confirmed: Confirmation) -> dict[str, object]:
    """Return what the event `confirmed` has."""
    return {
        "generation": confirmed.generation,
        "credited": confirmed.credited,
        "drained": confirmed.drained,
        "hooks": confirmed.hooks,
        "failed": confirmed.failed,
        "milliseconds": confirmed.milliseconds,
    }
