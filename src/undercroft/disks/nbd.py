"""A read-only NBD client over a socket that somebody else connected.

Speaks the fixed newstyle handshake with NBD_OPT_GO and simple replies, as in doc/proto.md of the NBD
project; needs no system calls but read and write on the one descriptor, so it runs in the sandbox. Small
reads come from blocks of `BLOCK_BYTES` that are kept, since each request costs a round trip; the export
must not change meanwhile (a point in time, as libvirt's pull backup serves it).
"""

import os
from struct import Struct
from typing import Final

from undercroft.disks.source import check_range
from undercroft.errors import InputError

BLOCK_BYTES: Final = 64 << 10
"""Unit of the cache, and the alignment of every request; servers ask for 4 KiB at most."""

MAX_CACHED_BLOCKS: Final = 128
"""8 MiB."""

MAX_REQUEST_BYTES: Final = 256 << 10
"""Larger requests are slower: QEMU maps fresh memory for each."""

MAX_RECEIVE_BYTES: Final = 256 << 10
"""What one read from the socket may bring; `os.read` allocates all of it at once."""

MAX_EXPORT_NAME_BYTES: Final = 4096
MAX_OPTION_REPLIES: Final = 16
MAX_OPTION_REPLY_BYTES: Final = 64 << 10

_GREETING: Final = Struct(">8s8sH")
_GREETING_MAGIC: Final = b"NBDMAGIC"
_OPTION_MAGIC: Final = b"IHAVEOPT"
_FIXED_NEWSTYLE: Final = 1 << 0
_NO_ZEROES: Final = 1 << 1

_OPTION: Final = Struct(">8sII")
_OPTION_GO: Final = 7
_OPTION_REPLY: Final = Struct(">QIII")
_OPTION_REPLY_MAGIC: Final = 0x0003E889045565A9
_REPLY_ACK: Final = 1
_REPLY_INFO: Final = 3
_REPLY_IS_ERROR: Final = 1 << 31

_INFO_BLOCK_SIZE: Final = 3
_INFO_EXPORT: Final = Struct(">HQH")
_INFO_BLOCK_SIZES: Final = Struct(">HIII")

_REQUEST: Final = Struct(">IHHQQI")
_REQUEST_MAGIC: Final = 0x25609513
_COMMAND_READ: Final = 0
_REPLY: Final = Struct(">IIQ")
_REPLY_MAGIC: Final = 0x67446698


