"""What runs in a guest beside the helper: programs that draw random numbers, and do it when they are told.

They are told through a port of their own: a line is a token, an order and its arguments; the answer is the
same token and JSON. Bytes of an earlier life of the guest reach the host too: it knows them by their token.

Two kinds of each program that keeps random state of its own: one that does as most do, and one that looks at
`/run/undercroft/generation.word` before each use, as docs/CHANNEL.md says under "For applications".
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import mmap
import os
import signal
import ssl
import struct
import sys
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "guest")]  # in a guest all lie beside each other

import undercroft_guest  # noqa: E402
from p256 import G, N, times  # noqa: E402

PORT_NAME = "org.undercroft.test.0"
WORD = "/run/undercroft/generation.word"
DISK = "/dev/vdb"
RANDOM_AT, RANDOM_BYTES = 11, 32
"""Where a client hello has its random: after the headers of record and message, and the version."""
MAGIC = hashlib.sha256(b"where the tight loop keeps what it drew").digest()[:16]
DRAW_BYTES, MOST_DRAWS, FIRST_AT = 16, 1 << 18, 4096
"""The tight loop's memory: a page with `MAGIC`, draws begun and draws done, then the draws."""


class Generation:
    """Tells whether the machine was resumed since it was last asked."""

    def __init__(self):
        with open(WORD, "rb") as file:
            self.word = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
        self.last = self.now()

    def now(self):
        return int.from_bytes(self.word[:8], sys.byteorder)

    def changed(self):
        was, self.last = self.last, self.now()
        return was != self.last


class Cached:
    """A generator that was seeded once, from the kernel: HMAC of a key and a count."""

    def __init__(self, generation=None):
        self.key, self.count, self.generation = os.urandom(32), 0, generation

    def draw(self):
        if self.generation and self.generation.changed():
            self.key = hmac.digest(self.key, os.urandom(32), "sha256")
        self.count += 1
        return hmac.digest(self.key, self.count.to_bytes(8, "big"), "sha256")


class Signer:
    """ECDSA over P-256, whose nonces are from a generator of its own."""

    def __init__(self, generation=None):
        self.generator = Cached(generation)
        self.private = int.from_bytes(os.urandom(32), "big") % N
        self.public = times(self.private, G)

    def sign(self, message):
        nonce = int.from_bytes(self.generator.draw(), "big") % N
        r = times(nonce, G)[0] % N
        digest = int.from_bytes(hashlib.sha256(message.encode()).digest(), "big")
        return r, pow(nonce, -1, N) * (digest + r * self.private) % N


