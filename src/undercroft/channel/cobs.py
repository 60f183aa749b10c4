r"""Consistent Overhead Byte Stuffing: frames without a zero byte inside, a zero byte after each.

A reader that starts anywhere, or after anything that was cut off, is in step again at the next zero byte.
What it keeps of a frame that has not ended is at most `MAX_ENCODED_BYTES`; a longer one is skipped to its
end. Source: S. Cheshire, M. Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on Networking
7(2), 1999.

    reader = Reader()
    reader.feed(b"\0" + encode(b"one") + encode(b"two")[:2])   # [b"one"]
"""

from undercroft.errors import InputError

MIN_FRAME_BYTES = 3
"""The least that any type of frame has: shorter ones are skipped without a look."""
MAX_FRAME_BYTES = 65_536
"""Of a frame as it is meant, before it is stuffed (ADR 7)."""
_RUN = 254
MAX_ENCODED_BYTES = MAX_FRAME_BYTES + MAX_FRAME_BYTES // _RUN + 1
"""Of the same frame on the line, without its zero byte."""


def encode(frame: bytes) -> bytes:
    """Return a frame of 3 to `MAX_FRAME_BYTES` bytes as it goes on the line, with the zero byte that ends it.

    Raises InputError for one that is shorter or longer.
    """
    if not MIN_FRAME_BYTES <= len(frame) <= MAX_FRAME_BYTES:
        raise InputError(f"a frame of {len(frame)} bytes cannot be sent: 3 to {MAX_FRAME_BYTES} can")
    pieces: list[bytes] = []
    runs = frame.split(b"\0")
    last = len(runs) - 1
    for position, run in enumerate(runs):
        full = len(run) // _RUN
        for at in range(0, full * _RUN, _RUN):
            pieces += (b"\xff", run[at : at + _RUN])
        rest = run[full * _RUN :]
        if rest or position < last or not full:  # a last run of 254 says already that no zero follows
            pieces += (bytes((len(rest) + 1,)), rest)
    pieces.append(b"\0")
    return b"".join(pieces)


def decode(untrusted_line: bytes) -> bytes:
    """Return the frame of what stood between two zero bytes.

    Raises InputError where a run is longer than what is there, for a zero byte inside, for nothing at all,
    and for a frame of more than `MAX_FRAME_BYTES` bytes.
    """
    end = len(untrusted_line)
    if not 0 < end <= MAX_ENCODED_BYTES or b"\0" in untrusted_line:
        raise InputError(f"{end} bytes between two zero bytes are no frame")
    pieces: list[bytes] = []
    at = 0
    while at < end:
        code = untrusted_line[at]
        following = at + code
        if following > end:
            raise InputError(f"a run of {code - 1} bytes is cut off after {end - at - 1}")
        pieces.append(untrusted_line[at + 1 : following])
        if code <= _RUN and following < end:
            pieces.append(b"\0")
        at = following
    frame = b"".join(pieces)
    if not MIN_FRAME_BYTES <= len(frame) <= MAX_FRAME_BYTES:
        raise InputError(f"a frame of {len(frame)} bytes is not taken: 3 to {MAX_FRAME_BYTES} are")
    return frame


class Reader:
    """Finds frames in bytes that come in pieces. What is no frame is counted in `skipped` and nothing else.

    It begins in the middle of something: only what stands after the first zero byte counts.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._begun = bytearray()
        self._skipping = True

    def feed(self, untrusted: bytes) -> list[bytes]:
        """Take what came next; return the frames that ended in it, in their order. Never raises."""
        pieces = untrusted.split(b"\0")
        self._keep(pieces[0])
        frames: list[bytes] = []
        if len(pieces) > 1:
            self._take(bytes(self._begun), frames)
            self._begun.clear()
            self._skipping = False
            for piece in pieces[1:-1]:
                self._take(piece, frames)
            self._keep(pieces[-1])
        return frames

    def _keep(self, piece: bytes) -> None:
        """Add to the frame that has begun, unless it is being skipped; one that grows too long is."""
        if self._skipping:
            return
        if len(self._begun) + len(piece) > MAX_ENCODED_BYTES:
            self._skipping = True
            self.skipped += 1
            self._begun.clear()
            return
        self._begun += piece

    def _take(self, line: bytes, frames: list[bytes]) -> None:
        """What stood between two zero bytes is whole. Nothing between them is no frame, and no mistake."""
        if len(line) > MIN_FRAME_BYTES:
            try:
                frames.append(decode(line))
            except InputError:
                self.skipped += 1
        elif line:
            self.skipped += 1
