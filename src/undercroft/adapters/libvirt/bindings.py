"""The part of libvirt-python that Undercroft uses, typed, and loaded when it is first needed.

Everything here exists in libvirt 9.0; newer versions may add to it. What each call does stands in libvirt's
own reference under the same name.
"""

# ruff: noqa: D102, N802, N815 - libvirt's own names, documented there

import importlib
from typing import Protocol, cast

from undercroft.errors import OperationError


class Volume(Protocol):
    """A `virStorageVol`."""

    def path(self) -> str: ...
    def XMLDesc(self, flags: int = 0) -> str: ...


class Pool(Protocol):
    """A `virStoragePool`."""

    def storageVolLookupByName(self, name: str) -> Volume: ...


class Domain(Protocol):
    """A `virDomain`."""

    def name(self) -> str: ...
    def ID(self) -> int: ...
    def isActive(self) -> int: ...
    def XMLDesc(self, flags: int = 0) -> str: ...
    def jobInfo(self) -> list[int]: ...
    def abortJob(self) -> int: ...
    def backupGetXMLDesc(self, flags: int = 0) -> str: ...
    def backupBegin(self, backup_xml: str, checkpoint_xml: str | None, flags: int = 0) -> int: ...


class Connection(Protocol):
    """A `virConnect`."""

    def close(self) -> int: ...
    def getURI(self) -> str: ...
    def lookupByID(self, ident: int) -> Domain: ...
    def lookupByUUIDString(self, uuid: str) -> Domain: ...
    def lookupByName(self, name: str) -> Domain: ...
    def listAllDomains(self, flags: int = 0) -> list[Domain]: ...
    def storagePoolLookupByName(self, name: str) -> Pool: ...
    def storageVolLookupByPath(self, path: str) -> Volume: ...


class LibvirtError(Protocol):
    """A `libvirtError`."""

    def get_error_code(self) -> int: ...
    def get_error_message(self) -> str: ...


class Libvirt(Protocol):
    """The module itself."""

    libvirtError: type[Exception]
    VIR_DOMAIN_JOB_NONE: int
    VIR_ERR_NO_DOMAIN: int
    VIR_ERR_NO_DOMAIN_BACKUP: int

    def open(self, uri: str) -> Connection: ...
    def openReadOnly(self, uri: str) -> Connection: ...
    def registerErrorHandler(self, handler: object, context: object) -> None: ...


def load() -> Libvirt:
    """Return libvirt-python, its habit of printing errors switched off.

    Raises OperationError where it is not installed.
    """
    try:
        module = cast("Libvirt", importlib.import_module("libvirt"))
    except ImportError as error:
        raise OperationError(
            f"libvirt-python cannot be loaded ({error}): install Debian's python3-libvirt, or libvirt-dev,"
            " pkg-config and gcc and then: pip install 'undercroft[libvirt]'"
        ) from error
    module.registerErrorHandler(_silent, None)
    return module


def message(error: Exception) -> str:
    """Return what libvirt said, without the prefixes of its Python binding."""
    text = cast("LibvirtError", error).get_error_message() if hasattr(error, "get_error_message") else ""
    return text or str(error)


def code(error: Exception) -> int:
    """Return libvirt's error number (`VIR_ERR_...`), -1 where there is none."""
    return cast("LibvirtError", error).get_error_code() if hasattr(error, "get_error_code") else -1


def _silent(_context: object, _error: object) -> None:
    """Take libvirt's errors; each arrives as an exception as well."""
