"""What guests are called: a machine and one execution of it, as bytes inside and as text outside."""

import re
from dataclasses import dataclass
from uuid import UUID

from undercroft.errors import InputError

MAX_NAME_CHARS = 255
MAX_HOST_CHARS = 255
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EXECUTION = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Who:
    """One guest, as the agent named it.

    Attributes:
        machine: its UUID, 16 bytes.
        execution: its id, 16 bytes.
        name: libvirt's name of the machine, for people.
        forked: it was copied from a running machine, or from its RAM: it takes no fence from who lives.
        elsewhere: the host that keeps its vault, "" where this one does.
    """

    machine: bytes
    execution: bytes
    name: str = ""
    forked: bool = False
    elsewhere: str = ""

    @property
    def key(self) -> tuple[bytes, bytes]:
        """What tells it from all others."""
        return self.machine, self.execution

    def fields(self) -> dict[str, object]:
        """Return the two fields that every event of it has."""
        return {"machine": machine_text(self.machine), "execution": self.execution.hex()}


def machine_text(machine: bytes) -> str:
    """Return a UUID as text, with hyphens."""
    return str(UUID(bytes=machine))


def read_machine(text: object) -> bytes:
    """Return the 16 bytes of a UUID. Raises InputError for any other text, and for another form of it."""
    if not isinstance(text, str) or not _UUID.fullmatch(text):
        raise InputError("a machine is a UUID in lower case, with hyphens")
    return UUID(text).bytes


def read_execution(text: object) -> bytes:
    """Return the 16 bytes of an execution's id. Raises InputError for what is none."""
    if not isinstance(text, str) or not _EXECUTION.fullmatch(text):
        raise InputError("an execution is 32 hexadecimal digits in lower case")
    return bytes.fromhex(text)


def read_host(text: object) -> str:
    """Return a host's name, or "". Raises InputError for one that is too long or no text."""
    if not isinstance(text, str) or len(text) > MAX_HOST_CHARS:
        raise InputError(f"a host's name is a text of at most {MAX_HOST_CHARS} characters")
    return text


def read_name(text: object) -> str:
    """Return a machine's name. Raises InputError for one that is too long or no text."""
    if not isinstance(text, str) or len(text) > MAX_NAME_CHARS:
        raise InputError(f"a machine's name is a text of at most {MAX_NAME_CHARS} characters")
    return text
