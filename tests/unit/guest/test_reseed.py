"""The small helper's inside (guest/reseed.c), under sanitizers, against vectors and the host's side."""

import hashlib
import json
import os
import struct
import threading
from pathlib import Path

import pytest
import reseedhelper
from channelpair import BOOT, EID, MACHINE, Host, Repeating, helper
from hypothesis import given
from hypothesis import strategies as some

from undercroft.channel import cbor, cobs
from undercroft.channel.keys import confirmation
from undercroft.channel.messages import About, Answers, Confirmed, Ping, Pong, Quiesce, Quiesced, Thawed
from undercroft.channel.requests import Answer
from undercroft.channel.seen import Proof
from undercroft.channel.session import Broken, Ready
from undercroft.errors import InputError

pytestmark = pytest.mark.skipif(bool(reseedhelper.missing()), reason=reseedhelper.missing())
roots = pytest.mark.skipif(os.getuid() != 0, reason="only root's programs are hooks")
VECTORS = json.loads((reseedhelper.ROOT / "docs" / "channel-vectors.json").read_text())
SESSION = {name: bytes.fromhex(text) for name, text in VECTORS["session"].items()}
PRIME = helper.PRIME
SEED = b"s" * 32
KEYS = some.integers(-(1 << 63), (1 << 64) - 1) | some.text(max_size=8)
SCALARS = KEYS | some.binary(max_size=300) | some.booleans() | some.none()
VALUES = some.recursive(
    SCALARS,
    lambda inner: some.lists(inner, max_size=6) | some.dictionaries(KEYS, inner, max_size=6),
    max_leaves=30,
)


@pytest.fixture(scope="module")
def probe():
    with reseedhelper.Probe() as probe:
        yield probe


class Lab:
    """A helper over a folder, and its host."""

    def __init__(self, probe: reseedhelper.Probe, folder: Path) -> None:
        self.probe, self.folder, self.host = probe, folder, Host()
        probe.ask(b"T", os.urandom(4096))
        self.start()

    def start(self) -> None:
        self.probe.begin(self.folder)
        self.take(b"\0")

    def take(self, data: bytes) -> list:
        return self.host.take(self.probe.receive(data))

    def meet(self, seed: bytes | None = None, generation: int = 7) -> list:
        events = self.take(self.host.session.begin())
        if any(isinstance(event, Ready) for event in events):
            self.take(self.host.session.welcome(generation, seed, 1))
        return events

    def said(self, kind: type) -> list:
        return [each for each in self.host.said() if isinstance(each, kind)]

    def lives(self) -> bool:
        count = len(self.said(Pong))
        self.take(self.host.session.ping())
        return len(self.said(Pong)) == count + 1


@pytest.fixture
def lab(probe, tmp_path):
    return Lab(probe, tmp_path)


def test_frames_are_stuffed_and_values_taken_as_published(probe):
    for each in VECTORS["cobs"]:
        frame, line = bytes.fromhex(each["frame"]), bytes.fromhex(each["line"])
        assert probe.ask(b"S", frame) == line
        assert probe.ask(b"U", line[:-1]) == frame
    for text in VECTORS["cbor"]["taken"]:
        assert probe.ask(b"C", bytes.fromhex(text)) == b"\1", text
    for text in VECTORS["cbor"]["refused"]:
        assert probe.ask(b"C", bytes.fromhex(text.partition(" ")[0])) == b"\0", text


def test_the_small_helper_goes_through_the_published_session_byte_for_byte(probe, tmp_path):
    probe.begin(tmp_path, SESSION["boot"])
    probe.ask(b"V", SESSION["eid"] + struct.pack(">QQQ", 1_699_999_999_999_995, 3, 4))
    probe.ask(b"T", SESSION["guest_private"] + b"\xa1" * 16)
    assert probe.receive(b"\0" + SESSION["hello_line"]) == b"\0" + SESSION["answer_line"]
    probe.receive(SESSION["welcome_line"])
    state = probe.state()
    assert (state.open, state.taken, state.host_head) == (True, 1, SESSION["host_head_after_welcome"])
    assert (tmp_path / "generation").read_text() == "7\n"
    # The published session's guest says nothing before its pong; this one has said about and confirmed.
    probe.begin(tmp_path, SESSION["boot"])
    probe.ask(b"V", SESSION["eid"] + struct.pack(">QQQ", 1_699_999_999_999_995, 3, 4))
    probe.ask(b"T", SESSION["guest_private"] + b"\xa1" * 16)
    probe.receive(b"\0" + SESSION["hello_line"])
    probe.ask(b"O", SESSION["welcome_line"])
    assert probe.receive(SESSION["ping_line"]) == SESSION["pong_line"]
    assert probe.state().head == SESSION["guest_head_after_pong"]


