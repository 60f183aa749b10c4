#!/usr/bin/python3 -ISB
"""Undercroft's helper inside a guest: fresh randomness after every resume, and the commands of the vault.

    undercroft-guest run                  the daemon, as root, on the port org.undercroft.channel.0
    undercroft-guest random 32            bytes that are fresh after a resume too, to stdout
    undercroft-guest counter NAME [-n 5]  numbers that no rollback gives out again
    undercroft-guest spend NAME [--final] says yes once, over all copies of this machine
    undercroft-guest seal|unseal NAME     a blob with a version, from stdin or to stdout
    undercroft-guest sign KEY             signature, in hex, of stdin by a key that never enters the guest
    undercroft-guest public KEY           its public key (DER, in hex); makes the key where there is none
    undercroft-guest guard NAME           does this key, account or token still hold?
    undercroft-guest generation           the number that changes with every resume

Exit codes: 0 yes, 1 error, 2 usage, 3 no such name, 6 no (spent before, holds no more).

One file, standard library only, Python 3.6 or later. It follows docs/CHANNEL.md and shares no code with the
host's side. Parts, from the inside out: COBS, CBOR, secrets, standing, session (all without I/O), the kernel,
the freezer, hooks, the daemon, the commands. The host is trusted; what local users send is not.
"""

import argparse
import contextlib
import errno
import fcntl
import hashlib
import hmac
import mmap
import os
import re
import selectors
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import OrderedDict, deque

HELPER = "undercroft-guest 1"
PORT_NAME = "org.undercroft.channel.0"
STATE_FOLDER = "/run/undercroft"
HOOK_FOLDER = "/etc/undercroft/hooks.d"
VERSION = 1
HELLO, ANSWER, AGAIN, UNABLE, SEALED = 1, 2, 3, 4, 5
STARTED, GAP, PUT_BACK, UNREADABLE = 0, 1, 2, 3
WELCOME, PING, QUIESCE, ANSWERS = 1, 2, 3, 5
CONFIRMED, PONG, QUIESCED, THAWED, REQUESTS, ABOUT = 1, 2, 3, 4, 5, 6
LABEL = b"undercroft channel 1"
MAX_FRAME_BYTES = 65536
MAX_LINE_BYTES = MAX_FRAME_BYTES + MAX_FRAME_BYTES // 254 + 1
MAX_DEPTH = 8
MAX_ITEMS = 4096
MAX_UNTAKEN = 256
MAX_UNREADABLE = 3
MAX_BATCH = 64
MAX_BATCH_BYTES = 60000
MAX_IN_FLIGHT = 64
MAX_OUT_BYTES = 1 << 20
MAX_NAME_BYTES = 128
MAX_BLOB_BYTES = 32768
MAX_LOCAL_BYTES = 40000
MAX_WAITING_BYTES = 1 << 18
MAX_CLIENTS, MAX_CLIENTS_OF_ONE = 256, 16
STALE_BYTES = 128
"""What a snapshot may hold of the virtual generator: up to 63 bytes in /dev/hwrng, 64 in its driver.

The kernel fills its 64 from the driver's, so that stale ones came still after 64 bytes were read away.
"""
DRAIN_S = 0.3
"""How long a seed waits for the virtual generator to give them."""
START_S = 0.1
"""How long a new helper waits for a hello that is under way before it asks for one."""
AWAY_S = 0.2
"""How long to leave a port alone on whose other side nobody is: poll would say so at once, for ever."""


class MalformedError(Exception):
    """Bytes are not what the protocol says they are."""


# COBS: frames without a zero byte inside


def stuff(frame):
    """Return a frame as it goes on the line, with the zero byte after it."""
    line = bytearray()
    start, end = 0, len(frame)
    while True:
        zero = frame.find(0, start, min(start + 254, end))
        if zero >= 0:
            line.append(zero - start + 1)
            line += frame[start:zero]
            start = zero + 1
        elif end - start >= 254:
            line.append(255)
            line += frame[start : start + 254]
            start += 254
            if start == end:
                break
        else:
            line.append(end - start + 1)
            line += frame[start:end]
            break
    line.append(0)
    return bytes(line)


def unstuff(line):
    """Return the frame of what stood between two zero bytes. Raises MalformedError."""
    frame = bytearray()
    at = 0
    while at < len(line):
        code = line[at]
        run = line[at + 1 : at + code]
        if code == 0 or len(run) != code - 1:
            raise MalformedError("a run is cut off")
        frame += run
        at += code
        if code != 255 and at < len(line):
            frame.append(0)
    if not 3 <= len(frame) <= MAX_FRAME_BYTES:
        raise MalformedError("a frame is too short or too long")
    return bytes(frame)


class Lines:
    """Cuts what comes into frames. What is cut off or too long is skipped to the next zero byte."""

    def __init__(self):
        self.held = b""
        self.skipping = True  # the beginning may be the end of something

    def feed(self, data):
        """Return the frames that ended in these bytes."""
        frames = []
        *whole, rest = data.split(b"\0")
        for piece in whole:
            line, skipped = self.held + piece, self.skipping
            self.held, self.skipping = b"", False
            if skipped or len(line) < 4 or len(line) > MAX_LINE_BYTES:
                continue
            try:
                frames.append(unstuff(line))
            except MalformedError:
                continue
        if not self.skipping:
            self.held += rest
            if len(self.held) > MAX_LINE_BYTES:
                self.held, self.skipping = b"", True
        return frames


# CBOR: the deterministic subset of docs/CHANNEL.md


SMALL = [bytes((number,)) for number in range(24)]
SMALL_BYTES = [bytes((0x40 + size,)) for size in range(24)]


def pack(value):
    """Return the one encoding of a value."""
    kind = type(value)
    if kind is int and 0 <= value < 24:
        return SMALL[value]
    if kind is bytes:
        return (SMALL_BYTES[len(value)] if len(value) < 24 else _start(2, len(value))) + value
    if kind is list:
        return _start(4, len(value)) + b"".join([pack(each) for each in value])
    if value is None:
        return b"\xf6"
    if value is True or value is False:
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _start(0, value) if value >= 0 else _start(1, -1 - value)
    if isinstance(value, str):
        text = value.encode("utf-8", "replace")
        return _start(3, len(text)) + text
    pairs = sorted((pack(key), pack(each)) for key, each in value.items())
    return _start(5, len(pairs)) + b"".join([key + each for key, each in pairs])


def _start(major, number):
    if number < 24:
        return bytes((major << 5 | number,))
    for form, size in ((24, 1), (25, 2), (26, 4)):
        if number >> 8 * size == 0:
            return bytes((major << 5 | form,)) + number.to_bytes(size, "big")
    return bytes((major << 5 | 27,)) + number.to_bytes(8, "big")


def unpack(data):
    """Return the value of an encoding with nothing after it. Raises MalformedError."""
    parser = _Parser(data)
    value = parser.value(0)
    if parser.at != len(data):
        raise MalformedError("bytes follow a value")
    return value


