"""The published vectors, against both sides, and what is published elsewhere about the same functions."""

import importlib.util
import json
import subprocess
from pathlib import Path

import guestvectors
import pytest
from channelpair import HELPER, Repeating, helper

from undercroft.channel import cbor, cobs
from undercroft.channel.keys import KeyPair, hkdf
from undercroft.channel.messages import Pong
from undercroft.channel.session import Message, Ready, Session
from undercroft.errors import InputError

ROOT = Path(__file__).parents[3]
VECTORS = json.loads((ROOT / "docs" / "channel-vectors.json").read_text())
SESSION = {name: bytes.fromhex(text) for name, text in VECTORS["session"].items()}


def test_the_published_vectors_are_what_the_script_makes():
    spec = importlib.util.spec_from_file_location("channel_vectors", ROOT / "tools" / "channel_vectors.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.render() == (ROOT / "docs" / "channel-vectors.json").read_text()


@pytest.mark.parametrize("vector", VECTORS["cobs"], ids=lambda vector: f"{len(vector['frame']) // 2} bytes")
def test_both_sides_stuff_and_unstuff_a_frame_alike(vector):
    frame, line = bytes.fromhex(vector["frame"]), bytes.fromhex(vector["line"])
    assert cobs.encode(frame) == helper.stuff(frame) == line
    assert cobs.decode(line[:-1]) == helper.unstuff(line[:-1]) == frame


@pytest.mark.parametrize("text", VECTORS["cbor"]["taken"])
def test_both_sides_read_a_value_alike_and_write_it_back(text):
    encoded = bytes.fromhex(text)
    value = cbor.decode(encoded)
    assert helper.unpack(encoded) == value
    assert cbor.encode(value) == helper.pack(value) == encoded


@pytest.mark.parametrize("text", VECTORS["cbor"]["refused"])
def test_both_sides_refuse_what_is_no_deterministic_encoding(text):
    encoded = bytes.fromhex(text.partition(" ")[0])
    with pytest.raises(InputError):
        cbor.decode(encoded)
    with pytest.raises(helper.MalformedError):
        helper.unpack(encoded)


def test_the_guest_goes_through_the_published_session_byte_for_byte():
    guestvectors.check(helper, VECTORS)


@pytest.mark.parametrize("python", ["python3.6", "python3.7", "python3.8", "python3.9"])
def test_an_old_guests_python_comes_to_the_same(python):
    if subprocess.run(["sh", "-c", f"{python} -c pass"], capture_output=True, check=False).returncode:
        pytest.skip(f"needs {python} on the path")
    words = [python, "-ISB", guestvectors.__file__, HELPER, ROOT / "docs" / "channel-vectors.json"]
    subprocess.run(words, check=True)


def test_the_host_goes_through_the_published_session_byte_for_byte():
    draws = {16: b"\xa0" * 16, 32: SESSION["host_private"]}
    clock = iter([1_700_000_000_000_000])
    session = Session(SESSION["machine"], SESSION["eid"], lambda size: draws[size], lambda: next(clock))
    assert session.begin() == b"\0" + SESSION["hello_line"]
    (ready,) = session.receive(b"\0" + SESSION["answer_line"])
    assert isinstance(ready, Ready)
    assert session.welcome(7, SESSION["seed"], 1) == SESSION["welcome_line"]
    session._pings = 8
    assert session.ping() == SESSION["ping_line"]
    assert session.receive(SESSION["pong_line"]) == [Message(Pong(9))]


def test_x25519_of_the_guest_is_that_of_rfc_7748():
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    result = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert helper.x25519(scalar, point).hex() == result
    again = bytes.fromhex(
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"
    )  # its top bit is set
    scalar = bytes.fromhex("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d")
    assert (
        helper.x25519(scalar, again).hex()
        == "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"
    )


def test_x25519_of_both_sides_agrees_for_many_keys():
    draw = Repeating()
    for _ in range(12):
        private, other = draw(32), draw(32)
        pair = KeyPair(lambda _, key=private: key)
        assert helper.x25519(private, helper.BASE_POINT) == pair.public
        public = helper.x25519(other, helper.BASE_POINT)
        assert pair.shared(public) == helper.x25519(other, pair.public)


SMALL_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("text", SMALL_ORDER)
def test_a_key_of_small_order_gives_no_secret(text):
    point = bytes.fromhex(text)
    with pytest.raises(InputError, match="small order"):
        KeyPair(Repeating()).shared(point)
    assert helper.x25519(Repeating()(32), point) == bytes(32)


def test_hkdf_of_both_sides_is_that_of_rfc_5869():
    secret, salt, info = b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA))
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert hkdf(secret, salt, info, 42).hex() == helper.hkdf(secret, salt, info, 42).hex() == expected
    assert hkdf(secret, b"", b"", 160) == helper.hkdf(secret, b"", b"", 160)