class NbdSource:
    """One export as a block source.

    Args:
        descriptor: a connected, blocking stream socket, on which nothing was said yet; not closed here.
        export: the export's name.
        max_cached_blocks: how many blocks are kept.

    Raises:
        InputError: the server has no such export, does not speak the protocol, or hung up.
    """

    def __init__(self, descriptor: int, export: str, *, max_cached_blocks: int = MAX_CACHED_BLOCKS) -> None:
        self.name = f"NBD export {export!r}"
        self._descriptor = descriptor
        self._blocks: dict[int, bytes] = {}
        self._max_cached_blocks = max_cached_blocks
        self._cookie = 0
        self._max_request_bytes = MAX_REQUEST_BYTES
        self.size_bytes = 0
        self._negotiate(export.encode("utf-8", "surrogateescape"))

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`.

        Raises:
            InputError: beyond the end; the server reports an error, breaks the protocol or hung up.
        """
        check_range(offset, length, self.size_bytes, self.name)
        if not length:
            return b""
        first, last = offset // BLOCK_BYTES, (offset + length - 1) // BLOCK_BYTES
        within = offset - first * BLOCK_BYTES
        if last - first <= 1:
            blocks = [self._block(number) for number in range(first, last + 1)]
            return (blocks[0] if len(blocks) == 1 else blocks[0] + blocks[1])[within : within + length]
        end = min((last + 1) * BLOCK_BYTES, self.size_bytes)
        data = self._fetch(first * BLOCK_BYTES, end)
        return data[within : within + length] if len(data) != length else data

    def _block(self, number: int) -> bytes:
        block = self._blocks.get(number)
        if block is None:
            start = number * BLOCK_BYTES
            block = self._fetch(start, min(start + BLOCK_BYTES, self.size_bytes))
            if len(self._blocks) >= self._max_cached_blocks:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[number] = block
        return block

    def _fetch(self, start: int, end: int) -> bytes:
        """Read a range in requests that the server accepts, one after the other."""
        pieces = []
        while start < end:
            length = min(end - start, self._max_request_bytes)
            pieces.append(self._request(start, length))
            start += length
        return b"".join(pieces)

    def _request(self, offset: int, length: int) -> bytes:
        self._cookie += 1
        self._send(_REQUEST.pack(_REQUEST_MAGIC, 0, _COMMAND_READ, self._cookie, offset, length))
        magic, error, cookie = _REPLY.unpack(self._receive(_REPLY.size))
        if magic != _REPLY_MAGIC or cookie != self._cookie:
            raise InputError(f"{self.name}: the server's reply breaks the protocol (magic {magic:#x})")
        if error:
            raise InputError(f"{self.name}: reading {length} bytes at {offset} failed: server error {error}")
        return self._receive(length)

    def _negotiate(self, export: bytes) -> None:
        """Choose the export and learn its size: greeting, flags, NBD_OPT_GO."""
        if len(export) > MAX_EXPORT_NAME_BYTES:
            raise InputError(f"{self.name}: the name is over the limit of {MAX_EXPORT_NAME_BYTES} bytes")
        greeting, option_magic, flags = _GREETING.unpack(self._receive(_GREETING.size))
        if greeting != _GREETING_MAGIC or option_magic != _OPTION_MAGIC or not flags & _FIXED_NEWSTYLE:
            raise InputError(f"{self.name}: the server does not offer the fixed newstyle NBD handshake")
        wanted = (
            len(export).to_bytes(4, "big")
            + export
            + (1).to_bytes(2, "big")
            + _INFO_BLOCK_SIZE.to_bytes(2, "big")
        )
        client_flags = (_FIXED_NEWSTYLE | flags & _NO_ZEROES).to_bytes(4, "big")
        self._send(client_flags + _OPTION.pack(_OPTION_MAGIC, _OPTION_GO, len(wanted)) + wanted)
        told_size = False
        for _ in range(MAX_OPTION_REPLIES):
            kind, data = self._option_reply()
            if kind == _REPLY_ACK:
                if not told_size:
                    raise InputError(f"{self.name}: the server does not tell the export's size")
                return
            told_size |= kind == _REPLY_INFO and self._note(data)
        raise InputError(
            f"{self.name}: the server gives more than {MAX_OPTION_REPLIES} replies to one option"
        )

    def _option_reply(self) -> tuple[int, bytes]:
        magic, option, kind, length = _OPTION_REPLY.unpack(self._receive(_OPTION_REPLY.size))
        if magic != _OPTION_REPLY_MAGIC or option != _OPTION_GO or length > MAX_OPTION_REPLY_BYTES:
            raise InputError(f"{self.name}: the server's handshake breaks the protocol")
        data = self._receive(length)
        if kind & _REPLY_IS_ERROR:
            text = data.decode("utf-8", "replace")
            raise InputError(
                f"{self.name}: the server refuses it (error {kind & ~_REPLY_IS_ERROR}): {text!r}"
            )
        return kind, data

    def _note(self, data: bytes) -> bool:
        """Take over one piece of information; return whether it was the export's size."""
        kind = int.from_bytes(data[:2], "big")
        if kind == 0 and len(data) == _INFO_EXPORT.size:
            self.size_bytes = _INFO_EXPORT.unpack(data)[1]
            return True
        if kind == _INFO_BLOCK_SIZE and len(data) == _INFO_BLOCK_SIZES.size:
            _, least, _, most = _INFO_BLOCK_SIZES.unpack(data)
            if not least or BLOCK_BYTES % least or most < BLOCK_BYTES:
                raise InputError(f"{self.name}: requests of {least} to {most} bytes are not supported")
            self._max_request_bytes = min(MAX_REQUEST_BYTES, most // BLOCK_BYTES * BLOCK_BYTES)
        return False

    def _send(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise InputError(f"{self.name}: the connection failed: {error.strerror}") from error

    def _receive(self, length: int) -> bytes:
        pieces = []
        try:
            while length:
                piece = os.read(self._descriptor, min(length, MAX_RECEIVE_BYTES))
                if not piece:
                    raise InputError(f"{self.name}: the server hung up")
                pieces.append(piece)
                length -= len(piece)
        except OSError as error:
            raise InputError(f"{self.name}: the connection failed: {error.strerror}") from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