class _Parser:
    def __init__(self, data):
        self.data, self.at, self.left = data, 0, MAX_ITEMS

    def take(self, count):
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise MalformedError("a value is cut off")
        self.at += count
        return piece

    def start(self):
        first = self.take(1)[0]
        major, number = first >> 5, first & 31
        if major == 7 or number < 24:
            return major, number
        if number > 27:
            raise MalformedError("lengths are definite")
        size = 1 << number - 24
        number = int.from_bytes(self.take(size), "big")
        if number < 24 or (size > 1 and number >> 4 * size == 0):
            raise MalformedError("a shorter form exists")
        return major, number

    def value(self, depth):
        data, at = self.data, self.at
        first = data[at] if at < len(data) else 255
        if first < 24:  # the quick way for most
            self.at += 1
            return first
        if 0x40 <= first < 0x58 and at + first - 0x3F <= len(data):
            self.at += first - 0x3F
            return data[at + 1 : self.at]
        return self.any(depth)

    def any(self, depth):
        """Return the value that begins here, of any kind."""
        major, number = self.start()
        if major == 0:
            return number
        if major == 1:
            if number >> 63:
                raise MalformedError("a number needs more than 64 bits")
            return -1 - number
        if major == 2:
            return self.take(number)
        if major == 3:
            try:
                return self.take(number).decode("utf-8")
            except UnicodeDecodeError as error:
                raise MalformedError("a text is no UTF-8") from error
        if major == 7:
            if number not in (20, 21, 22):
                raise MalformedError("a float, or a simple value that is not taken")
            return (False, True, None)[number - 20]
        self.left -= number
        if major == 6 or depth == MAX_DEPTH or self.left < 0 or number > len(self.data) - self.at:
            raise MalformedError("a tag, too deep, or too many")
        if major == 4:
            return [self.value(depth + 1) for _ in range(number)]
        return self.map(number, depth + 1)

    def map(self, count, depth):
        found, before = {}, b""
        for _ in range(count):
            begin = self.at
            key = self.value(depth)
            encoded = self.data[begin : self.at]
            if isinstance(key, bool) or not isinstance(key, (int, str)) or encoded <= before:
                raise MalformedError("a key is out of order, or no key")
            before = encoded
            found[key] = self.value(depth)
        return found


# Secrets: random bytes, X25519 (RFC 7748), HKDF (RFC 5869), sealing (docs/CHANNEL.md, "Sealing")


def draw(size):
    """Return random bytes of the kernel's, also of one that is not seeded yet: it is who waits for a seed.

    `os.urandom` would wait, early after a boot, for what this session brings. A nonce or key that can be
    guessed harms little: freshness rests on the host's nonce and key (docs/CHANNEL.md, "A session"), and who
    carries the frames holds the guest's memory anyway.
    """
    with contextlib.suppress(AttributeError, OSError):  # not seeded, or a kernel before 3.17
        drawn = os.getrandom(size, os.GRND_NONBLOCK)
        if len(drawn) == size:
            return drawn
    with contextlib.suppress(OSError):
        device = os.open("/dev/urandom", os.O_RDONLY | os.O_CLOEXEC)
        try:
            drawn = os.read(device, size)
        finally:
            os.close(device)
        if len(drawn) == size:
            return drawn
    return os.urandom(size)  # it waits, but for want of all else


PRIME = 2**255 - 19
BASE_POINT = b"\x09" + bytes(31)


def x25519(private, public):
    """Return the Montgomery ladder's result, 32 bytes. Its time depends on the key: nobody can watch."""
    k = int.from_bytes(private, "little") & ~(7 | 128 << 248) | 64 << 248
    x1 = (int.from_bytes(public, "little") & ~(1 << 255)) % PRIME
    x2, z2, x3, z3, before = 1, 0, x1, 1, "0"
    for bit in "{:b}".format(k):  # 255 of them: the highest is always set
        if bit != before:
            x2, z2, x3, z3, before = x3, z3, x2, z2, bit
        total, difference = x2 + z2, x2 - z2
        squared, other = total * total % PRIME, difference * difference % PRIME
        across, along = (x3 - z3) * total % PRIME, (x3 + z3) * difference % PRIME
        x3, z3 = (across + along) ** 2 % PRIME, x1 * (across - along) ** 2 % PRIME
        gap = squared - other
        x2, z2 = squared * other % PRIME, gap * (squared + 121665 * gap) % PRIME
    if before == "1":
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


if hasattr(hmac, "digest"):  # Python 3.7

    def tag_of(key, message):
        """Return HMAC-SHA256."""
        return hmac.digest(key, message, "sha256")

else:

    def tag_of(key, message):
        """Return HMAC-SHA256."""
        return hmac.new(key, message, hashlib.sha256).digest()