def test_digests_and_streams_are_those_of_another_implementation(probe):
    for size in (0, 1, 55, 56, 63, 64, 65, 119, 120, 1000):
        data = os.urandom(size)
        assert probe.ask(b"D", data) == hashlib.sha256(data).digest()
    for size in (0, 1, 56, 134, 135):
        data = os.urandom(size)
        assert probe.ask(b"K", bytes((size,)) + data) == hashlib.shake_256(data).digest(2000)
    data = os.urandom(120)
    assert probe.ask(b"H", b"\xa0" + data) == helper.hkdf(data[:32], data[32:64], data[64:], 160)


def test_x25519_is_that_of_rfc_7748(probe):
    scalar = "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"
    point = "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"
    result = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert probe.ask(b"X", bytes.fromhex(scalar + point)).hex() == result
    scalar = "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"
    point = "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"  # its top bit is set
    result = "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"
    assert probe.ask(b"X", bytes.fromhex(scalar + point)).hex() == result


def test_x25519_agrees_with_the_other_helper_on_every_kind_of_point(probe):
    draw = Repeating()
    near = [PRIME + difference for difference in range(-20, 20)]
    powers = [1 << bit for bit in range(0, 256, 5)] + [(1 << bit) - 1 for bit in range(1, 257, 5)]
    points = [each.to_bytes(32, "little") for each in [*range(4), *near, *powers]]
    for point in points + [draw(32) for _ in range(40)]:
        key = draw(32)
        assert probe.ask(b"X", key + point) == helper.x25519(key, point), point.hex()


def taken(encoded: bytes) -> bool:
    try:
        cbor.decode(encoded)
    except InputError:
        return False
    return True


@given(
    some.binary(max_size=200) | VALUES.map(helper.pack),
    some.lists(some.tuples(some.integers(0), some.binary())),
)
def test_the_same_encodings_are_taken_as_on_the_hosts_side(probe, encoded, mistakes):
    untrusted = bytearray(encoded)
    for place, piece in mistakes[:3]:
        at = place % (len(untrusted) + 1)
        untrusted[at : at + len(piece)] = piece
    assert probe.ask(b"C", bytes(untrusted)) == bytes((taken(bytes(untrusted)),))


def test_what_is_cut_off_is_refused_and_nothing_is_read_beside_it(probe):
    values = [b"two", "three", 1 << 40, -(1 << 20), [b"in", "side"], {1: b"x", "key": [None, True]}]
    for value in [*values, values, [*reversed(values)], b"b" * 300, "t" * 300, list(range(30))]:
        encoded = cbor.encode(value)
        assert probe.ask(b"C", encoded) == b"\1"
        for size in range(len(encoded)):
            assert probe.ask(b"C", encoded[:size]) == b"\0", encoded[:size].hex()
    for length in (8, 1 << 20, (1 << 64) - 16, (1 << 64) - 9, (1 << 64) - 1):
        for major in (0x5B, 0x7B, 0x9B, 0xBB):
            untrusted = b"\x82" + bytes((major,)) + length.to_bytes(8, "big") + b"\1"
            assert probe.ask(b"C", untrusted) == b"\0", untrusted.hex()


@given(some.text(some.characters(codec=None, exclude_categories=()), max_size=3) | some.binary(max_size=5))
def test_the_same_bytes_are_texts_as_on_the_hosts_side(probe, text):
    untrusted = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    encoded = bytes((0x60 + len(untrusted),)) + untrusted
    assert probe.ask(b"C", encoded) == bytes((taken(encoded),))


@given(
    some.binary(min_size=3, max_size=2000) | some.lists(some.sampled_from([0, 1, 255]), min_size=3).map(bytes)
)
def test_a_frame_is_stuffed_as_on_the_hosts_side(probe, frame):
    line = cobs.encode(frame)
    assert probe.ask(b"S", frame) == line
    assert probe.ask(b"U", line[:-1]) == frame


@given(some.binary(min_size=1, max_size=600).map(lambda data: data.replace(b"\0", b"\1")))
def test_the_same_lines_are_frames_as_on_the_hosts_side(probe, line):
    try:
        frame = cobs.decode(line)
    except InputError:
        frame = b""
    assert probe.ask(b"U", line) == frame


