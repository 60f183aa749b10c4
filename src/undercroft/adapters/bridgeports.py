"""Which devices of this host are ports of which bridge, as sysfs has it."""

from pathlib import Path

from undercroft.errors import OperationError

SYSFS = Path("/sys/class/net")


def bridge_ports(root: Path = SYSFS) -> tuple[tuple[str, str], ...]:
    """Return (device, bridge) for each port of a bridge in this network namespace, sorted.

    Args:
        root: where the kernel lists devices.

    Raises:
        OperationError: they cannot be listed.
    """
    try:
        # A device may go while it is looked at: it is then no port any more.
        links = ((device.name, device / "brport" / "bridge") for device in root.iterdir())
        return tuple(sorted((name, link.resolve().name) for name, link in links if link.exists()))
    except OSError as error:
        raise OperationError(f"{root}: {error.strerror}; is sysfs mounted?") from error
