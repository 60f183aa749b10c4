"""What was seen of each guest, where it outlives the service's process (docs/CHANNEL.md, "Rewinds").

One file of slots of 4,096 bytes, one for each execution:

    hot     at 0      checksum (4), serial (8), received (8), acknowledged (8)
    cold    at 64     checksum (4), size (2), turn (8), machine (16), execution (16), CBOR: seen, confirmed
    cold    at 2,080  the same: both are written in turns, so that a death in the middle leaves one whole

**How durable.** A turn of the loop writes the hot part of each guest that spoke, before anything that answers
it leaves. It is not synced: what is written is the kernel's, and outlives the process however that ends. A
crash of the host may lose it, and ends every guest with it: no execution outlives the host that runs it, and
what is resumed later is another execution. What can be lost is therefore what nobody asks for any more.

A slot that cannot be read is an execution of which nothing was seen: its next session proves nothing.
"""

import struct
import zlib
from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Final

from undercroft.adapters.durablefiles import Files
from undercroft.channel import cbor
from undercroft.channel.frames import ID_BYTES, blob
from undercroft.channel.seen import Seen
from undercroft.errors import InputError, OperationError

NAME: Final = "seen"
SLOT_BYTES: Final = 4_096
MAX_SLOTS: Final = 8_192
_HOT = struct.Struct(">QQQ")
_COLD = struct.Struct(">HQ16s16s")
_CHECK = struct.Struct(">I")
_COLD_AT: Final = (64, 2_080)
_COLD_BYTES: Final = 2_016


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a guest confirmed in an execution; all but the generation is its own word.

    `boot` is the id of the boot that confirmed, None where it is not known: an earlier version kept none.
    """

    generation: int
    credited: bool
    drained: int
    hooks: int
    failed: int
    milliseconds: int
    boot: bytes | None = None


@dataclass(slots=True)
class Kept:
    """What is kept of one execution."""

    slot: int
    machine: bytes
    execution: bytes
    seen: Seen | None = None
    confirmed: Confirmation | None = None
    turn: int = 0
    written: Seen | None = None


class Keep:
    """The file, read once and then only written."""

    def __init__(self, files: Files) -> None:
        """Read what is there.

        Args:
            files: of the service's folder, which this process holds.

        Raises OperationError: the file cannot be read or made.
        """
        self._files = files
        self.problem = ""
        self._free: list[int] = []
        self._kept: dict[tuple[bytes, bytes], Kept] = {}
        try:
            there = NAME in files.names()
            data = files.read(NAME) if there else b""
            self._handle = files.open(NAME, create=not there)
        except OSError as error:
            raise OperationError(f"{NAME} of the guest service cannot be read: {error.strerror}") from error
        self._slots = min(MAX_SLOTS, -(-len(data) // SLOT_BYTES))
        for slot in range(self._slots):
            kept = _read(slot, data[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES])
            if kept is None:
                self._free.append(slot)
            else:
                self._kept[kept.machine, kept.execution] = kept

    def find(self, machine: bytes, execution: bytes) -> Kept:
        """Return what is kept of an execution, and keep it from now on.

        Raises OperationError where more executions are kept than may be.
        """
        found = self._kept.get((machine, execution))
        if found is not None:
            return found
        if self._free:
            slot = self._free.pop()
        elif self._slots < MAX_SLOTS:
            slot = self._slots
            self._slots += 1
        else:
            raise OperationError(f"{MAX_SLOTS} guests are kept, the most that may be: detach what has ended")
        found = self._kept[machine, execution] = Kept(slot, machine, execution)
        self._write(slot, bytes(SLOT_BYTES), 0)
        return found

    def note(self, kept: Kept, seen: Seen | None) -> None:
        """Keep what was seen."""
        was, kept.seen = kept.written, seen
        if seen is None or seen is was:
            return
        kept.written = seen
        same = was is not None and (seen.serial, seen.boot, seen.proven) == (was.serial, was.boot, was.proven)
        if not same:
            self._write_cold(kept)
        body = _HOT.pack(seen.serial, seen.received, seen.acknowledged)
        self._write(kept.slot, _CHECK.pack(zlib.crc32(body)) + body, 0)

    def confirm(self, kept: Kept, confirmed: Confirmation | None) -> None:
        """Keep what was confirmed, or that nothing is."""
        if confirmed != kept.confirmed:
            kept.confirmed = confirmed
            self._write_cold(kept)

    def forget(self, machine: bytes, execution: bytes) -> None:
        """Keep nothing more of an execution that is over. An unknown one is no error."""
        kept = self._kept.pop((machine, execution), None)
        if kept is not None:
            self._write(kept.slot, bytes(SLOT_BYTES), 0)
            self._free.append(kept.slot)

    @property
    def is_full(self) -> bool:
        """Whether `find` has no room for another execution."""
        return not self._free and self._slots >= MAX_SLOTS

    def forget_all_but(self, keys: Container[tuple[bytes, bytes]]) -> None:
        """Keep nothing more but of these machines' executions."""
        for key in [each for each in self._kept if each not in keys]:
            self.forget(*key)

    def of(self, machine: bytes) -> list[bytes]:
        """Return the executions of a machine of which something is kept."""
        return [execution for each, execution in self._kept if each == machine]

    def close(self) -> None:
        """Let the file go."""
        self._files.close(self._handle)

    def _write_cold(self, kept: Kept) -> None:
        kept.turn += 1
        told = kept.confirmed
        confirmed: cbor.Value = None
        if told is not None:
            confirmed = [
                told.generation,
                told.credited,
                told.drained,
                told.hooks,
                told.failed,
                told.milliseconds,
                *([told.boot] if told.boot is not None else []),
            ]
        seen = kept.seen.encode() if kept.seen is not None else None
        body = cbor.encode([seen, confirmed])
        data = _COLD.pack(len(body), kept.turn, kept.machine, kept.execution) + body
        self._write(kept.slot, _CHECK.pack(zlib.crc32(data)) + data, _COLD_AT[kept.turn & 1])

    def _write(self, slot: int, data: bytes, at: int) -> None:
        """Write into a slot. A full disk is told in `problem` and stops nobody: see the module's text."""
        try:
            self._files.write(self._handle, data, slot * SLOT_BYTES + at)
        except OSError as error:
            self.problem = f"what was seen of guests is not kept over a restart: {error.strerror}"