def test_a_seed_is_taken_and_confirmed_with_a_generation_told(lab):
    (lab.folder / "dev").mkdir()
    (lab.folder / "dev/urandom").touch()
    (lab.folder / "dev/hwrng").write_bytes(b"x" * 200)
    before = lab.probe.state().credits
    lab.meet(SEED, 41)
    tag = confirmation(SEED, MACHINE, EID, 41)
    assert lab.said(Confirmed) == [Confirmed(41, tag, True, 128, 0, 0)]
    assert lab.probe.state().credits == before + 2, "both requests"
    assert (lab.folder / "generation").read_text() == "41\n"
    assert struct.unpack("=Q", (lab.folder / "generation.word").read_bytes()[:8]) == (41,)
    (about,) = lab.said(About)
    assert about == About("undercroft-reseed 1", os.uname().release, ("credit", "hwrng", "hooks", "stop"))


def test_a_kernel_that_has_no_such_device_has_not_taken_the_seed(lab):
    lab.meet(SEED)
    assert [(each.credited, each.drained) for each in lab.said(Confirmed)] == [(False, 0)]


def test_a_kernel_before_4_14_has_mixed_the_seed_in_and_not_credited_it(lab):
    (lab.folder / "dev").mkdir()
    (lab.folder / "dev/urandom").touch()
    before = lab.probe.state().credits
    lab.probe.ask(b"E", b"\1")
    lab.meet(SEED)
    lab.probe.ask(b"E", b"\0")
    assert [each.credited for each in lab.said(Confirmed)] == [False]
    assert lab.probe.state().credits == before + 1


def test_a_hello_may_come_in_any_pieces_and_after_the_rest_of_another(lab):
    hello = lab.host.session.begin()
    answers = [lab.probe.receive(b"rest of a frame" + hello[:5])]
    answers += [lab.probe.receive(hello[at : at + 1]) for at in range(5, len(hello))]
    assert [isinstance(each, Ready) for each in lab.host.take(b"".join(answers))] == [True]


def test_what_is_too_long_is_skipped_to_the_next_zero_byte(lab):
    lab.meet()
    for _ in range(3):
        lab.take(b"\x02" * 65_000)
    lab.take(b"\0")
    assert lab.lives()


def test_a_frame_of_an_earlier_session_is_dropped_and_three_of_them_ask_for_another(lab):
    lab.meet()
    stale = lab.host.session.ping()
    lab.meet()
    for _ in range(2):
        assert lab.take(stale) == []
        assert lab.lives(), "and one that fits begins the count anew"
    assert lab.take(stale * 3) == [
        Broken("the guest asks to begin again: it cannot read what the host sends")
    ]


def test_a_frame_twice_is_dropped_and_a_missing_one_ends_the_session(lab):
    lab.meet()
    ping = lab.host.session.ping()
    lab.take(ping)
    assert lab.probe.receive(ping) == b""
    lab.host.session.ping()
    (broken,) = lab.take(lab.host.session.ping())
    assert "missing" in broken.reason
    assert not lab.probe.state().keyed


def test_a_host_that_took_what_was_never_sent_is_found_out(lab):
    lab.meet()
    lab.host.session._received += 1
    (broken,) = lab.take(lab.host.session.ping())
    assert "the host took frames that it has not sent" in broken.reason


def test_another_head_at_a_known_number_ends_the_session(lab):
    lab.meet()
    lab.host.session._guest_head = b"x" * 32
    assert [type(each) for each in lab.take(lab.host.session.ping())] == [Broken]


def test_the_first_message_has_to_be_a_welcome_with_the_guests_nonce(lab):
    lab.take(lab.host.session.begin())
    lab.host.session._guest_nonce = b"n" * 16
    lab.probe.receive(lab.host.session.welcome(1, None, 1))
    assert not lab.probe.state().keyed
    lab.take(lab.host.session.begin())
    lab.probe.receive(lab.host.session._sealed([2, 1]))
    assert not lab.probe.state().keyed


@pytest.mark.parametrize(
    "value",
    [
        [],
        2,
        [2],
        [2, -1],
        [2, 1 << 63],
        [2, True],
        [3, b""],
        [4, 1],
        [5, 1],
        [6, 1],
        [1, b"n" * 16, 1, None, 1],
        ["ping", 1],
        {1: 2},
    ],
    ids=str,
)
def test_what_is_no_message_ends_the_session_and_the_next_begins(lab, value):
    lab.meet()
    assert lab.lives()
    assert [type(each) for each in lab.take(lab.host.session._sealed(value))] == [Broken]
    lab.meet()
    assert lab.lives()