def hkdf(secret, salt, info, size):
    """Return `size` bytes of HKDF-SHA256."""
    key, made, block = tag_of(salt or bytes(32), secret), b"", b""
    while len(made) < size:
        block = tag_of(key, block + info + bytes((len(made) // 32 + 1,)))
        made += block
    return made[:size]


def cross(key, number, tag, text):
    """Return the text crossed with the stream of key, number and tag: sealing and opening alike."""
    stream = hashlib.shake_256(key + number + tag).digest(len(text))
    mixed = int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")
    return mixed.to_bytes(len(text), "big")


def seal(keys, number, text):
    """Return a sealed frame; `keys` are a MAC key and a stream key."""
    counted = number.to_bytes(8, "big")
    tag = tag_of(keys[0], b"\x05" + counted + text)[:16]
    return b"\x05" + counted + tag + cross(keys[1], counted, tag, text)


def unseal(keys, frame):
    """Return the text of a sealed frame. Raises MalformedError for one that these keys did not seal."""
    counted, tag = frame[1:9], frame[9:25]
    text = cross(keys[1], counted, tag, frame[25:])
    if not hmac.compare_digest(tag_of(keys[0], b"\x05" + counted + text)[:16], tag):
        raise MalformedError("a tag of another session")
    return text


def confirmation(seed, machine, eid, generation):
    """Return the tag that only who has this seed can make."""
    info = b"undercroft confirm 1" + machine + eid + generation.to_bytes(8, "big")
    return tag_of(hkdf(seed, b"", info, 32), info)


# Standing: what a rewind would put back


class Standing:
    """Where this boot stands in the last session that it knows; kept by `keep` where a subclass can."""

    def __init__(self):
        self.eid, self.serial, self.sent, self.taken, self.next_request = b"", 0, 0, 0, 1

    def keep(self):
        """Make it outlive this process, and not this boot."""

    def value(self):
        """Return it as an answer has it."""
        return [self.eid, self.serial, self.sent, self.taken] if self.eid else None


class Page(Standing):
    """A standing in a mapped file on a tmpfs: outlives the helper and not the kernel, without a system call.

    Two slots are written in turns, so that a helper that is killed while it writes leaves one whole. A helper
    that changes this has to read the old one still: a standing that is lost looks like a rewind.
    """

    SLOT = struct.Struct(">Q16sQQQQ")
    SIZE = 256

    def __init__(self, path, boot):
        super().__init__()
        self.turn = 0
        try:
            with open(path, "rb") as kept:
                found = kept.read(self.SIZE + 1)
        except FileNotFoundError:
            found = b""
        if len(found) == self.SIZE and found[:16] == boot:
            for at in (64, 160):
                self._read(found[at : at + self.SLOT.size + 4])
        else:
            with open(path + ".new", "wb") as new:
                os.fchmod(new.fileno(), 0o600)
                new.write(boot + bytes(self.SIZE - 16))
            os.rename(path + ".new", path)
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), self.SIZE)

    def _read(self, slot):
        body = slot[: self.SLOT.size]
        if struct.unpack(">I", slot[self.SLOT.size :])[0] != zlib.crc32(body):
            return
        turn, eid, serial, sent, taken, following = self.SLOT.unpack(body)
        if turn > self.turn:
            self.turn, self.eid, self.serial, self.sent, self.taken = turn, eid, serial, sent, taken
            self.next_request = following

    def keep(self):
        """Write the slot whose turn it is."""
        self.turn += 1
        counts = (self.serial, self.sent, self.taken, self.next_request)
        body = self.SLOT.pack(self.turn, self.eid or bytes(16), *counts)
        at = 64 if self.turn & 1 else 160
        self.map[at : at + len(body) + 4] = body + struct.pack(">I", zlib.crc32(body))


# Session: bytes in, events out


class Session:
    """The guest's side, without I/O. What is to be sent gathers in `out`; `receive` returns events.

    Events are tuples: ("welcome", generation, seed or None, next request), ("quiesce", number),
    ("answers", first, list), ("lost",). Pings are answered in here.
    """

    def __init__(self, standing, boot, random=draw):
        self.standing, self.boot, self.random = standing, boot, random
        self.frozen = False
        self.out = bytearray()
        self.lines = Lines()
        self.keys = self.pair = None
        self.open = False
        self.unreadable = 0
        self.asked = 0

    def start(self):
        """The helper has just started: a session that the host may believe open is none."""
        self._again(STARTED)

    def prepare(self):
        """Draw the next session's key pair ahead, so that a resumed guest is quicker.

        That costs nothing: a guest that was just resumed would draw what it drew before anyway.
        """
        if self.pair is None:
            private = self.random(32)
            self.pair = private, x25519(private, BASE_POINT)

    def receive(self, data):
        """Take bytes from the port; return what they say."""
        return list(self.each(data))

    def each(self, data):
        """Take bytes from the port; yield what they say, each before the next frame is looked at.

        A welcome and the next hello may come in one piece: what the welcome asks for has to be done in the
        session that it is of.
        """
        for frame in self.lines.feed(data):
            events = []
            try:
                if frame[0] == HELLO:
                    self._hello(frame, events)
                elif frame[0] == SEALED:
                    self._sealed(frame, events)
            except MalformedError:
                self._lose(UNREADABLE, events)
            yield from events

    def send(self, message):
        """Seal a message into `out`. It is counted before it is sent: see docs/CHANNEL.md, "Rewinds"."""
        standing = self.standing
        text = standing.taken.to_bytes(8, "big") + self.host_head + pack(message)
        standing.sent += 1
        standing.keep()
        frame = seal(self.mine, standing.sent, text)
        self.head = hashlib.sha256(self.head + frame).digest()
        self.heads[standing.sent] = self.head
        self.out += stuff(frame)

    def room(self):
        """Whether the host has taken enough of what was sent for more to be sent."""
        few = self.open and self.standing.sent - self.known < MAX_UNTAKEN - 8
        return few and len(self.out) < MAX_OUT_BYTES

    def _hello(self, frame, events):
        parts = unpack(frame[1:])
        if not isinstance(parts, list) or not parts or not isinstance(parts[0], list):
            raise MalformedError("a hello has a list of versions")
        self._forget(events)
        if VERSION not in parts[0]:
            self.out += b"\0" + stuff(bytes((UNABLE,)) + pack([[VERSION]]))
            return
        if len(parts) != 6:
            raise MalformedError("a hello has six parts")
        _, machine, eid, serial, nonce, key = parts
        sizes = [len(each) if isinstance(each, bytes) else 0 for each in (machine, eid, nonce, key)]
        if sizes != [16, 16, 16, 32] or not isinstance(serial, int) or not 0 <= serial < 1 << 63:
            raise MalformedError("a part of a hello")
        self.prepare()
        (private, mine), self.pair = self.pair, None
        self.nonce = self.random(16)
        secret = x25519(private, key)
        if secret == bytes(32):
            raise MalformedError("a key of small order")
        was = self.standing.value()
        body = pack([VERSION, nonce, self.nonce, mine, self.boot, was, self.frozen])
        told = hashlib.sha256(b"undercroft transcript 1")
        for part in (frame, body):
            told.update(len(part).to_bytes(4, "big") + part)
        told = told.digest()
        made = hkdf(secret, nonce + self.nonce, LABEL + machine + eid + told, 160)
        self.theirs, self.mine = (made[:32], made[32:64]), (made[64:96], made[96:128])
        self.head = hashlib.sha256(b"undercroft head 1g" + told).digest()
        self.host_head = hashlib.sha256(b"undercroft head 1h" + told).digest()
        self.heads, self.known = {0: self.head}, 0
        self.machine = machine
        self.keys = True
        standing = self.standing
        standing.eid, standing.serial, standing.sent, standing.taken = eid, serial, 0, 0
        standing.keep()
        tag = tag_of(made[128:], told)[:16]
        self.out += b"\0" + stuff(bytes((ANSWER,)) + tag + body)

    def _sealed(self, frame, events):
        standing = self.standing
        number = int.from_bytes(frame[1:9], "big")
        try:
            if not self.keys or len(frame) < 66:
                raise MalformedError("no session")
            text = unseal(self.theirs, frame)
        except MalformedError:
            self._unread()
            return
        if number <= standing.taken:
            return
        if number != standing.taken + 1:
            self._lose(GAP, events)
            return
        known, head = int.from_bytes(text[:8], "big"), text[8:40]
        if known > standing.sent or self.heads.get(known) != head:
            self._lose(PUT_BACK, events)
            return
        for each in range(self.known, known):
            del self.heads[each]
        self.known, self.unreadable = known, 0
        standing.taken = number  # kept with what is sent next: the host knows no sooner of it
        self.host_head = hashlib.sha256(self.host_head + frame).digest()
        self._message(unpack(text[40:]), events)

    def _message(self, message, events):
        if not isinstance(message, list) or not message:
            raise MalformedError("a message is an array")
        kind = message[0]
        if not self.open:
            if kind != WELCOME or len(message) != 5 or message[1] != self.nonce:
                raise MalformedError("the first message is a welcome")
            self.open, self.asked = True, 0
            events.append(("welcome", message[2], message[3], message[4]))
        elif kind == PING and len(message) == 2:
            self.send([PONG, message[1]])
        elif kind == QUIESCE and len(message) == 2:
            events.append(("quiesce", message[1]))
        elif kind == ANSWERS and len(message) == 3 and isinstance(message[2], list):
            events.append(("answers", message[1], message[2]))
        else:
            raise MalformedError("an unknown message")

    def _unread(self):
        """A frame of a session that this helper does not know, or no longer."""
        self.unreadable += 1
        if self.unreadable >= MAX_UNREADABLE or not self.keys:
            self._again(UNREADABLE)

    def _lose(self, reason, events):
        self._forget(events)
        self._again(reason)

    def _forget(self, events):
        if self.open:
            events.append(("lost",))
        self.keys, self.open, self.unreadable = None, False, 0
        del self.out[:]

    def _again(self, reason):
        """Ask for another session: at once, and then with every sixteenth reason to."""
        if self.asked % 16 == 0:
            self.out += b"\0" + stuff(bytes((AGAIN,)) + pack([reason]))
        self.asked += 1


# The kernel: each of these needs root, or a device; tests give others


def find_port(name=PORT_NAME, root="/"):
    """Return the path of the port, or None while there is none."""
    path = os.path.join(root, "dev/virtio-ports", name)
    if os.path.exists(path):
        return path
    folder = os.path.join(root, "sys/class/virtio-ports")
    for port in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        try:
            with open(os.path.join(folder, port, "name")) as file:
                found = file.read().strip()
        except OSError:
            continue
        if found == name:
            return os.path.join(root, "dev", port)
    return None


def random_requests(machine=None):
    """Return the numbers of RNDADDENTROPY and RNDRESEEDCRNG: of asm-generic/ioctl.h, or of its exceptions."""
    machine = machine or os.uname().machine
    if machine.startswith(("ppc", "mips", "sparc", "alpha")):
        return 0x80085203, 0x20005207
    return 0x40085203, 0x5207


class Kernel:
    """What the helper asks of the guest's kernel, under a root folder."""

    def __init__(self, root="/"):
        self.root = root
        self.reader = None

    def path(self, name):
        """Return a path below the root."""
        return os.path.join(self.root, name)

    def boot(self):
        """Return the id of this boot, 16 bytes."""
        with open(self.path("proc/sys/kernel/random/boot_id")) as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))

    def credit(self, seed):
        """Mix a seed in, credit it, and have a new key drawn from it. Writing alone would not draw one.

        Returns whether the kernel did both; RNDRESEEDCRNG is there from Linux 4.14 on.
        """
        add, reseed = random_requests()
        try:
            device = os.open(self.path("dev/urandom"), os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.ioctl(device, add, struct.pack("ii", len(seed) * 8, len(seed)) + seed)
            fcntl.ioctl(device, reseed)
        except OSError:
            return False
        finally:
            os.close(device)
        return True

    def drain(self, wanted=STALE_BYTES, most_s=DRAIN_S):
        """Read stale bytes of the virtual generator away: it gives out what lay in the guest at the snapshot.

        Returns how many were read within that time; 0 where there is no generator, or one that does not
        answer. It always returns: where the host's gives nothing, the kernel's own reader holds the device's
        lock, and a read that should not wait does. The reader is left behind in it, and what it reads later
        is counted by nobody: the next call waits for its end first. There is never a second one.
        """
        if self.reader is None:
            reader = Reader(self.path("dev/hwrng"))
            try:
                reader.start()
            except RuntimeError:  # no more threads, for whoever has taken them all
                return 0
            self.reader = reader
        return self.reader.read(wanted, most_s)


class Reader(threading.Thread):
    """Reads stale bytes of a device away, and counts them; it lives as long as the helper.

    A thread and no process: a process would be one more for the freezer to stop, and each snapshot exposed
    where the kernel holds it so that it cannot be. The helper's own is never frozen, and ends with it. It is
    there before a snapshot is: to start one is slow right after a resume.
    """

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.asked, self.done = threading.Lock(), threading.Lock()
        self.asked.acquire()
        self.wanted = self.until = self.count = 0

    def read(self, wanted, most_s):
        """Have it read so many bytes; return how many it did within that time."""
        until = time.monotonic() + most_s
        if not self.done.acquire(timeout=most_s):  # held since it was asked before
            return 0
        self.wanted, self.until, self.count = wanted, until, 0
        self.asked.release()
        if self.done.acquire(timeout=max(0.0, until - time.monotonic())):
            self.done.release()
        return self.count

    def run(self):
        """Read whenever it is asked to, until there was enough or time is up."""
        while True:
            self.asked.acquire()
            with contextlib.suppress(OSError):
                self._read()
            self.done.release()

    def _read(self):
        device = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while self.count < self.wanted and time.monotonic() < self.until:
                try:
                    piece = os.read(device, self.wanted - self.count)
                except BlockingIOError:
                    time.sleep(0.001)
                    continue
                if not piece:
                    break
                self.count += len(piece)
        finally:
            os.close(device)


def read_file(path):
    """Read a file whole. Raises OSError. `open` would be slow right after a resume."""
    pieces = []
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while not pieces or pieces[-1]:
            pieces.append(os.read(file, 65536))
    finally:
        os.close(file)
    return b"".join(pieces)


def write_file(path, text, flags=0, mode=None):
    """Write a small file, and let it have a mode. Raises OSError."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    try:
        if mode is not None:
            os.fchmod(file, mode)
        os.write(file, text.encode())
    finally:
        os.close(file)


class Generation:
    """The number that changes with each resume: as a text, and as a word that applications map and compare.

    `generation` is replaced as a whole. `generation.word` is never replaced, only its first eight bytes are:
    a number in the machine's byte order.
    """

    def __init__(self, folder):
        self.path = os.path.join(folder, "generation")
        number = os.open(self.path + ".word", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(number, "r+b") as file:
            os.fchmod(number, 0o644)
            if os.fstat(number).st_size < mmap.PAGESIZE:  # its room too: none left is an error here
                os.pwrite(number, bytes(mmap.PAGESIZE), 0)
            self.word = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE)).cast("Q")

    def publish(self, generation):
        """Let everybody know. The word first: who maps it asks most often.

        Where there is no room for a new file, the old one's is used: a frozen guest waits for this.
        """
        self.word[0] = generation
        text = "%d\n" % generation
        try:
            write_file(self.path + ".new", text, os.O_CREAT | os.O_TRUNC, 0o644)
            os.rename(self.path + ".new", self.path)
        except OSError:
            with contextlib.suppress(OSError):
                write_file(self.path, text)


def hurry(yes):
    """Come before all other programs, or no more, where the kernel lets this one. Hooks do not inherit it.

    From a quiesce until the seed is confirmed the guest waits for nobody else, and what was thawed would take
    the processor first: the longest step after a resume.
    """
    policy = os.SCHED_FIFO if yes else os.SCHED_OTHER
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(1 if yes else 0))


# Freezing all but the helper

KERNEL_THREAD = 0x00200000
FREEZE_S = 2.0
POOL = "undercroft.frozen"


class Freezer:
    """Freezes every process but this one, and thaws those that it froze.

    With cgroup v2 (Linux 5.2): every group beside the path to the helper's own is frozen, and process 1,
    which takes no signal, is moved into a frozen one if it sits in the root group. What is left gets SIGSTOP,
    in rounds. Each is written down before it is frozen, so that a helper that starts anew can thaw it.
    """

    def __init__(self, record, root="/", kill=os.kill, own=None):
        self.record, self.root, self.kill = record, root, kill
        self.own = own or os.getpid()
        self.number, self.groups, self.stopped, self.first, self.count = 0, [], [], None, 0
        for line in self._read(record).splitlines():
            what, _, rest = line.partition(" ")
            if what == "quiesce":
                self.number = int(rest)
            elif what == "group":
                self.groups.append(rest)
            elif what == "stop":
                self.stopped.append(tuple(rest.split()))
            elif what == "first":
                self.first = rest
            elif what == "count":
                self.count = int(rest)

    def active(self):
        """Whether something is frozen."""
        return self.number != 0

    def freeze(self, number):
        """Freeze all. Returns whether all are, how many were, and how or why not."""
        until = time.monotonic() + FREEZE_S
        if not self.active():
            self._note("quiesce", str(number))
        self.number = number
        base = self._base()
        if base:
            self._freeze_groups(base)
        left = self._rounds(base, until) + self._thawed(until)
        self.count = len(self.stopped) + self._inside()
        self._note("count", str(self.count))
        if left:
            return False, self.count, "still run: %s" % ", ".join(map(str, left[:8]))
        return True, self.count, "groups and signals" if base else "signals"

    def thaw(self):
        """Let all run again that were frozen. Returns how many. It looks for nothing: it has to be quick."""
        for pid, started in self.stopped:
            if self._stat(int(pid))[1] == started:  # else its number is another's now
                self._signal(int(pid), signal.SIGCONT)
        if self.first:
            self._write(os.path.join(self.first, "cgroup.procs"), "1")
        for group in self.groups:
            self._write(os.path.join(group, "cgroup.freeze"), "0")
        if self.first:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(self.first, POOL))  # noqa: PTH106 - no pathlib: it is slow to load
        count, self.count = self.count, 0
        self.number, self.groups, self.stopped, self.first = 0, [], [], None
        with contextlib.suppress(OSError):
            os.unlink(self.record)
        return count

    def _note(self, what, which):
        with open(self.record, "a") as file:
            file.write("%s %s\n" % (what, which))

    def _base(self):
        """Return where cgroup v2 is mounted, if it can freeze."""
        try:
            with open(os.path.join(self.root, "proc/self/mountinfo")) as file:
                lines = [line.split() for line in file]
        except OSError:
            return None
        for words in lines:
            if "-" in words and words[words.index("-") + 1] == "cgroup2" and words[3] == "/":
                base = os.path.join(self.root, words[4].lstrip("/"))
                if os.path.exists(os.path.join(base, "cgroup.procs")):
                    return base
        return None

    def _group(self, pid):
        """Return a process's group of cgroup v2, as the kernel names it, or None."""
        for line in self._read("proc/%d/cgroup" % pid).splitlines():
            if line.startswith("0::"):
                return line[3:]
        return None

    def _freeze_groups(self, base):
        found, at = [], base
        for name in [part for part in (self._group(self.own) or "/").split("/") if part] + [None]:
            for entry in sorted(os.listdir(at)):
                group = os.path.join(at, entry)
                if entry != name and os.path.exists(os.path.join(group, "cgroup.freeze")):
                    found.append(group)
            if name is None:
                break
            at = os.path.join(at, name)
        pool = os.path.join(base, POOL)
        if self._group(1) == "/" and pool not in found:
            with contextlib.suppress(OSError):
                os.mkdir(pool)
                found.append(pool)
        for group in found:
            if group not in self.groups:
                self._note("group", group)
            if self._write(os.path.join(group, "cgroup.freeze"), "1") and group not in self.groups:
                self.groups.append(group)
        if pool in self.groups and self._group(1) == "/":
            self._note("first", base)
            self.first = base
            self._write(os.path.join(pool, "cgroup.procs"), "1")

    def _thawed(self, until):
        """Wait for the kernel to say that each group is frozen; return those of which it does not.

        A group that is gone holds nothing: the kernel removes none that has a process in it.
        """
        waiting = self.groups
        while True:
            waiting = [
                each
                for each in waiting
                if "frozen 1" not in self._read(each + "/cgroup.events") and os.path.exists(each)
            ]
            if not waiting or time.monotonic() > until:
                return waiting
            time.sleep(0.002)

    def _rounds(self, base, until):
        """Stop what no group holds; return the numbers of those that still run when time is up.

        Done is done when all that were listed have stopped, and a list that was made after that is the same:
        a process that was told to stop, and had not yet, may have forked meanwhile.
        """
        known, kernel, again = set(), set(), set()
        while True:
            listed = self._listed() - kernel
            for pid in (listed - known) | (again & listed):
                words = self._words("proc/%d/stat" % pid)
                if len(words) > 6 and int(words[6]) & KERNEL_THREAD:
                    kernel.add(pid)
                elif not self._held(base, pid):
                    self._stop(pid)
            quiet, known = listed <= known, listed
            running = sorted(each for each in listed - kernel if not self._held(base, each)) if quiet else []
            if quiet and running in ([], [1]) and self._listed() - kernel == listed - kernel:
                return running  # to wait for process 1 is of no use
            if time.monotonic() > until:
                return running or ["what forks"]
            again = set(running)  # it may have been continued
            if again:
                time.sleep(0.001)

    def _listed(self):
        """Return the numbers of all processes but this one."""
        entries = os.listdir(os.path.join(self.root, "proc"))
        return {int(each) for each in entries if each.isdigit()} - {self.own}

    def _stop(self, pid):
        started = self._stat(pid)[1]
        if started and pid != 1:
            if (str(pid), started) not in self.stopped:
                self._note("stop", "%d %s" % (pid, started))
                self.stopped.append((str(pid), started))
            self._signal(pid, signal.SIGSTOP)

    def _held(self, base, pid):
        """Whether a process is in a frozen group, or every thread of it has stopped."""
        if base:
            group = base + (self._group(pid) or "/")
            if any(group == each or group.startswith(each + "/") for each in self.groups):
                return True
        try:
            threads = os.listdir(os.path.join(self.root, "proc/%d/task" % pid))
        except OSError:
            return False  # gone, and perhaps not without a child
        stats = [self._words("proc/%d/task/%s/stat" % (pid, each)) for each in threads]
        return all(not words or words[0] in "TtZX" for words in stats)

    def _stat(self, pid):
        """Return a process's state and when it started; empty if it is gone."""
        words = self._words("proc/%d/stat" % pid)
        return (words[0], words[19]) if len(words) > 19 else ("", "")

    def _words(self, path):
        """Return what follows the name in a stat file: the name may hold brackets, the last one ends it."""
        return self._read(path).rpartition(")")[2].split()

    def _inside(self):
        """Return how many processes the frozen groups hold."""
        count = 0
        for group in self.groups:
            for folder, _, _ in os.walk(group):
                count += len(self._read(os.path.join(folder, "cgroup.procs")).split())
        return count

    def _read(self, name):
        try:
            return read_file(os.path.join(self.root, name)).decode(errors="replace")
        except OSError:
            return ""

    def _write(self, path, text):
        try:
            write_file(path, text)
        except OSError:
            return False
        return True

    def _signal(self, pid, which):
        with contextlib.suppress(OSError):
            self.kill(pid, which)


# Hooks: programs of the administrator's, after each seed

HOOK_S, HOOKS_S, MAX_HOOKS = 10.0, 30.0, 64


class Hooks:
    """Runs the programs of a folder, one after another, without waiting for any."""

    def __init__(self, folder, generation, owner=0):
        self.waiting = deque(self._listed(folder, owner)[:MAX_HOOKS])
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "UNDERCROFT_GENERATION": str(generation)}
        self.running = None
        self.ran = self.failed = 0
        self.end = time.monotonic() + HOOKS_S

    @staticmethod
    def _listed(folder, owner):
        """Return paths in the order of their names: what can run, and only its owner can write."""
        found = []
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if not re.match(r"[A-Za-z0-9._-]+\Z", name) or not os.path.exists(path):
                continue
            about = os.stat(path)
            only_owners = about.st_uid == owner and not about.st_mode & 0o022
            if stat.S_ISREG(about.st_mode) and about.st_mode & 0o100 and only_owners:
                found.append(path)
        return found

    def step(self):
        """Go on as far as it goes without waiting. Returns whether all is done."""
        now = time.monotonic()
        if self.running:
            code = self.running.poll()
            if code is None and now < self.until:
                return False
            if code is None:
                self.stop()  # one that the kernel holds is left behind: all else would wait for it
            self.failed += code != 0
            self.running = None
        if not self.waiting or now > self.end:
            self.failed += len(self.waiting)
            self.ran += len(self.waiting)
            self.waiting.clear()
            return True
        self.ran += 1
        self.until = min(now + HOOK_S, self.end)
        try:
            self.running = subprocess.Popen(
                [self.waiting.popleft()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self.environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError:
            self.failed += 1
        return False

    def stop(self):
        """End the one that runs, with all that it has started in its group."""
        if self.running:
            with contextlib.suppress(OSError):
                os.killpg(self.running.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.running.wait(1)


# The daemon

NAME = (bytes, 1, MAX_NAME_BYTES)
NUMBER = (int, 0, (1 << 63) - 1)
OPERATIONS = {
    "increment": (1, NAME, (int, 1, 1 << 20)),
    "counter": (2, NAME),
    "spend": (3, NAME, (bool, 0, 1)),
    "append": (4, NAME, NUMBER, (bytes, 32, 32), (bytes, 0, 4096)),
    "latest": (5, NAME, (bytes, 16, 16)),
    "seal": (6, NAME, NUMBER, (bytes, 0, MAX_BLOB_BYTES)),
    "unseal": (7, NAME, NUMBER),
    "sign": (8, NAME, (bytes, 32, 32)),
    "public": (9, NAME),
    "guard": (10, NAME),
    "revoke": (11, NAME),
    "random": (12, (int, 1, 1024)),
    "status": (13,),
}
"""Number and arguments of each operation: a type, and the least and most of its length, or of itself."""
SHARED = ("guard",)
"""What anybody may ask about any name. A public key is none of it: who asks for it first makes the key."""


def named_for(user, operation, arguments):
    """Return a local user's request as the vault sees it. Raises MalformedError.

    root has all names; what others name lies below their own number, so that nobody spends for another. The
    host ends the session of a guest that asks what is not in the table: one program would do that to all.
    """
    if operation not in OPERATIONS or not isinstance(arguments, list):
        raise MalformedError("no such operation")
    number, *limits = OPERATIONS[operation]
    if len(arguments) != len(limits):
        raise MalformedError("%s has %d arguments" % (operation, len(limits)))
    arguments = list(arguments)
    if user != 0 and limits and limits[0] is NAME and operation not in SHARED:
        if not isinstance(arguments[0], bytes):
            raise MalformedError("a name is missing")
        arguments[0] = b"u%d/" % user + arguments[0]
    for place, (argument, (kind, least, most)) in enumerate(zip(arguments, limits)):
        size = len(argument) if kind is bytes and type(argument) is bytes else argument
        if type(argument) is not kind or not least <= size <= most:
            what = "argument %d of %s" % (place + 1, operation)
            raise MalformedError("%s is outside %d to %d" % (what, least, most))
    return [number] + arguments


class Client:
    """A local program at the socket: requests in, answers out, each with its length before it."""

    def __init__(self, connection, user):
        self.connection, self.user = connection, user
        self.held, self.out = b"", bytearray()
        self.waiting = self.waiting_bytes = 0
        self.watching = selectors.EVENT_READ

    def requests(self, data):
        """Return the whole requests among what came. Raises MalformedError for what is none."""
        held, at, found = self.held + data, 0, []
        while len(held) >= at + 4:
            end = at + 4 + int.from_bytes(held[at : at + 4], "big")
            if end - at > MAX_LOCAL_BYTES + 4:
                raise MalformedError("a request is too long")
            if len(held) < end:
                break
            value = unpack(held[at + 4 : end])
            at = end
            if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
                raise MalformedError("a request is an operation and its arguments")
            found.append(value)
        self.held = held[at:]
        return found

    def answer(self, answer):
        """Add an answer to what goes out."""
        body = pack(answer)
        self.out += len(body).to_bytes(4, "big") + body


def _size(request):
    """Return what a request has on the line at most, in bytes."""
    return 8 + sum(len(each) + 5 if isinstance(each, bytes) else 9 for each in request)


class Vault:
    """Requests on their way: waiting, in flight with a number, answered. No number is used anew."""

    def __init__(self, session):
        self.session = session
        self.queue, self.flying = deque(), OrderedDict()

    def add(self, request, done, whose=None):
        """Take a request of somebody's; `done` is called with its answer, once."""
        self.queue.append((request, done, whose))

    def forget(self, whose):
        """Leave out what somebody asked who is gone. What is on its way stays: its number is taken."""
        if any(each[2] is whose for each in self.queue):
            self.queue = deque(each for each in self.queue if each[2] is not whose)

    def welcome(self, following):
        """A session has opened: what is in flight is asked again, under the same numbers."""
        standing = self.session.standing
        standing.next_request = max(standing.next_request, following)
        run, again = [], self.flying
        self.flying = OrderedDict()
        for number, (request, done) in again.items():
            if run and (
                number != run[-1][0] + 1
                or _size(request) + sum(_size(r) for _, r, _ in run) > MAX_BATCH_BYTES
            ):
                self._fly(run)
                run = []
            run.append((number, request, done))
        if run:
            self._fly(run)

    def flush(self):
        """Send what waits, as far as the protocol lets it."""
        while self.queue and self.session.room() and len(self.flying) < MAX_IN_FLIGHT:
            batch, size = [], 0
            following = self.session.standing.next_request
            while self.queue and len(batch) < MAX_BATCH and len(self.flying) + len(batch) < MAX_IN_FLIGHT:
                size += _size(self.queue[0][0])
                if batch and size > MAX_BATCH_BYTES:
                    break
                request, done, _ = self.queue.popleft()
                batch.append((following + len(batch), request, done))
            self.session.standing.next_request += len(batch)
            self._fly(batch)

    def _fly(self, batch):
        for number, request, done in batch:
            self.flying[number] = (request, done)
        self.session.send([REQUESTS, batch[0][0], [request for _, request, _ in batch]])

    def answers(self, first, answers):
        """Take answers of the host's; one to nothing that is in flight is an answer given twice."""
        for place, answer in enumerate(answers):
            request = self.flying.pop(first + place, None)
            if request:
                request[1](answer)


class Daemon:
    """All together, around one port and one local socket. `step` waits at most as long as it is told."""

    def __init__(
        self,
        port,
        folder,
        kernel,
        freezer=None,
        hook_folder=HOOK_FOLDER,
        listener=None,
        hook_owner=0,
        hurry=None,
    ):
        self.hurry = hurry or (lambda _yes: None)
        self.port, self.kernel, self.hook_folder, self.hook_owner = port, kernel, hook_folder, hook_owner
        boot = kernel.boot()
        self.session = Session(Page(os.path.join(folder, "standing"), boot), boot)
        self.vault = Vault(self.session)
        self.generation = Generation(folder)
        self.freezer = freezer or Freezer(os.path.join(folder, "frozen"))
        self.session.frozen = self.freezer.active()
        self.listener, self.clients, self.hooks, self.seed = listener, {}, None, None
        self.answered, self.given = {}, []
        self.selector = selectors.DefaultSelector()
        os.set_blocking(port, False)
        self.away_until = 0.0
        self.watching = 0
        if listener:
            listener.setblocking(False)
            self.selector.register(listener, selectors.EVENT_READ)
        self.start_at = time.monotonic() + START_S

    def close(self):
        """Let go of the local programs, and of what runs; the port and the listener stay."""
        self._stop_hooks()
        for client in list(self.clients.values()):
            self._drop(client)
        self.selector.close()

    def step(self, most_s=1.0):
        """Do what there is to do; wait for it at most so long."""
        now = time.monotonic()
        self._watch(now)
        if self.start_at and now >= max(self.start_at, self.away_until):
            self.start_at = None
            if not self.session.keys:
                self.session.start()
        if self.hooks or self.start_at:
            most_s = min(most_s, 0.02)
        if now < self.away_until:
            most_s = min(most_s, self.away_until - now)
        for key, mask in self.selector.select(most_s):
            if key.fileobj == self.port:
                self._port(mask)
            elif key.fileobj is self.listener:
                self._accept()
            else:
                self._client(key.data, mask)
        if self.hooks and not self.session.frozen and self.hooks.step():  # a hook would draw as well
            self._confirm()
        self.vault.flush()
        self._write_port()
        if self._hand_on():
            self.vault.flush()
            self._write_port()
        self._write_answered()
        if self.session.open and not self.hooks:
            self.session.prepare()

    def _watch(self, now):
        """Have the port watched for what is wanted of it, unless nobody is on its other side."""
        wanted = 0
        if now >= self.away_until:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.session.out else 0)
        if wanted != self.watching:
            if self.watching:
                self.selector.unregister(self.port)
            if wanted:
                self.selector.register(self.port, wanted)
            self.watching = wanted

    def _port(self, mask):
        if not mask & selectors.EVENT_READ:
            return
        try:
            data = os.read(self.port, 65536)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):
                raise
            data = b""
        if not data:
            self.away_until = time.monotonic() + AWAY_S
            return
        for event in self.session.each(data):
            self._event(event)

    def _write_port(self):
        out = self.session.out
        while out:
            try:
                count = os.write(self.port, out[:65536])
            except (BlockingIOError, BrokenPipeError):
                return
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return
            if not count:
                return
            del out[:count]

    def _event(self, event):
        if event[0] == "welcome":
            self._welcome(*event[1:])
        elif event[0] == "quiesce":
            self.hurry(True)
            frozen, count, text = self.freezer.freeze(event[1])
            self.session.frozen = True
            self.session.send([QUIESCED, event[1], frozen, count, text])
        elif event[0] == "answers":
            self.given.append((event[1], event[2]))
            self.session.send([PONG, 0])
        elif event[0] == "lost":
            del self.given[:]  # asked again in the next session, and answered the same

    def _hand_on(self):
        """Give answers out, once a frame that was counted after them is on its way; return whether any were.

        A guest that is put back from then on counts that frame a second time, which proves it. One that had
        sent nothing since could be given the same values again, and use them twice.
        """
        if not self.given or self.session.out:
            return False
        for first, answers in self.given:
            self.vault.answers(first, answers)
        del self.given[:]
        return True

    def _welcome(self, generation, seed, following):
        """Steps 1 to 6 of docs/CHANNEL.md, "The seed": the order is what the guarantees hang on."""
        self._stop_hooks()
        able = ["credit", "hwrng", "hooks", "stop", "vault"]
        self.session.send([ABOUT, HELPER, os.uname().release, able])
        if seed is not None:
            credited = self.kernel.credit(seed)  # 1
            drained = self.kernel.drain()  # 2
            self.generation.publish(generation)  # 3
            self._thaw()  # 4
            tag = confirmation(seed, self.session.machine, self.session.standing.eid, generation)
            self.seed = (generation, tag, credited, drained)
            self.hooks = Hooks(self.hook_folder, generation, self.hook_owner)  # 5
        self.vault.welcome(following)

    def _thaw(self):
        if self.freezer.active():
            number = self.freezer.number
            count = self.freezer.thaw()
            self.session.frozen = False
            self.session.send([THAWED, number, count])

    def _confirm(self):
        generation, tag, credited, drained = self.seed
        if self.session.open:  # else a later session brings another seed
            self.session.send(
                [CONFIRMED, generation, tag, credited, drained, self.hooks.ran, self.hooks.failed]
            )
        self.hooks = self.seed = None
        self.hurry(False)

    def _stop_hooks(self):
        if self.hooks:
            self.hooks.stop()
            self.hooks = self.seed = None

    def _accept(self):
        try:
            connection, _ = self.listener.accept()
        except OSError:  # it went away meanwhile
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        user = struct.unpack("3i", credentials)[1]
        same = sum(each.user == user for each in self.clients.values())
        if same >= MAX_CLIENTS_OF_ONE or (user != 0 and len(self.clients) >= MAX_CLIENTS):
            connection.close()
            return
        connection.setblocking(False)
        client = Client(connection, user)
        self.clients[connection.fileno()] = client
        self.selector.register(connection, selectors.EVENT_READ, client)

    def _client(self, client, mask):
        try:
            if mask & selectors.EVENT_READ:
                data = client.connection.recv(65536)
                if not data:
                    raise MalformedError("gone")
                for operation, arguments in client.requests(data):
                    self._ask(client, operation, arguments)
            self._write_client(client)
        except BlockingIOError:
            return
        except (OSError, MalformedError):
            self._drop(client)

    def _ask(self, client, operation, arguments):
        if client.waiting >= MAX_IN_FLIGHT or client.waiting_bytes >= MAX_WAITING_BYTES:
            client.answer([5, 0, "%d requests of this program are on their way" % client.waiting])
            return
        try:
            request = named_for(client.user, operation, arguments)
        except MalformedError as error:
            client.answer([4, 0, str(error)])
            return
        size = _size(request)
        client.waiting += 1
        client.waiting_bytes += size
        self.vault.add(request, lambda answer: self._answered(client, size, answer), client)

    def _answered(self, client, size, answer):
        client.waiting -= 1
        client.waiting_bytes -= size
        if client.connection.fileno() >= 0:
            client.answer(answer)
            self.answered[client.connection.fileno()] = client

    def _write_answered(self):
        """Give each program all its answers at once."""
        while self.answered:
            _, client = self.answered.popitem()
            try:
                self._write_client(client)
            except (OSError, MalformedError):
                self._drop(client)

    def _write_client(self, client):
        while client.out:
            try:
                count = client.connection.send(client.out)
            except BlockingIOError:
                break
            del client.out[:count]
        if len(client.out) > MAX_OUT_BYTES:
            raise MalformedError("it does not read")
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.out else 0)
        if wanted != client.watching:
            self.selector.modify(client.connection, wanted, client)
            client.watching = wanted

    def _drop(self, client):
        if client.connection.fileno() >= 0:
            self.selector.unregister(client.connection)
            self.clients.pop(client.connection.fileno(), None)
            self.answered.pop(client.connection.fileno(), None)
            client.connection.close()
            self.vault.forget(client)


