"""`make bench`: 1,000 linked clones judged, judged anew and admitted; beside them the physical limits.

Prints the tables that docs/BENCHMARKS.md holds. All is real: libvirtd, QEMU, hook, agent, sandbox, disk.

    .venv/bin/python bench/fleet.py            # some minutes
    .venv/bin/python bench/fleet.py 200 idle   # fewer machines, one part (see PART)
"""

import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

from clonehost import clone_host, fleetstates, libvirt, uuid_of
from undercroft.steady.policy import Policy
from undercroft.store.fleet.records import open_records
from undercroft.usecases.fleet.verdicts.advising import Advisor
from undercroft.usecases.fleet.verdicts.judging import Judging
from undercroft.usecases.fleet.verdicts.policyfile import PolicyKeeper

COUNT = 1000
STARTS = 60
CALLS = 220
IDLE_S = 30


def main():
    count = next((int(word) for word in sys.argv[1:] if word.isdigit()), COUNT)
    parts = [word for word in sys.argv[1:] if not word.isdigit()] or list(PART)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {_load()}\n")
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))  # a disk, where /tmp may be none
    try:
        with clone_host(folder, count + CALLS) as host:
            host.count = count
            host.define()
            _limits(host)
            for part in parts:
                PART[part](host)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# From `undercroft up` to the last judgement


def _up(host):
    listed = _list_seconds(host.connection)
    seconds = host.wait_for_judgements_after(host.up)
    rows = [("libvirt: list of all machines and their XML", listed, 1.0)]
    rows.append((f"`undercroft up` to the last of {host.count} judgements", seconds, seconds / listed))
    _table(f"Discovery: {host.count} linked clones of a base of 500 packages, never started", rows, "libvirt")


def _own(host):
    """The same after each guest has run and written something of its own: each clone is read by itself."""
    _down(host)
    for number in range(host.count):
        host.image(number)
    time.sleep(1.5)
    listed = _list_seconds(host.connection)
    seconds = host.wait_for_judgements_after(host.up)
    rows = [("libvirt: list of all machines and their XML", listed, 1.0)]
    rows.append((f"`undercroft up` to the last of {host.count} judgements", seconds, seconds / listed))
    _table(
        f"Discovery: {host.count} linked clones that have run, bytes of their own in each", rows, "libvirt"
    )


# New advisories


def _advisories(host):
    _running(host)
    path = host.fleet.folder / "advisories.db"
    whole = []
    for day in range(3):
        _replace_advisories(path, day)
        begun, since_us = time.perf_counter(), time.time_ns() // 1000
        whole.append(host.wait_for_judgements(since_us=since_us) - begun)
    rows = [(f"judging {host.count} machines from the record", _judging_seconds(host, path), None)]
    rows.append(
        ("database replaced to the last judgement, agent looks every 2 s", statistics.median(whole), None)
    )
    _table("New advisories", rows, "")


def _replace_advisories(path, day):
    """Put another database in place, in which every machine's verdict has another reason."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    fleetstates.write_advisories(new, fixed_on=date(2024, 7, 2 + day), known_exploited=day % 2 == 1)
    new.replace(path)


def _judging_seconds(host, path):
    """Judge a copy of the record by advisories that are new to it, as the agent does after its look."""
    with tempfile.TemporaryDirectory(dir=host.fleet.folder) as folder:
        copy = Path(folder) / "fleet.db"
        for source in host.fleet.state.glob("fleet.db*"):
            shutil.copyfile(source, copy.with_name(source.name))
        new = Path(folder) / "advisories.db"
        shutil.copyfile(path, new)
        policy = PolicyKeeper(host.fleet.folder / "policy.yaml", lambda: datetime.now(UTC).date()).policy
        times = []
        with closing(open_records(str(copy))) as records:
            judging = Judging(records, lambda: datetime.now(UTC))
            for day in range(5, 10):
                _replace_advisories(new, day)
                times.append(_judge_once(judging, new, policy))
        return statistics.median(times)


def _judge_once(judging, advisories, policy: Policy):
    started = time.perf_counter()
    now = datetime.now(UTC)
    with Advisor(str(advisories)).advice(now) as advised:
        judging.everything(policy, advised)
    return time.perf_counter() - started


# Admission: the whole process of the hook


def _hook(host):
    _running(host)
    known, fresh, own = [], [], []
    for number in range(CALLS):
        known.append(_prepare(host, number % host.count))
        host.image(host.count + number, ran=False)
        fresh.append(_prepare(host, host.count + number))
        host.image(host.count + number, ran=True)
        own.append(_prepare(host, host.count + number))
    start = _times(["/usr/bin/python3", "-ISB", "-c", "pass"], 60)
    rows = [
        ("bare start of the hook's Python", *_spread(start), ""),
        ("known layers", *_spread(known), "80 ms"),
        ("fresh overlay on a known base", *_spread(fresh), "250 ms"),
        ("new overlay with bytes of its own on a known base", *_spread(own), "250 ms"),
    ]
    _spread_table(f"Admission: whole process of `prepare begin`, {CALLS} calls each", rows)


def _prepare(host, number):
    """Return how long a start of a machine waits for the hook; then tell that it has stopped."""
    name = f"clone{number:04}"
    xml = host.xml(number).encode()
    started = time.perf_counter()
    done = subprocess.run(
        [host.hook, name, "prepare", "begin", "-"], input=xml, capture_output=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{name}: refused: {done.stderr.decode()}{host.fleet.log()[-2000:]}")
    subprocess.run([host.hook, name, "release", "end", "-"], input=xml, capture_output=True, check=True)
    return seconds


# From libvirt's event to the record


def _events(host):
    _running(host)
    libvirt.virEventRegisterDefaultImpl()
    heard = {}
    connection = libvirt.open(host.fleet.daemon.uri)
    connection.domainEventRegisterAny(
        None,
        libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
        lambda _c, domain, kind, _detail, _o: heard.setdefault(
            (domain.UUIDString(), kind), time.perf_counter()
        ),
        None,
    )
    threading.Thread(target=_event_loop, daemon=True).start()
    times = []
    for number in range(STARTS):
        name = f"clone{number:04}"
        domain = connection.lookupByUUIDString(uuid_of(name))
        domain.create()
        times.append(_recorded(host, heard, name, libvirt.VIR_DOMAIN_EVENT_STARTED, "started"))
        domain.destroy()
        times.append(_recorded(host, heard, name, libvirt.VIR_DOMAIN_EVENT_STOPPED, "stopped"))
    rows = [("started and stopped", *_spread(times), "100 ms")]
    _spread_table(f"libvirt's event to the execution on record, {len(times)} events", rows)


def _event_loop():
    while True:
        libvirt.virEventRunDefaultImpl()


def _recorded(host, heard, name, kind, word):
    """Return how long after libvirt told it a machine's event stood in the record."""
    statement = "SELECT count(*) FROM execution WHERE machine = ? AND body LIKE ?"
    deadline = time.perf_counter() + 60
    with closing(_reading(host)) as database:
        while not database.execute(statement, (uuid_of(name), f"%libvirt said at%: {word}%")).fetchone()[0]:
            if time.perf_counter() > deadline:
                raise SystemExit(f"{name}: {word} never came on record: {host.fleet.log()[-2000:]}")
            time.sleep(0.001)
    found = time.perf_counter()
    while (uuid_of(name), kind) not in heard:
        time.sleep(0.001)
    return found - heard[uuid_of(name), kind]


