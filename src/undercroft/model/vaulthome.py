"""Which host keeps a machine's vault, as it is on record."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class VaultHome:
    """The one host whose guest service may serve a machine's vault.

    Attributes:
        machine: UUID.
        host: its name.
        epoch: the highest in which its service was to serve this vault: on record before it did.
        above: the highest in which another host's may have, when it was the home: values here lie above it.
        at: since when it is the home.
    """

    machine: str
    host: str
    epoch: int
    above: int
    at: datetime
