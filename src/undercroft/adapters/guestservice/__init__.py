"""The guest service's orders and events, for the agent and the command line (ADR 7).

    with GuestService.connect(places.guest_socket) as service:
        service.attach(machine, "web01", execution, descriptor)
        with service.watch() as watch:              # a connection of its own
            for event in watch.events(): ...        # from a thread; or `fileno` and `ready` in an event loop

All of it blocks, at the most `timeout_s`. A client may be used by several threads: orders take turns. A
watch is for one thread. After an error of the connection a client connects anew with its next order.
"""

from undercroft.adapters.guestservice.client import GuestService
from undercroft.adapters.guestservice.watch import GuestEvent, Watch

__all__ = ["GuestEvent", "GuestService", "Watch"]
