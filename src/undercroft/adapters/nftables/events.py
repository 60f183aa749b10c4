"""Changes of generation as they happen, whoever makes them."""

import asyncio
import ctypes
import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator

from undercroft.adapters.netlinkcodec import messages
from undercroft.adapters.nftables import numbers
from undercroft.adapters.nftables.failures import failure
from undercroft.adapters.nftables.fields import Fields
from undercroft.adapters.nftables.wire import DATAGRAM_BYTES, RECEIVE_BYTES, Channel
from undercroft.ports.packetfilter import GenerationChange

_GROUPS = 1 << numbers.GROUP_NFTABLES - 1
_FAMILY_BYTES = 4
_ATTACH_FILTER = 26
_LOAD_HALF_AT, _JUMP_IF_EQUAL, _RETURN = 0x28, 0x15, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_TYPE_OFFSET = 4
_NEW_GENERATION = numbers.SUBSYSTEM | numbers.NEW_GENERATION


async def changes(
    generation: Callable[[], int], receive_bytes: int = RECEIVE_BYTES
) -> AsyncIterator[GenerationChange]:
    """Yield the present generation, then each that is made, for ever.

    Args:
        generation: tells the present one.
        receive_bytes: room for changes that nobody took yet. What finds none is told by the last number.

    Raises:
        DeniedError, OperationError: no events can be had.
    """
    channel = Channel(_GROUPS, receive_bytes)
    try:
        _only_generations(channel.socket)
        channel.socket.setblocking(False)
        loop = asyncio.get_running_loop()
        yield GenerationChange(generation())
        while True:
            try:
                data = await loop.sock_recv(channel.socket, DATAGRAM_BYTES)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise failure(error.errno or 0, "events of nftables") from error
                yield GenerationChange(generation())
                continue
            for change in _decoded(data):
                yield change
    finally:
        channel.close()


def _decoded(data: bytes) -> Iterator[GenerationChange]:
    for event in messages(data):
        if event.kind == _NEW_GENERATION:
            given = Fields(event.body[_FAMILY_BYTES:])
            number = given.number(numbers.GENERATION_ID)
            process_id = given.number(numbers.GENERATION_PROCESS_ID)
            name = given.raw(numbers.GENERATION_PROCESS_NAME).rstrip(b"\0")
            yield GenerationChange(number, process_id, name.decode(errors="backslashreplace"))


def _only_generations(events: socket.socket) -> None:
    """Let the kernel drop every other event: loading a table makes one for each element.

    The event of a generation comes in a datagram of its own, so the first message tells what a datagram is.
    """
    wanted = int.from_bytes(struct.pack("=H", _NEW_GENERATION), "big")  # The filter reads big-endian.
    program = b"".join(
        _INSTRUCTION.pack(*instruction)
        for instruction in (
            (_LOAD_HALF_AT, 0, 0, _TYPE_OFFSET),
            (_JUMP_IF_EQUAL, 0, 1, wanted),
            (_RETURN, 0, 0, 0xFFFFFFFF),
            (_RETURN, 0, 0, 0),
        )
    )
    held = ctypes.create_string_buffer(program, len(program))
    option = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(held))
    events.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, option)
