"""The vaults' log in files: segments, of which one is current, each a chain of groups under a secret key.

A segment is `log-` and its number. It begins with a header: `MAGIC`, its number, the number of its first
group, the head of the segment before, and a marker of 16 random bytes. Groups follow, without gaps:

    marker (16) | size of the body (4) | number of the group (8) | body | head (32)

The body is records, each after its size (4). A head is HMAC-SHA256 over the head before it and all of the
group before its own head. Zeros follow the last group: room that was taken beforehand, so that a disk that
is full is found out before anything is decided.

**A torn tail and tampering.** A group is written after the one before it is durable. So only the last group
can be torn by a crash, and no marker can stand after it: it was never acknowledged, and is wiped away. Where
a group does not fit its head and a marker comes after it, a durable group was damaged: that is refused. A
guest cannot make a marker, as it never learns it. A last group that was altered looks like a torn one: that
it is missing shows in the TPM (`undercroft.vault.start`), or nowhere.

**A snapshot** is a new segment under another name, made durable, then given its name; the one before is
removed after that.
"""

import contextlib
import errno
import hmac
import secrets
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from undercroft.adapters.durablefiles import Files
from undercroft.errors import DamagedError, InputError, OperationError, StateError
from undercroft.ports.vaultlog import HEAD_BYTES, MAX_GROUP_BYTES, MAX_RECORD_BYTES, Group

MAGIC = b"UCVAULT1"
ROOM_BYTES = 4 * 1024 * 1024
_HEADER = struct.Struct(">8sQQ32s16s")
_FRAME = struct.Struct(">16sIQ")
_SIZE = struct.Struct(">I")
_MARKER_BYTES = 16
_PREFIX = "log-"
_NEW = "new-log"
_BEGIN = _HEADER.size + HEAD_BYTES
_OVERHEAD = _FRAME.size + HEAD_BYTES


@dataclass(slots=True)
class _Segment:
    """A segment that is open: where its chain begins, and where it stands."""

    number: int
    first_group: int
    first_head: bytes
    marker: bytes
    handle: int
    next_group: int
    head: bytes
    end: int
    allocated: int
    begun: int


