"""The packet that a counterexample shows; a value, for whoever prints it and proves nothing."""

from dataclasses import dataclass

from undercroft.firewall.kernel import Hook


@dataclass(frozen=True, slots=True)
class Example:
    """A packet that tells two meanings apart.

    Attributes:
        hooks: that it passes, in order.
        input_name: port where it comes in, "" for one of the host's own.
        output_name: port where it goes out, "" for one to the host.
        frame: from the Ethernet header on, with its VLAN tag.
        mark: that it has before the first hook.
        state: of its connection, a bit mask as the kernel has it.
        remembered: what dynamic sets hold before it comes: set and key.
        input_kind, output_kind: "tun" where the port is a tap, else "".
    """

    hooks: tuple[Hook, ...]
    input_name: str
    output_name: str
    frame: bytes
    mark: int = 0
    state: int = 0
    remembered: tuple[tuple[str, bytes], ...] = ()
    input_kind: str = ""
    output_kind: str = ""