class Tls:
    """A process that makes one TLS connection after another, on OpenSSL's own generator."""

    def __init__(self, generation=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.generation = generation
        self.hello()

    def hello(self):
        """Return the random of a new client hello."""
        if self.generation and self.generation.changed():
            ssl.RAND_add(os.urandom(48), 48.0)
        outgoing = ssl.MemoryBIO()
        connection = self.context.wrap_bio(ssl.MemoryBIO(), outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            connection.do_handshake()
        return outgoing.read()[RANDOM_AT : RANDOM_AT + RANDOM_BYTES].hex()


class Apart:
    """A process that lives on beside this one and answers each question by what `make()` gives."""

    def __init__(self, make):
        (theirs, self.asking), (self.answers, ours) = os.pipe(), os.pipe()
        if os.fork() == 0:
            answer = make()
            while os.read(theirs, 1):
                os.write(ours, answer().encode())
            os._exit(0)
        self()

    def __call__(self):
        os.write(self.asking, b"?")
        return os.read(self.answers, 4096).decode()


def in_a_child(work):
    """Return what `work` returns in a process that is born now, as a program that is started does."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, work().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        told = file.read()
    os.waitpid(child, 0)
    return told


class TightLoop:
    """A process that does nothing but getrandom, into memory that the host can find in the guest's RAM."""

    def __init__(self):
        self.memory = mmap.mmap(-1, FIRST_AT + DRAW_BYTES * MOST_DRAWS)
        self.child = 0

    def start(self):
        self.memory[:32] = MAGIC + bytes(16)
        self.child = os.fork()
        if self.child == 0:
            self._draw()

    def _draw(self):
        memory, draw, at = self.memory, os.getrandom, FIRST_AT
        for number in range(MOST_DRAWS):
            struct.pack_into("<Q", memory, 16, number + 1)
            memory[at : at + DRAW_BYTES] = draw(DRAW_BYTES)
            at += DRAW_BYTES
            struct.pack_into("<Q", memory, 24, number + 1)
        os._exit(0)

    def drawn(self, first, most):
        """Wait for draws from number `first` on, and return them."""
        while self._done() < first + most and os.waitpid(self.child, os.WNOHANG)[0] == 0:
            time.sleep(0.002)
        last = min(self._done(), first + most)
        begin, end = FIRST_AT + DRAW_BYTES * first, FIRST_AT + DRAW_BYTES * last
        return self.memory[begin:end].hex()

    def _done(self):
        return struct.unpack_from("<Q", self.memory, 24)[0]

    def stop(self):
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)


class OnDisk:
    """A generator whose state lies on the machine's disk, written back after each use; it outlives a boot."""

    def __init__(self, place, generation=None):
        self.place, self.generation = place, generation

    def draw(self):
        with open(DISK, "r+b", buffering=0) as disk:
            disk.seek(512 * self.place)
            state = disk.read(512)
            key, told = state[:32], state[32:40]
            if key == bytes(32):
                key = os.urandom(32)
            now = self.generation.now().to_bytes(8, "big") if self.generation else told
            if now != told:
                key = hmac.digest(key, os.urandom(32), "sha256")
            disk.seek(512 * self.place)
            disk.write(hmac.digest(key, b"next", "sha256") + now + bytes(472))
            os.fsync(disk.fileno())
        return hmac.digest(key, b"draw", "sha256").hex()


class Programs:
    """All of them, and the orders that they take."""

    def __init__(self):
        self.tls = Apart(lambda: Tls().hello)
        self.tls_aware = Apart(lambda: Tls(Generation()).hello)
        self.signers = {"signer": Signer(), "signer_aware": Signer(Generation())}
        self.disk = {"disk": OnDisk(0), "disk_aware": OnDisk(1, Generation())}
        self.loop = TightLoop()
        self.own = set()
        self.hardware(2)

    def draw(self, most):
        """Draw so many of each kind; return them by kind."""
        many = range(int(most))
        return {
            "getrandom": [os.getrandom(32).hex() for _ in many],
            "uuid": [str(uuid.uuid4()) for _ in many],
            "tls": [in_a_child(lambda: Tls().hello()) for _ in many],
            "tls_old": [self.tls() for _ in many],
            "tls_aware": [self.tls_aware() for _ in many],
            "hwrng": self.hardware(most),
        }

    def hardware(self, many):
        """Read so many times 16 bytes of the hardware's generator, which QEMU gives the guest."""
        with open("/dev/hwrng", "rb", buffering=0) as generator:
            return [generator.read(16).hex() for _ in range(int(many))]

    def public(self):
        return {name: signer.public for name, signer in self.signers.items()}

    def sign(self, message):
        return {name: signer.sign(message) for name, signer in self.signers.items()}

    def from_disk(self):
        return {name: generator.draw() for name, generator in self.disk.items()}

    def reseed(self):
        """Have the kernel draw a new key, as it does each minute by itself, and more often after a boot.

        So the next one is not due while the test looks.
        """
        with open("/dev/urandom", "wb") as device:
            fcntl.ioctl(device, 0x5207)

    def loop_start(self):
        self.loop.start()

    def loop_drawn(self, first, most):
        return self.loop.drawn(int(first), int(most))

    def loop_stop(self):
        self.loop.stop()

    def counter(self, name, many):
        """Increment a counter of the vault so many times; return its values."""
        folder = undercroft_guest.STATE_FOLDER
        return [
            undercroft_guest.ask(folder, "increment", [name.encode(), 1], 60)[1][0] for _ in range(int(many))
        ]

    def spend(self, name):
        """Spend a token of the vault; return "spent" or why not."""
        try:
            undercroft_guest.ask(undercroft_guest.STATE_FOLDER, "spend", [name.encode(), False], 60)
        except undercroft_guest.RefusedError as refusal:
            return str(refusal)
        return "spent"

    def spend_own(self, name):
        """The same with a list in this program's memory."""
        if name in self.own:
            return "spent before"
        self.own.add(name)
        return "spent"

    def tpm(self, command):
        """Give the virtual TPM a command in hexadecimal digits; return its answer."""
        with open("/dev/tpm0", "r+b", buffering=0) as device:
            device.write(bytes.fromhex(command))
            return device.read(4096).hex()


def find_port():
    """Wait for the port; return its path."""
    folder = "/sys/class/virtio-ports"
    while True:
        for port in os.listdir(folder) if os.path.isdir(folder) else ():
            with open(os.path.join(folder, port, "name")) as file:
                if file.read().strip() == PORT_NAME:
                    return os.path.join("/dev", port)
        time.sleep(0.01)


def main():
    while not os.path.exists(WORD):
        time.sleep(0.01)
    programs = Programs()
    port, held = os.open(find_port(), os.O_RDWR), b""
    while True:
        data = os.read(port, 65536)
        if not data:  # nobody is on the other side
            time.sleep(0.002)
            continue
        *lines, held = (held + data).split(b"\n")
        for line in lines:
            token, order, *arguments = line.decode().split()
            try:
                told = getattr(programs, order)(*arguments)
            except Exception as error:
                told = {"error": repr(error)}
            out = f"{token} {json.dumps(told)}\n".encode()
            while out:
                out = out[os.write(port, out) :]


if __name__ == "__main__":
    main()
