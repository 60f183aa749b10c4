#!/usr/bin/env python3
"""Writes docs/channel-vectors.json: what a second implementation of docs/CHANNEL.md has to come to.

    .venv/bin/python tools/channel_vectors.py

All bytes are in hex. Made with the host's side; tests/unit/channel/test_vectors.py compares the file with
both sides.
"""

import hashlib
import json
from pathlib import Path

from undercroft.channel import cbor, cobs, frames, keys
from undercroft.channel.keys import Direction, Keys
from undercroft.channel.messages import Ping, Welcome
from undercroft.channel.session import HEAD_LABEL

PATH = Path(__file__).parents[1] / "docs" / "channel-vectors.json"
_LENGTHS = (3, 253, 254, 255, 508, 509)
MACHINE, EID = bytes(range(16)), bytes(range(16, 32))
HOST_KEY, GUEST_KEY = bytes(range(32, 64)), bytes(range(64, 96))
HOST_NONCE, GUEST_NONCE, BOOT = b"\xa0" * 16, b"\xa1" * 16, b"\xa2" * 16
SEED, GENERATION, SERIAL = b"\xa3" * 32, 7, 1_700_000_000_000_000


def cobs_vectors() -> list[dict[str, str]]:
    """Frames and their lines: zeros everywhere, and around a full run."""
    texts = [b"\0\0\0", b"a\0b", b"\0a\0", bytes(range(256)) * 2]
    for length in _LENGTHS:
        texts += [b"x" * length, b"x" * length + b"\0", b"\0" + b"x" * length]
    return [{"frame": text.hex(), "line": cobs.encode(text).hex()} for text in texts]


def cbor_vectors() -> dict[str, list[str]]:
    """Encodings that are taken, each the only one of its value, and others that are not."""
    values: list[cbor.Value] = [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1]
    values += [-1, -24, -25, -256, -257, -(2**63), b"", b"\0" * 24, "", "\u00fc\U0001f512", False, True, None]
    values += [[], [1, [2, [3]]], [[[[[[[[]]]]]]]], {}, {1: 2, "a": [None], "b": {-1: b"x"}, 256: True}]
    refused = [
        ("", "nothing"),
        ("1800", "a longer form"),
        ("190018", "a longer form"),
        ("1b00000000ffffffff", "a longer form"),
        ("5801", "a longer form, cut off"),
        ("3b8000000000000000", "less than -2^63"),
        ("c000", "a tag"),
        ("f90000", "a float"),
        ("f7", "undefined"),
        ("f814", "false in two bytes"),
        ("9f00ff", "an array without a length"),
        ("5f4100ff", "a byte string without a length"),
        ("1c", "a reserved form"),
        ("9b7fffffffffffffff", "more members than bytes"),
        ("5b7fffffffffffffff", "a longer string than what is there"),
        ("61ff", "no UTF-8"),
        ("63eda080", "half a surrogate pair"),
        ("a201000000", "keys out of order"),
        ("a201000100", "a key twice"),
        ("a1410000", "bytes as a key"),
        ("a1f400", "a truth value as a key"),
        ("0000", "a byte after a value"),
        ("818181818181818180", "nine deep"),
        ("82990fff" + "00" * 4095 + "00", "4,097 members"),
    ]
    told = [f"{encoded} {why}" for encoded, why in refused]
    return {"taken": [cbor.encode(each).hex() for each in values], "refused": told}


def session_vectors() -> dict[str, str]:
    """One session from the hello to the guest's first frame, with all that it comes to."""
    pair = keys.KeyPair(lambda _: HOST_KEY)
    guest = keys.KeyPair(lambda _: GUEST_KEY)
    hello = frames.Hello(MACHINE, EID, SERIAL, HOST_NONCE, pair.public).frame()
    standing: cbor.Value = [EID, SERIAL - 5, 3, 4]
    body = cbor.encode([1, HOST_NONCE, GUEST_NONCE, guest.public, BOOT, standing, False])
    told = frames.transcript(hello, body)
    secret = pair.shared(guest.public)
    made = keys.derive(secret, HOST_NONCE + GUEST_NONCE, MACHINE, EID, told)
    answer = bytes((frames.ANSWER,)) + made.answer_tag(told) + body
    host_head = hashlib.sha256(HEAD_LABEL + b"h" + told).digest()
    guest_head = hashlib.sha256(HEAD_LABEL + b"g" + told).digest()
    welcome = _sealed(made.from_host, 1, 0, guest_head, Welcome(GUEST_NONCE, GENERATION, SEED, 1).value())
    after = hashlib.sha256(host_head + welcome).digest()
    ping = _sealed(made.from_host, 2, 0, guest_head, Ping(9).value())
    after_ping = hashlib.sha256(after + ping).digest()
    pong = _sealed(made.from_guest, 1, 2, after_ping, [2, 9])
    shown = {
        "machine": MACHINE, "eid": EID, "host_private": HOST_KEY, "guest_private": GUEST_KEY, "boot": BOOT,
        "hello": hello, "answer": answer, "transcript": told, "secret": secret, **_keys(made),
        "host_head": host_head, "guest_head": guest_head, "seed": SEED, "welcome": welcome,
        "host_head_after_welcome": after, "ping": ping, "pong": pong,
        "guest_head_after_pong": hashlib.sha256(guest_head + pong).digest(),
        "confirmation": keys.confirmation(SEED, MACHINE, EID, GENERATION),
    }  # fmt: skip
    lines = {
        f"{name}_line": cobs.encode(shown[name]) for name in ("hello", "answer", "welcome", "ping", "pong")
    }
    return {name: each.hex() for name, each in {**shown, **lines}.items()}


def render() -> str:
    """Return the file's text."""
    found = {"version": 1, "cobs": cobs_vectors(), "cbor": cbor_vectors(), "session": session_vectors()}
    return json.dumps(found, indent=1) + "\n"


def _sealed(direction: Direction, number: int, taken: int, head: bytes, value: cbor.Value) -> bytes:
    text = taken.to_bytes(8, "big") + head + cbor.encode(value)
    return frames.SEALED_TYPE + number.to_bytes(8, "big") + direction.seal(frames.SEALED_TYPE, number, text)


def _keys(made: Keys) -> dict[str, bytes]:
    return {
        "host_mac_key": made.from_host.mac_key,
        "host_stream_key": made.from_host.stream_key,
        "guest_mac_key": made.from_guest.mac_key,
        "guest_stream_key": made.from_guest.stream_key,
        "answer_key": made.answer_key,
    }


if __name__ == "__main__":
    PATH.write_text(render())
