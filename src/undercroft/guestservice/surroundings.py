"""What a guest needs of the service around it; a test has one of its own."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from undercroft.channel.requests import Request
from undercroft.guestservice.keep import Confirmation

Asker_contra = TypeVar("Asker_contra", contravariant=True)
"""The guest itself: who is around it knows it by its link and its name."""


class Surroundings(Protocol[Asker_contra]):
    """What a guest needs of the service."""

    def random(self, size_bytes: int) -> bytes:
        """Return bytes of the host's kernel."""
        ...

    def microseconds(self) -> int:
        """Return the time since 1970, for serials."""
        ...

    def next_generation(self) -> int:
        """Return a generation that no seed had."""
        ...

    def next_request(self, guest: Asker_contra) -> int:
        """Return the number from which on this guest's requests are new."""
        ...

    def ask(self, guest: Asker_contra, first: int, requests: Sequence[Request]) -> None:
        """Take a batch for the vault: `Guest.answer` is called once it is durable."""
        ...

    def keep(self, guest: Asker_contra) -> None:
        """Take note that what was seen of this guest has changed: before anything that is sent leaves."""
        ...

    def confirm(self, guest: Asker_contra, confirmed: Confirmation | None) -> None:
        """Keep what was confirmed."""
        ...

    def tell(self, guest: Asker_contra, event: str, fields: dict[str, object]) -> None:
        """Tell whoever watches."""
        ...

    def seeded(self, guest: Asker_contra, generation: int) -> None:
        """Take note that a seed is about to be given."""
        ...
