"""Many images in one call: a thousand linked clones of one base, scanned as a folder, as a whole process.

    python bench/manyimages.py [CLONES]

Each clone is an overlay of its own (`qemu-img create -b`) with a few KiB that its guest wrote (`qemu-io`),
where no inventory looks; in the last row each has a host name of its own, so that none is what its base is.
The base's own scan is taken off, as it is paid once. Beside it: the same clones one by one, as a loop would.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from machineimages import debian_tree, make_machine, packages  # noqa: E402 - what the tests have

UNDERCROFT = str(Path(sys.executable).parent / "undercroft")
CLONES = 1000
PACKAGES = 500
OWN_OFFSET = 20 << 20
HOSTNAME = b"web01\n"
ONE_BY_ONE = 20
RUNS = 2


def main():
    """Print the tables."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CLONES
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool"
        pool.mkdir()
        base = make_machine(
            pool / "base.qcow2", [("now", debian_tree(Path(folder) / "tree", packages(PACKAGES)))]
        )
        alone = min(_scan(pool, Path(folder)) for _ in range(RUNS))
        for number in range(count):
            _clone(base, pool / f"clone{number:04}.qcow2", f"write -q -P {number % 255 + 1} {OWN_OFFSET} 8k")
        time.sleep(1.5)
        print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"{count} clones of one base of {PACKAGES} packages; the base alone: {alone[0]:.2f} s\n")
        print("| | seconds | for each clone after the base, ms | of processor time, ms | peak MiB |")
        print("|---|---|---|---|---|")
        _row("first call", min(_scan(pool, Path(folder)) for _ in range(RUNS)), alone, count)
        again = min(_scan(pool, Path(folder), keep=True) for _ in range(RUNS))
        _row("second call, nothing was written since", again, alone, count)
        _row("first call, as lines of JSON", _scan(pool, Path(folder), "-f", "json"), alone, count)
        loop = _one_by_one(pool, base)
        print(f"| one by one, `scan` of {ONE_BY_ONE} | {loop * ONE_BY_ONE:.2f} | {loop * 1000:.1f} | | |")
        _own_names(base, pool, count)
        time.sleep(1.5)
        _row("first call, each clone has a host name of its own", _scan(pool, Path(folder)), alone, count)
        print(f"\nload {os.getloadavg()[0]:.1f} at the end")


def _row(name, measured, alone, count):
    seconds, processor_s, mib = measured
    each = (seconds - alone[0]) * 1000 / count
    worked = (processor_s - alone[1]) * 1000 / count
    print(f"| {name} | {seconds:.2f} | {each:.2f} | {worked:.2f} | {mib:.0f} |", flush=True)


def _scan(pool, folder, *options, keep=False):
    """Return seconds, processor time and peak memory of a scan; the last one's cache goes unless kept."""
    cache = folder / "cache"
    if not keep:
        shutil.rmtree(cache, ignore_errors=True)
    environment = {
        **os.environ,
        "UNDERCROFT_CACHE": str(cache / "images.db"),
        "UNDERCROFT_DATABASE": str(folder / "none.db"),
    }
    command = [UNDERCROFT, "scan", str(pool), *options]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    sandbox = Sandbox(process.pid)
    lines = sum(1 for _line in process.stdout)
    _pid, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 4 or not lines:  # 4: there are no advisories
        raise SystemExit(f"{command} ended with {status}")
    return seconds, usage.ru_utime + usage.ru_stime + sandbox.processor_s(), usage.ru_maxrss / 1024


class Sandbox(threading.Thread):
    """Looks at a program's sandbox until it ends: the time of its warm process and of all its children."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self._pid = pid
        self._ticks = {}
        self.start()

    def run(self):
        """Look, every few milliseconds."""
        with suppress(OSError, ValueError):
            while True:
                for child in _children(self._pid):
                    for warm in _children(child):
                        fields = Path(f"/proc/{warm}/stat").read_text().rsplit(")", 1)[1].split()
                        self._ticks[warm] = sum(map(int, fields[11:15]))
                time.sleep(0.01)

    def processor_s(self):
        """Return the seconds that were seen; it has ended by now."""
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")


def _children(pid):
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(word) for thread in threads for word in (thread / "children").read_text().split()]


def _one_by_one(pool, base):
    clones = sorted(pool.glob("clone*.qcow2"))[:ONE_BY_ONE]
    started = time.perf_counter()
    for clone in clones:
        subprocess.run([UNDERCROFT, "scan", clone, "--backing", base], stdout=subprocess.DEVNULL, check=False)
    return (time.perf_counter() - started) / len(clones)


def _own_names(base, pool, count):
    """Write a host name of its own into each clone, into the block that the file has."""
    raw = pool.parent / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", base, raw], check=True)
    offset = raw.read_bytes().index(HOSTNAME)
    piece = pool.parent / "piece"
    for number in range(count):
        piece.write_bytes(b"%05d\n" % number)
        _write(pool / f"clone{number:04}.qcow2", f"write -q -s {piece} {offset} {len(HOSTNAME)}")


def _clone(base, clone, write):
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", clone], check=True)
    _write(clone, write)


def _write(clone, command):
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, clone], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
