"""What the service manager is told (sd_notify(3)): ready, alive, stopping. Nothing where there is none."""

import os
import socket
from collections.abc import Mapping


class ServiceManager:
    """The socket that systemd names in the environment.

    Args:
        environment: with NOTIFY_SOCKET and WATCHDOG_USEC where systemd set them.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        watchdog = environment.get("WATCHDOG_USEC", "")
        own = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(watchdog) / 1e6 if watchdog.isdigit() and own else 0.0
        """How often systemd wants to hear `alive`, 0 where it does not."""

    def ready(self, status: str) -> None:
        """Say that hooks are answered from now on."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Say in one line what is being done."""
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        """Say that the event loop turns."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_manager:
            try:
                to_manager.connect(address)
                to_manager.send(text.encode())
            except OSError:
                return  # a manager that does not listen is no reason to end
