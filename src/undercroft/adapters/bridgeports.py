"""Which devices are ports of which bridge, as the kernel has it, in the network namespace of the thread."""

from undercroft.adapters.surroundings import links
from undercroft.adapters.surroundings.rtnetlink import connected


def bridge_ports() -> tuple[tuple[str, str], ...]:
    """Return (device, bridge) for each port of a bridge, sorted. Raises OperationError."""
    with connected() as kernel:
        devices = links.read_devices(kernel)
    bridges = {device.index: device.name for device in devices if device.kind == "bridge"}
    return tuple(
        sorted((device.name, bridges[device.master]) for device in devices if device.master in bridges)
    )