# At rest


def _idle(host):
    _running(host)
    time.sleep(20)
    pid = host.agent_pid()
    before = _cpu_seconds(pid)
    time.sleep(IDLE_S)
    percent = 100 * (_cpu_seconds(pid) - before) / IDLE_S
    print(f"## At rest with {host.count} machines\n\n| | found | goal |\n|---|---|---|")
    print(f"| of one core, over {IDLE_S} s | {percent:.2f} % | under 1 % |")
    print(f"| resident memory of the agent | {_rss_mib(pid):.0f} MiB | under 150 MB |\n")


# The physical limits


def _limits(host):
    path = host.fleet.state / "bench"
    fsyncs = []
    for _ in range(100):
        started = time.perf_counter()
        with path.open("ab") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        fsyncs.append(time.perf_counter() - started)
    path.unlink()
    rows = [
        ("4 KiB written and fsynced on the record's disk", *_spread(fsyncs), ""),
        ("start of Python", *_spread(_times([sys.executable, "-ISB", "-c", "pass"], 30)), ""),
        ("bubblewrap around `true`", *_spread(_times(["bwrap", "--ro-bind", "/", "/", "true"], 30)), ""),
    ]
    _spread_table("Physical limits", rows)


# Help


def _running(host):
    if host.fleet.agent is None:
        host.wait_for_judgements_after(host.up)


def _down(host):
    if host.fleet.agent is not None:
        host.down()


def _reading(host):
    return sqlite3.connect(f"file:{host.record}?mode=ro", uri=True, timeout=30)


def _list_seconds(connection):
    times = []
    for _ in range(5):
        started = time.perf_counter()
        for domain in connection.listAllDomains():
            domain.XMLDesc()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _times(command, runs):
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True)
        times.append(time.perf_counter() - started)
    return times[1:]


def _cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mib(pid):
    line = next(
        one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def _spread(times):
    ordered = sorted(times)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def _spread_table(title, rows):
    print(f"## {title}\n\n| | median | p99 | goal for p99 |\n|---|---|---|---|")
    for name, median, highest, goal in rows:
        print(f"| {name} | {median * 1000:.1f} ms | {highest * 1000:.1f} ms | {goal} |")
    print(f"\n({_load()})\n", flush=True)


def _table(title, rows, unit):
    ratio_to = f"ratio to {unit}" if unit else ""
    print(f"## {title}\n\n| | seconds | {ratio_to} |\n|---|---|---|")
    for name, seconds, ratio in rows:
        print(f"| {name} | {seconds:.3f} | {'' if ratio is None else f'{ratio:.1f}'} |")
    print(f"\n({_load()})\n", flush=True)


def _load():
    return f"load {os.getloadavg()[0]:.1f}"


PART = {
    "up": _up,
    "own": _own,
    "advisories": _advisories,
    "idle": _idle,
    "hook": _hook,
    "events": _events,
}

if __name__ == "__main__":
    main()
