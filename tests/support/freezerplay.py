"""Runs in namespaces of its own (test_guest_freezer.py): counters, forks, threads, and a freezer.

freezerplay.py signals|groups|restart|gone FOLDER [LIBRARY]      prints what it found as JSON

LIBRARY is the small helper's freezer, built of reseedprobe.c.
"""

import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HOW, FOLDER = sys.argv[1], Path(sys.argv[2])
LIBRARY = ctypes.CDLL(sys.argv[3]) if len(sys.argv) > 3 else None
HELPER = Path(__file__).parents[2] / "guest" / "undercroft_guest.py"
BEGIN = "import os, time\nn = 0\nf = open({path!r}, 'w')\n"
BEGIN += "while True:\n n += 1; f.seek(0); f.write(str(n)); f.flush()\n"
COUNT = BEGIN + " time.sleep(0.001)"
THREAD = "import threading, ctypes\ndef count():\n " + COUNT.replace("\n", "\n ") + "\n"
KINDS = {
    "counts": COUNT,
    "forks": BEGIN + " if os.fork(): os._exit(0)",
    "threads": THREAD + "threading.Thread(target=count).start()\nctypes.CDLL(None).pthread_exit(None)",
}


def load():
    spec = importlib.util.spec_from_file_location("undercroft_guest", HELPER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SignalsOnly:
    """Mixed into a freezer: it finds no groups."""

    def _base(self):
        return None


class Small:
    """The small helper's freezer, as that of the other helper."""

    def __init__(self, record):
        LIBRARY.probe_thaw.restype = ctypes.c_uint64
        LIBRARY.probe_active.restype = ctypes.c_bool
        ctypes.c_int.in_dll(LIBRARY, "probe_may_signal").value = 1
        assert LIBRARY.probe_begin(os.path.dirname(record).encode(), b"")

    def freeze(self, number):
        text, count = ctypes.create_string_buffer(200), ctypes.c_uint64()
        done = LIBRARY.probe_freeze(ctypes.c_uint64(number), text, ctypes.byref(count))
        return bool(done & 1), count.value, text.value.decode()

    def thaw(self):
        return LIBRARY.probe_thaw()

    def active(self):
        return LIBRARY.probe_active()


def counts():
    return {kind: (FOLDER / kind).read_text() for kind in KINDS}


def moved(wait_s):
    """Return which have counted on after a while."""
    before = counts()
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        time.sleep(0.02)
    after = counts()
    return sorted(kind for kind in KINDS if before[kind] != after[kind])


def all_move():
    """Wait until all have counted on: a busy machine gives them little."""
    until = time.monotonic() + 30
    before = counts()
    while time.monotonic() < until:
        time.sleep(0.02)
        after = counts()
        if all(before[kind] != after[kind] for kind in KINDS):
            return True
    return False


def group_of(pid):
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


def guard():
    """Refuse to freeze anything unless this is a PID namespace of the test's own, and the groups are too."""
    others = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    assert os.getpid() < 10, os.getpid()
    assert len(others) < 10, others
    if HOW == "signals" and LIBRARY is None:
        return
    subprocess.run(["umount", "-l", "/sys/fs/cgroup"], check=True)
    if HOW == "signals":
        return
    mount = FOLDER / "cgroup"
    mount.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "none", mount], check=True)
    inside = {int(each) for each in (mount / "cgroup.procs").read_text().split()}  # 0: outside this namespace
    assert max(inside) < 50, inside
    (mount / "services").mkdir()


def main():
    guard()
    helper = load()
    kind = type("Freezer", (SignalsOnly, helper.Freezer), {}) if HOW == "signals" else helper.Freezer
    kind = Small if LIBRARY else kind
    started = [
        subprocess.Popen([sys.executable, "-ISc", text.format(path=str(FOLDER / name))])
        for name, text in KINDS.items()
    ]
    stopped = subprocess.Popen(["sleep", "1000"])
    stopped.send_signal(signal.SIGSTOP)
    while not all((FOLDER / name).exists() and (FOLDER / name).read_text() for name in KINDS):
        time.sleep(0.02)
    if HOW != "signals":
        (FOLDER / "cgroup/services/cgroup.procs").write_text(str(started[0].pid))
    if HOW == "gone":  # a group that was listed, and removed before the kernel had frozen it
        (FOLDER / "frozen").write_text(f"quiesce 2\ngroup {FOLDER}/cgroup/gone\n")
    found = {"control": all_move()}
    freezer = kind(str(FOLDER / "frozen"))
    found["frozen"], found["count"], found["text"] = freezer.freeze(3)
    found["still"] = moved(0.3)
    if HOW != "signals":
        found["first_frozen"] = group_of(1) == "/" + helper.POOL
    if HOW == "restart":
        freezer = kind(str(FOLDER / "frozen"))
        assert freezer.active()
    found["thawed"] = freezer.thaw()
    found["again"] = all_move()
    state = Path(f"/proc/{stopped.pid}/stat").read_text().rpartition(")")[2].split()[0]
    found["kept_stopped"] = state == "T"
    if HOW != "signals":
        found["back"] = group_of(1) == "/"
        assert (FOLDER / "cgroup/services/cgroup.freeze").read_text().strip() == "0"
    assert not (FOLDER / "frozen").exists()
    sys.stdout.write(json.dumps(found))


main()
