"""The host's network devices of machines: whoever closes and opens them."""

from typing import Protocol

from undercroft.model.fleet import HeldTap


class Taps(Protocol):
    """Taps in the network namespace of libvirt's daemon; `adapters.netlink` is one.

    All raise NotFoundError for a device that is not there, and OperationError when the kernel refuses.
    """

    def hold(self, tap: str) -> HeldTap:
        """Take a tap off its bridge and set it down, and see that it is so."""
        ...

    def open_tap(self, held: HeldTap) -> None:
        """Put a tap back onto its bridge and set it up."""
        ...

    def is_held(self, tap: str) -> bool:
        """Return whether a tap is off any bridge and down."""
        ...