def test_answers_to_what_another_helper_of_this_boot_asked_are_left_alone(lab):
    lab.meet()
    lab.take(lab.host.session.seal(Answers(3, (Answer(0, 1, (1,)),))))
    assert lab.lives()


def test_a_host_of_other_versions_is_told_which_this_speaks(lab):
    lab.host.session.begin()
    told = lab.probe.receive(b"\0" + cobs.encode(b"\x01" + cbor.encode([[2, "three", [4], None], b"more"])))
    assert told == b"\0" + cobs.encode(b"\x04" + cbor.encode([[1]]))
    assert [type(each) for each in lab.host.take(told)] == [Broken]
    frame = [[0, 1, 7], MACHINE, EID, 5, b"n" * 16, helper.x25519(b"k" * 32, helper.BASE_POINT)]
    assert lab.probe.receive(b"\0" + cobs.encode(b"\x01" + cbor.encode(frame)))[1:4] != told[1:4]
    assert lab.probe.state().serial == 5


@pytest.mark.parametrize("place", range(7))
def test_a_hello_with_a_wrong_part_is_none(lab, place):
    frame = [[1], MACHINE, EID, 5, b"n" * 16, b"\x09" + bytes(31)]
    wrong = [1, MACHINE[1:], EID + b"x", 1 << 63, b"n" * 15, b"k" * 31]
    parts = [*frame, None] if place == 6 else [*frame[:place], wrong[place], *frame[place + 1 :]]
    lab.probe.receive(b"\0" + cobs.encode(b"\x01" + cbor.encode(parts)))
    assert not lab.probe.state().keyed
    lab.meet()
    assert lab.lives()


def test_a_key_of_small_order_begins_nothing(lab):
    for point in (
        bytes(32),
        b"\1" + bytes(31),
        (PRIME - 1).to_bytes(32, "little"),
        (PRIME + 1).to_bytes(32, "little"),
    ):
        parts = [[1], MACHINE, EID, 5, b"n" * 16, point]
        lab.probe.receive(b"\0" + cobs.encode(b"\x01" + cbor.encode(parts)))
        assert not lab.probe.state().keyed
    lab.meet()
    assert lab.lives()


def test_a_helper_that_starts_anew_goes_on_with_its_standing_and_proves_nothing(lab):
    lab.meet()
    for _ in range(5):
        assert lab.lives()
    lab.start()
    lab.meet()
    assert lab.lives()
    assert not lab.host.rewinds()


def test_a_standing_that_was_put_back_is_proven_also_when_the_helper_starts_anew(lab):
    lab.meet()
    kept = (lab.folder / "standing").read_bytes()
    assert lab.lives()
    (lab.folder / "standing").write_bytes(kept)
    lab.start()
    lab.meet()
    assert [each.proof for each in lab.host.rewinds()] == [Proof.STANDING]


def test_each_helper_goes_on_where_the_other_stood(lab):
    lab.meet()
    assert lab.lives()
    page = helper.Page(str(lab.folder / "standing"), BOOT)
    state = lab.probe.state()
    assert page.value() == [EID, state.serial, state.sent, state.taken]
    page.serial, page.sent, page.taken, page.next_request = 1 << 40, 9, 8, 77
    page.keep()
    lab.start()
    after = lab.probe.state()
    assert (after.serial, after.sent, after.taken, after.next_request) == (1 << 40, 9, 8, 77)


def test_a_slot_that_was_cut_while_it_was_written_leaves_the_one_before(lab):
    lab.meet()
    lab.lives()
    before = lab.probe.state()
    lab.lives()
    after = lab.probe.state()
    path = lab.folder / "standing"
    whole = path.read_bytes()
    turn = struct.unpack(">Q", whole[64:72])[0]
    at = 64 if turn > struct.unpack(">Q", whole[160:168])[0] else 160
    path.write_bytes(whole[: at + 40] + b"torn" + whole[at + 44 :])
    lab.start()
    found = lab.probe.state()
    assert (found.serial, found.sent) == (after.serial, after.sent - 1)
    assert found.sent == before.sent


