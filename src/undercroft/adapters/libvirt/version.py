"""Which libvirt answers."""

from typing import Protocol, cast

from undercroft.adapters.libvirt.bindings import load, message
from undercroft.adapters.libvirt.hypervisor import default_uri
from undercroft.errors import OperationError


class _Versioned(Protocol):
    def getLibVersion(self) -> int: ...  # noqa: N802 - its name
    def close(self) -> int: ...


def daemon_version(uri: str = "") -> str:
    """Return the version of the daemon that answers at a URI ("9.0.0"); "" asks the default one.

    Raises OperationError where none answers, or libvirt-python is missing.
    """
    libvirt = load()
    try:
        connection = cast("_Versioned", libvirt.openReadOnly(uri or default_uri()))
        try:
            number = connection.getLibVersion()
        finally:
            connection.close()
    except libvirt.libvirtError as error:
        raise OperationError(f"libvirt: {message(error)}") from error
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
