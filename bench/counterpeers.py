"""What the vaults' counters are measured beside: NV counters of a software TPM, and keys of a local etcd.

Each peer counts durably as it knows to: swtpm increments an NV counter and writes its state's file; etcd
compares a key's value and puts the next one in one transaction, over a unix socket, with its own fsync.
"""

import os
import queue
import statistics
import subprocess
import sys
import time
from pathlib import Path

import grpc
import tpm2_pytss

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from softwaretpm import SoftwareTpm

from undercroft.adapters.tpm import COUNTER_INDEX, DeviceTpm

TXN = "/etcdserverpb.KV/Txn"
VALUE = 3
"""What a comparison is about (etcdserverpb.Compare.CompareTarget)."""


def swtpm(folder, seconds):
    """Return increments a second of one NV counter, and the median milliseconds of one."""
    folder.mkdir()
    chip = SoftwareTpm(folder)
    chip.start()
    try:
        tpm = DeviceTpm(chip.tcti)
        tpm.setup()
        tpm.close()
        esys = tpm2_pytss.ESAPI(chip.tcti)
        handle, waits = esys.tr_from_tpmpublic(COUNTER_INDEX), []
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            at = time.perf_counter()
            esys.nv_increment(handle, handle)
            waits.append(time.perf_counter() - at)
        esys.close()
    finally:
        chip.stop()
    return len(waits) / sum(waits), statistics.median(waits) * 1e3


def etcd(folder, clients, batch, seconds):
    """Return what one etcd does.

    Returns:
        The median milliseconds of one client's increment, increments a second with clients x batch of them in
        flight, and the same with one transaction for each batch, of as many names.
    """
    folder.mkdir()
    process = _started(folder)
    try:
        with grpc.insecure_channel(f"unix:{folder}/client:1") as channel:
            store = Store(channel.unary_unary(TXN))
            store.wait_until_it_serves()
            alone = store.alone(300)
            single = store.rate([[b"n%d" % at] for at in range(clients * batch)], seconds)
            names = [[b"b%d-%d" % (each, at) for at in range(batch)] for each in range(clients)]
            return alone, single, store.rate(names, seconds)
    finally:
        process.kill()
        process.wait()


def _started(folder):
    name = "http://127.0.0.1:1"  # what it calls itself: it listens on unix sockets alone
    client, other = "unix://client:1", "unix://peer:1"
    command = [
        "etcd",
        "--data-dir",
        "data",
        "--listen-client-urls",
        client,
        "--advertise-client-urls",
        client,
    ]
    command += ["--listen-peer-urls", other, "--initial-advertise-peer-urls", name]
    command += ["--initial-cluster", f"default={name}"]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


class Store:
    """Counters in an etcd. Its messages are few, and encoded here (Protocol Buffers, wire format)."""

    def __init__(self, transact):
        self.transact = transact
        self.values = {}

    def wait_until_it_serves(self):
        for _ in range(200):
            try:
                self.transact(b"", timeout=5)
            except grpc.RpcError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError("etcd did not start")

    def alone(self, count):
        """Return the median milliseconds of an increment of one client that waits for each."""
        self._begin([b"alone"])
        waits = []
        for _ in range(count):
            at = time.perf_counter()
            self._check([b"alone"], self.transact(self._increments([b"alone"])))
            waits.append(time.perf_counter() - at)
        return statistics.median(waits) * 1e3

    def rate(self, groups, seconds):
        """Return increments a second, with one transaction for each group of names in flight."""
        for names in groups:
            self._begin(names)
        answered, count = queue.SimpleQueue(), 0
        began = time.perf_counter()

        def ask(names):
            call = self.transact.future(self._increments(names))
            call.add_done_callback(lambda done: answered.put((names, done)))

        for names in groups:
            ask(names)
        in_flight = len(groups)
        while in_flight:
            names, done = answered.get()
            self._check(names, done.result())
            in_flight -= 1
            if time.perf_counter() - began < seconds:
                count += len(names)
                ask(names)
                in_flight += 1
        return count / seconds

    def _begin(self, names):
        self.transact(b"".join(_bytes(2, _put(name, b"0")) for name in names))
        self.values |= dict.fromkeys(names, 0)

    def _increments(self, names):
        """Compare each name with what is known of it; where all fit, put the next."""
        values = self.values
        compared = [_integer(2, VALUE) + _bytes(3, name) + _bytes(7, b"%d" % values[name]) for name in names]
        put = [_put(name, b"%d" % (values[name] + 1)) for name in names]
        return b"".join([_bytes(1, each) for each in compared] + [_bytes(2, each) for each in put])

    def _check(self, names, answer):
        """Every one of these has to succeed: nobody else counts."""
        header = 2 + answer[1]
        if answer[header : header + 2] != b"\x10\x01":
            raise RuntimeError("etcd refused an increment")
        for name in names:
            self.values[name] += 1


def _varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


def _bytes(field, data):
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _integer(field, number):
    return _varint(field << 3) + _varint(number)


def _put(name, value):
    return _bytes(2, _bytes(1, name) + _bytes(2, value))


class Plain:
    """Writes of 150 bytes, each with an fdatasync, into room that is there, as the log's are."""

    def __init__(self, path):
        self.handle = os.open(path, os.O_RDWR | os.O_CREAT)
        os.pwrite(self.handle, bytes(1 << 20), 0)
        os.fsync(self.handle)
        self.at = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        os.close(self.handle)

    def write(self):
        os.pwrite(self.handle, b"x" * 150, self.at)
        os.fdatasync(self.handle)
        self.at += 150