def _read(slot: int, data: bytes) -> Kept | None:
    """Return what a slot holds, None for nothing."""
    colds = [cold for at in _COLD_AT if (cold := _read_cold(slot, data[at : at + _COLD_BYTES])) is not None]
    if not colds:
        return None
    kept = max(colds, key=lambda each: each.turn)
    body = data[_CHECK.size : _CHECK.size + _HOT.size]
    if len(body) == _HOT.size and _CHECK.unpack_from(data)[0] == zlib.crc32(body):
        serial, received, acknowledged = _HOT.unpack(body)
        if kept.seen is not None and serial == kept.seen.serial:
            received = max(received, kept.seen.received)
            acknowledged = max(acknowledged, kept.seen.acknowledged)
            kept.seen = replace(kept.seen, received=received, acknowledged=acknowledged)
    return kept


def _read_cold(slot: int, data: bytes) -> Kept | None:
    if len(data) < _CHECK.size + _COLD.size:
        return None
    size, turn, machine, execution = _COLD.unpack_from(data, _CHECK.size)
    whole = data[_CHECK.size : _CHECK.size + _COLD.size + size]
    if zlib.crc32(whole) != _CHECK.unpack_from(data)[0] or len(whole) != _COLD.size + size:
        return None
    try:
        seen, confirmed = _members(cbor.decode(whole[_COLD.size :]))
    except (InputError, TypeError, ValueError):
        return None
    return Kept(slot, machine, execution, seen, confirmed, turn)


def _members(value: cbor.Value) -> tuple[Seen | None, Confirmation | None]:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError("a slot has two members")
    seen, confirmed = value
    if seen is not None and not isinstance(seen, bytes):
        raise InputError("what was seen is bytes")
    told: Confirmation | None = None
    if isinstance(confirmed, list):
        generation, credited, drained, hooks, failed, milliseconds = map(_integer, confirmed[:6])
        boot = blob(confirmed[6], ID_BYTES, "a boot") if confirmed[6:] else None
        told = Confirmation(generation, bool(credited), drained, hooks, failed, milliseconds, boot)
    return (Seen.decode(seen) if seen is not None else None), told


def _integer(value: cbor.Value) -> int:
    if not isinstance(value, int):
        raise InputError("a confirmation is of numbers")
    return value
