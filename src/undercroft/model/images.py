"""Many image files in one call: what is said of each, and what is kept of an answer."""

from dataclasses import dataclass
from enum import StrEnum

from undercroft.model.fleet import FileIdentity, ReadSet
from undercroft.model.report import ScanReport


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What is kept of one state of one image.

    Attributes:
        inventory: digest of the inventory.
        files: what it rests on, top image first; all of them prove.
        inputs: digest of how they were given to the reader.
        reads: every byte that the inventory rests on, None where it cannot be proven by reading again.
    """

    inventory: str
    files: tuple[FileIdentity, ...]
    inputs: str
    reads: ReadSet | None


class Role(StrEnum):
    """What an image file is among the others."""

    MACHINE = "machine"
    BASE = "base"


@dataclass(frozen=True, slots=True)
class ImageReport:
    """One image of many.

    Attributes:
        path: of the file.
        role: BASE where another image that was named rests on it.
        report: as a scan of this image alone would give it; its one disk lists the chain.
        shared: path of the image whose inventory was proven to be this one's too, "" where it was read.
        kept: its current state was not read again: the files are what they were at an earlier call.
    """

    path: str
    role: Role
    report: ScanReport
    shared: str = ""
    kept: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One thing in a named folder that is not among the images.

    Attributes:
        path: of it.
        why: in words, with the cure where there is one.
        unread: True where it may hold a machine's software: the answer is then not whole.
    """

    path: str
    why: str
    unread: bool = False