class VaultFile:
    """The log in the files of a folder that this process holds. See `VaultLog` for the methods."""

    def __init__(self, files: Files, key: bytes, *, room_bytes: int = ROOM_BYTES) -> None:
        """Open the log, or begin one; wipe a torn tail away.

        Args:
            files: of a folder; others than the log's are left alone.
            key: 32 secret bytes, the same for the log's whole life.
            room_bytes: how much room is taken from the disk at a time.

        Raises:
            DamagedError: what is there was durable once, and is damaged or not of this key.
            OperationError: the disk failed.
        """
        self._files = files
        self._key = key
        self._room_bytes = room_bytes
        self._waiting: Sequence[bytes] = ()
        self._failed = ""
        with _errors("opened"):
            self._at = self._open()

    @property
    def head(self) -> bytes:
        """The head of the last durable group."""
        return self._at.head

    @property
    def grown_bytes(self) -> int:
        """How many bytes of groups came after the last snapshot."""
        return self._at.end - self._at.begun

    def read(self) -> Iterator[Group]:
        """Yield the durable groups from the last snapshot on."""
        at = self._at
        with _errors("read"):
            data = self._files.read(_name(at.number))
        head, number, offset = at.first_head, at.first_group, _BEGIN
        while offset < at.end:
            group, offset = self._group(data, offset, at.marker, head, number)
            if group is None:
                raise DamagedError(f"group {number} of the vaults' log changed while it was open")
            head, number = group.head, number + 1
            yield group

    def reserve(self, size_bytes: int) -> int:
        """Make room on the disk, and return how many bytes of records there is room for."""
        at = self._at
        wanted = at.end + size_bytes + _OVERHEAD
        if wanted > at.allocated and not self._failed:
            wanted += self._room_bytes
            with contextlib.suppress(OSError):  # whoever asks sees that the room is not there
                self._files.allocate(at.handle, wanted)
                at.allocated = wanted
        return max(0, at.allocated - at.end - _OVERHEAD)

    def append(self, records: Sequence[bytes]) -> None:
        """Take the records of the next group."""
        self._check()
        if not records or not all(0 < len(each) <= MAX_RECORD_BYTES for each in records):
            raise InputError(f"a group has records of 1 to {MAX_RECORD_BYTES} bytes each")
        if sum(map(len, records)) + 4 * len(records) > MAX_GROUP_BYTES:
            raise InputError(f"a group has at most {MAX_GROUP_BYTES} bytes")
        self._waiting = records

    def sync(self) -> bytes:
        """Make the group durable that waits: one write, one fdatasync."""
        at = self._at
        if self._failed:
            raise OperationError(self._failed)
        if not self._waiting:
            return at.head
        data, head = self._frame(at, self._waiting)
        self._waiting = ()
        try:
            self._write(at.handle, data, at.end)
            self._files.sync(at.handle)
        except OSError as error:
            self._failed = (
                f"the vaults' log cannot be written ({error.strerror}): see to the disk, start anew"
            )
            raise OperationError(self._failed) from error
        at.end += len(data)
        at.allocated = max(at.allocated, at.end)
        at.next_group += 1
        at.head = head
        return head

    def snapshot(self, records: Iterable[bytes]) -> None:
        """Begin a new segment with these records."""
        self._check()
        before = self._at
        with _errors("written anew"):
            at = self._begin(before.number + 1, before.next_group, before.head, records)
            try:
                self._files.rename(_NEW, _name(at.number))
                self._files.sync_names()
            except OSError as error:  # nobody knows under which name a crash would leave it
                self._files.close(at.handle)
                self._failed = f"the vaults' log cannot be written anew ({error.strerror}): start anew"
                raise
        self._files.close(before.handle)
        self._at = at
        with contextlib.suppress(OSError):  # what is left is removed when the log is opened
            self._files.remove(_name(before.number))

    def close(self) -> None:
        """Let the log go."""
        if self._at.handle >= 0:
            self._files.close(self._at.handle)
        self._at.handle = -1
        self._failed = self._failed or "the vaults' log was closed"

    def _open(self) -> _Segment:
        names = self._files.names()
        if _NEW in names:  # of a snapshot or a beginning that a crash cut off
            self._files.remove(_NEW)
        numbers = sorted(int(name[len(_PREFIX) :]) for name in names if _is_segment(name))
        if not numbers:
            begun = self._begin(1, 1, bytes(HEAD_BYTES), ())
            self._files.rename(_NEW, _name(1))
            self._files.sync_names()
            return begun
        opened = self._find_end(numbers[-1], self._files.read(_name(numbers[-1])))
        for each in numbers[:-1]:
            self._files.remove(_name(each))
        return opened

    def _find_end(self, number: int, data: bytes) -> _Segment:
        """Read the header and follow the chain up to its end; wipe away what a crash left there."""
        name = _name(number)
        if len(data) < _HEADER.size or data[: len(MAGIC)] != MAGIC:
            raise DamagedError(
                f"{name} is no log of vaults: put the folder's last backup back, then adopt it"
            )
        _, found, first_group, before, marker = _HEADER.unpack_from(data)
        if found != number:
            raise DamagedError(f"{name} is segment {found}: files were exchanged")
        first_head = head = self._digest(before, data[: _HEADER.size])
        if not hmac.compare_digest(head, data[_HEADER.size : _BEGIN]):
            raise DamagedError(f"{name} is damaged or of another key: put the folder's last backup back")
        offset, next_group = _BEGIN, first_group
        group, end = self._group(data, offset, marker, head, next_group)
        while group is not None:
            offset, head, next_group = end, group.head, next_group + 1
            group, end = self._group(data, offset, marker, head, next_group)
        if data.find(marker, offset + 1) >= 0 or _number_at(data, offset, marker) > next_group:
            raise DamagedError(
                f"group {next_group} of {name} was durable once, and is damaged or of another key: put the"
                f" folder's last backup back, then adopt it"
            )
        handle = self._files.open(name)
        if data[offset:] != bytes(len(data) - offset):
            torn = len(data[offset:].rstrip(b"\0"))
            self._write(handle, bytes(torn), offset)
            self._files.sync(handle)
        allocated, begun = max(len(data), offset), _BEGIN
        return _Segment(
            number, first_group, first_head, marker, handle, next_group, head, offset, allocated, begun
        )

    def _begin(self, number: int, first_group: int, before: bytes, records: Iterable[bytes]) -> _Segment:
        """Write a segment under the name of a new one, and make it durable."""
        marker = secrets.token_bytes(_MARKER_BYTES)
        header = _HEADER.pack(MAGIC, number, first_group, before, marker)
        head = self._digest(before, header)
        header += head
        handle = self._files.open(_NEW, create=True)
        size = len(header)
        at = _Segment(number, first_group, head, marker, handle, first_group, head, size, size, size)
        try:
            self._write(handle, header, 0)
            for group in _groups(records):
                data, at.head = self._frame(at, group)
                self._write(handle, data, at.end)
                at.end += len(data)
                at.next_group += 1
            self._files.sync(handle)
        except OSError:
            self._files.close(handle)
            with contextlib.suppress(OSError):  # on a full disk its room is wanted
                self._files.remove(_NEW)
            raise
        at.begun = at.allocated = at.end
        return at

    def _frame(self, at: _Segment, records: Sequence[bytes]) -> tuple[bytes, bytes]:
        """Return a group as it is written after where a segment stands, and its head."""
        body = b"".join([part for each in records for part in (_SIZE.pack(len(each)), each)])
        data = _FRAME.pack(at.marker, len(body), at.next_group) + body
        head = self._digest(at.head, data)
        return data + head, head

    def _group(
        self, data: bytes, offset: int, marker: bytes, before: bytes, number: int
    ) -> tuple[Group | None, int]:
        """Return the group that begins at an offset and where it ends; None where none fits the chain."""
        if offset + _FRAME.size > len(data):
            return None, offset
        found, size, stated = _FRAME.unpack_from(data, offset)
        end = offset + _FRAME.size + size
        if found != marker or stated != number or end + HEAD_BYTES > len(data):
            return None, offset
        head = self._digest(before, data[offset:end])
        if not hmac.compare_digest(head, data[end : end + HEAD_BYTES]):
            return None, offset
        records: list[bytes] = []
        at = offset + _FRAME.size
        while at < end:  # as written by who has the key: no need to distrust the sizes
            (length,) = _SIZE.unpack_from(data, at)
            records.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        return Group(head, tuple(records)), end + HEAD_BYTES

    def _digest(self, before: bytes, data: bytes) -> bytes:
        return hmac.digest(self._key, before + data, "sha256")

    def _write(self, handle: int, data: bytes, offset: int) -> None:
        """Write all of it: a short write is followed by another for the rest."""
        written = self._files.write(handle, data, offset)
        while written < len(data):
            more = self._files.write(handle, data[written:], offset + written)
            if more <= 0:
                raise OSError(errno.EIO, "nothing was written")
            written += more

    def _check(self) -> None:
        if self._failed:
            raise OperationError(self._failed)
        if self._waiting:
            raise StateError("a group of the vaults' log waits for its sync")


def _name(segment: int) -> str:
    return f"{_PREFIX}{segment:012}"


def _number_at(data: bytes, offset: int, marker: bytes) -> int:
    """Return the number of the group at an offset, 0 where none begins; a torn one's is its own or lower."""
    if not data.startswith(marker, offset) or offset + _FRAME.size > len(data):
        return 0
    return int(_FRAME.unpack_from(data, offset)[2])


def _is_segment(name: str) -> bool:
    return name.startswith(_PREFIX) and name[len(_PREFIX) :].isascii() and name[len(_PREFIX) :].isdigit()


def _groups(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for record in records:
        group.append(record)
        size += len(record) + 4
        if size > MAX_GROUP_BYTES // 2:
            yield group
            group, size = [], 0
    if group:
        yield group


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OperationError(f"the vaults' log cannot be {what}: {error.strerror}") from error
