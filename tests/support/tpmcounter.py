"""A counter in a TPM 2.0, as raw commands (TPM 2.0 Library, part 3): a guest needs no tools to send them."""

import struct
from collections.abc import Callable

INDEX = 0x01800010
OWNER = 0x40000001
_SESSIONS, _PASSWORD = 0x8002, 0x40000009
_DEFINE, _INCREMENT, _READ = 0x12A, 0x134, 0x14E
_SHA256 = 0x000B
# TPMA_NV_OWNERWRITE, _AUTHWRITE, a counter, _OWNERREAD, _AUTHREAD, _NO_DA
_ATTRIBUTES = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 17 | 1 << 18 | 1 << 25


class TpmCounter:
    """A counter; `send` takes a command and returns the answer, both in hexadecimal digits."""

    def __init__(self, send: Callable[[str], str]) -> None:
        self._send = send

    def define(self) -> None:
        """Make it."""
        public = struct.pack(">IHIHH", INDEX, _SHA256, _ATTRIBUTES, 0, 8)
        self._command(_DEFINE, struct.pack(">I", OWNER), struct.pack(">HH", 0, len(public)) + public)

    def increment(self) -> int:
        """Count up; return the new value."""
        handles = struct.pack(">II", OWNER, INDEX)
        self._command(_INCREMENT, handles, b"")
        answer = self._command(_READ, handles, struct.pack(">HH", 8, 0))
        return int(struct.unpack(">Q", answer[16:24])[0])

    def _command(self, code: int, handles: bytes, parameters: bytes) -> bytes:
        session = struct.pack(">IHBH", _PASSWORD, 0, 0, 0)
        body = handles + struct.pack(">I", len(session)) + session + parameters
        command = struct.pack(">HII", _SESSIONS, 10 + len(body), code) + body
        answer = bytes.fromhex(self._send(command.hex()))
        (code,) = struct.unpack(">I", answer[6:10])
        assert code == 0, f"the TPM refuses: {code:#x}"
        return answer