def test_a_reboot_loses_the_standing(lab):
    lab.meet()
    lab.probe.begin(lab.folder, b"another boot 123")
    lab.probe.receive(b"\0")
    (ready,) = lab.take(lab.host.session.begin())
    assert (ready.boot, ready.standing) == (b"another boot 123", None)


def test_a_quiesced_guest_says_that_it_is_frozen_until_a_later_sessions_seed(lab):
    lab.meet(SEED, 1)
    lab.take(lab.host.session.seal(Quiesce(5)))
    assert lab.said(Quiesced) == [Quiesced(5, True, 0, "signals")], "a folder without processes"
    assert lab.lives()
    lab.start()
    assert lab.meet()[-1].frozen
    assert not lab.said(Thawed)
    assert lab.meet(b"t" * 32, 2)[-1].frozen
    assert lab.said(Thawed) == [Thawed(5, 0)]
    assert not lab.meet()[-1].frozen


@roots
def test_hooks_run_in_order_and_only_those_that_nobody_else_can_write(lab):
    folder, ran = lab.folder / "hooks", lab.folder / "ran"
    folder.mkdir()
    modes = {
        "20-b": 0o700,
        "10-a": 0o755,
        "30-others": 0o702,
        "40-not": 0o600,
        "50 ad": 0o700,
        "60-fails": 0o700,
    }
    for name, mode in modes.items():
        end = "exit 3" if "fails" in name else ""
        (folder / name).write_text(f"#!/bin/sh\necho {name} $UNDERCROFT_GENERATION $PWD >> {ran}\n{end}\n")
        (folder / name).chmod(mode)
        os.chown(folder / name, 0, 0)
    (folder / "dangling").symlink_to("nothing")
    (folder / "folder").mkdir()
    lab.meet(SEED, 9)
    assert ran.read_text() == "10-a 9 /\n20-b 9 /\n60-fails 9 /\n"
    assert [(each.hooks, each.failed) for each in lab.said(Confirmed)] == [(3, 1)]


@roots
def test_of_more_than_64_hooks_the_first_by_name_run(lab):
    folder, ran = lab.folder / "hooks", lab.folder / "ran"
    folder.mkdir()
    for number in [*range(0, 70, 2), *range(69, 0, -2)]:
        (folder / f"{number:02}").write_text(f"#!/bin/sh\necho {number:02} >> {ran}\n")
        (folder / f"{number:02}").chmod(0o700)
    lab.meet(SEED)
    assert ran.read_text().split() == [f"{number:02}" for number in range(64)]


def test_the_port_is_found_by_its_link_or_by_its_name_in_sysfs(probe, tmp_path):
    probe.begin(tmp_path)
    assert probe.ask(b"P") == b""
    for port, name in (("vport0p1", "org.qemu.guest_agent.0"), ("vport0p2", helper.PORT_NAME)):
        folder = tmp_path / "sys/class/virtio-ports" / port
        folder.mkdir(parents=True)
        (folder / "name").write_text(name + "\n")
    (tmp_path / "sys/class/virtio-ports/vport0p0").mkdir()
    assert probe.ask(b"P").decode() == f"{tmp_path}/dev/vport0p2"
    link = tmp_path / "dev/virtio-ports" / helper.PORT_NAME
    link.parent.mkdir(parents=True)
    link.touch()
    assert probe.ask(b"P").decode() == str(link)


def test_stale_bytes_are_read_away_from_a_generator_that_gives_them_slowly(probe, tmp_path):
    probe.begin(tmp_path)
    assert probe.ask(b"N", struct.pack("=i", 300)) == b"\0"
    (tmp_path / "dev").mkdir()
    path = tmp_path / "dev/hwrng"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR)
    os.write(end, b"x" * 32)
    more = threading.Timer(0.02, os.write, (end, b"y" * 104))
    more.start()
    assert probe.ask(b"N", struct.pack("=i", 30_000)) == bytes((128,))
    more.join()
    assert probe.ask(b"N", struct.pack("=i", 20)) == bytes((8,))
    os.close(end)


def test_256_pings_are_answered_without_a_frame_of_the_hosts_that_takes_one(lab):
    lab.meet()
    pings = b"".join(lab.host.session._sealed(Ping(number).value()) for number in range(250))
    lab.take(pings)
    assert len(lab.said(Pong)) == 250
    assert lab.lives()


def test_what_does_not_fit_in_a_message_is_not_said(lab):
    lab.meet()
    lab.host.take(lab.probe.ask(b"Y", b"m" * 1025))
    assert not lab.probe.state().keyed
    lab.meet()
    assert lab.lives()