def listen(path):
    """Return a socket that every local user may ask."""
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o666)  # noqa: S103 - whom the kernel says that it is decides what one may ask
    listener.listen(16)
    return listener


def open_port(path):
    """Wait until the port is there; return it, opened."""
    found = path or find_port()
    while found is None:
        time.sleep(0.5)
        found = find_port()
    return os.open(found, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def run(arguments):
    """Serve the port for ever.

    A mistake in here must not end the process: where all else is frozen, nobody would start it again. It
    begins anew with what it has written down, also when the port was taken away and is back.
    """
    folder = arguments.state
    os.makedirs(folder, mode=0o755, exist_ok=True)
    lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit("undercroft-guest: another one runs already")
    listener = listen(os.path.join(folder, "guest.sock"))
    kernel = Kernel()  # one for good: it knows of the reader that it has left behind
    while True:
        port = open_port(arguments.port)
        try:
            daemon = Daemon(port, folder, kernel, hook_folder=arguments.hooks, listener=listener, hurry=hurry)
            with contextlib.closing(daemon):
                while True:
                    daemon.step()
        except Exception as error:  # noqa: BLE001 - see above
            sys.stderr.write("undercroft-guest: %r\n" % error)
        os.close(port)
        time.sleep(1)


# The commands


class RefusedError(Exception):
    """The vault's answer was not yes; `code` is what to exit with."""

    def __init__(self, outcome, text):
        super().__init__(text)
        self.code = {1: 6, 3: 3}.get(outcome, 1)


def ask(folder, operation, arguments, timeout_s):
    """Return what an answer rests on and its values. Raises RefusedError, OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(os.path.join(folder, "guest.sock"))
        body = pack([operation, arguments])
        connection.sendall(len(body).to_bytes(4, "big") + body)
        size = int.from_bytes(_exactly(connection, 4), "big")
        outcome, rests, *values = unpack(_exactly(connection, size))
    if outcome != 0:
        raise RefusedError(outcome, str(values[0]) if values else "refused (%d)" % outcome)
    return rests, values


def _exactly(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise OSError("the helper hung up")
        data += piece
    return data


def read_input(limit):
    """Return stdin. Raises RefusedError when it has more than `limit` bytes."""
    data = sys.stdin.buffer.read(limit + 1)
    if len(data) > limit:
        raise RefusedError(4, "more than %d bytes" % limit)
    return data


def latest_version(request, name):
    """Return a blob's version, 0 if there is none. Who must not lose another's names the one they mean."""
    try:
        return request("unseal", name, 0)[1][0]
    except RefusedError as refusal:
        if refusal.code == 3:
            return 0
        raise


def command(options):
    """Do one command; print what it gives."""
    what, out = options.command, sys.stdout
    name = os.fsencode(getattr(options, "name", ""))

    def request(operation, *arguments):
        return ask(options.state, operation, list(arguments), options.timeout)

    if what == "generation":
        with open(os.path.join(options.state, "generation")) as file:
            out.write(file.read())
    elif what == "random":
        _, (given,) = request("random", options.count)
        own = os.urandom(options.count)  # never worse than without the host; nobody's seed waits for it
        out.buffer.write(bytes(a ^ b for a, b in zip(given, own)))
    elif what == "counter" and options.read:
        out.write("%d\n" % request("counter", name)[1][0])
    elif what == "counter":
        first = request("increment", name, options.count)[1][0]
        out.write("%d\n" % first if options.count == 1 else "%d %d\n" % (first, first + options.count - 1))
    elif what == "spend":
        rests, _ = request("spend", name, options.final)
        out.write("%s\n" % ("nothing", "synced", "anchored", "quorum")[rests])
    elif what == "seal":
        data, after = read_input(MAX_BLOB_BYTES), options.after
        if after is None:
            after = latest_version(request, name)
        out.write("%d\n" % request("seal", name, after, data)[1][0])
    elif what == "unseal":
        out.buffer.write(request("unseal", name, options.version)[1][1])
    elif what == "sign":
        digest = hashlib.sha256()
        for piece in iter(lambda: sys.stdin.buffer.read(65536), b""):
            digest.update(piece)
        out.write(request("sign", name, digest.digest())[1][0].hex() + "\n")
    elif what == "public":
        out.write(request("public", name)[1][0].hex() + "\n")
    elif what == "guard" and request("guard", name)[1][0] is not True:
        raise RefusedError(1, "it holds no more")


def parser():
    """Return the parser of the command line."""
    lines = __doc__.splitlines()
    top = argparse.ArgumentParser(prog="undercroft-guest", description=lines[0])
    top.add_argument("--state", default=STATE_FOLDER, help="folder of the helper's files")
    top.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the host")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    daemon = commands.add_parser("run", help="the daemon")
    daemon.add_argument("--port", help="path of the port, where it is not found by its name")
    daemon.add_argument("--hooks", default=HOOK_FOLDER, help="folder of programs to run after each seed")
    commands.add_parser("generation", help="the number that changes with every resume")
    random = commands.add_parser("random", help="fresh random bytes")
    random.add_argument("count", type=int, nargs="?", default=32)
    counter = commands.add_parser("counter", help="the next number, which never comes again")
    counter.add_argument("-n", dest="count", type=int, default=1, help="how many")
    counter.add_argument("--read", action="store_true", help="only look")
    spend = commands.add_parser("spend", help="yes, once")
    spend.add_argument("--final", action="store_true", help="wait until no rollback of the host undoes it")
    unseal_ = commands.add_parser("unseal", help="a sealed blob, to stdout")
    unseal_.add_argument("--version", type=int, default=0)
    seal_ = commands.add_parser("seal", help="stdin, sealed")
    seal_.add_argument("--after", type=int, help="only as the version after this one; 0: as the first")
    others = [counter, spend, unseal_, seal_]
    for what, told in (
        ("sign", "sign stdin"),
        ("public", "a key's public one"),
        ("guard", "does it still hold?"),
    ):
        others.append(commands.add_parser(what, help=told))
    for each in others:
        each.add_argument("name")
    return top


def main(words=None):
    """Run the daemon or one command; return the exit code."""
    options = parser().parse_args(words)
    try:
        if options.command == "run":
            run(options)
        command(options)
    except RefusedError as refusal:
        sys.stderr.write("undercroft-guest: %s\n" % refusal)
        return refusal.code
    except (OSError, MalformedError) as error:
        sys.stderr.write("undercroft-guest: %s\n" % error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
