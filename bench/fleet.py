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
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from clonehost import POLICY, clone_host, fleetstates, libvirt, uuid_of
from undercroft.model.domain import Survey
from undercroft.steady.policy import Policy
from undercroft.store.fleet.records import open_records
from undercroft.usecases.fleet.verdicts.advising import Advisor
from undercroft.usecases.fleet.verdicts.judging import Judging
from undercroft.usecases.fleet.verdicts.policyfile import PolicyKeeper
from undercroft.usecases.fleet.views.fleet import fleet_view

COUNT = 1000
STARTS = 60
CALLS = 220
IDLE_S = 30
FIREWALL = """labels: {clones: {machines: "clone*"}}
firewall:
  - {from: clones, to: clones, allow: [tcp/443]}
  - {from: world, to: clones, allow: [tcp/443]}
"""


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
    _discovered(host, "of a base of 500 packages, never started")


def _own(host):
    """The same after each guest has run and written something of its own: each clone is read by itself."""
    _down(host)
    for number in range(host.count):
        host.image(number)
    time.sleep(1.5)
    _discovered(host, "that have run, bytes of their own in each")


def _discovered(host, which):
    listed = _list_seconds(host.connection)
    seconds = host.wait_for_judgements_after(host.up)
    pid = host.agent_pid()
    sandbox = host.sandbox_pid()
    rows = [("libvirt: list of all machines and their XML", listed, 1.0)]
    rows.append((f"`undercroft up` to the last of {host.count} judgements", seconds, seconds / listed))
    for name, taken in (
        ("processor time of that: the agent", _cpu_seconds(pid)),
        ("the sandbox's warm process, which forks", _cpu_seconds(sandbox)),
        ("its children", _cpu_seconds(sandbox, children=True)),
    ):
        rows.append((name, taken, None))
    _table(f"Discovery: {host.count} linked clones {which}", rows, "libvirt")


# New advisories


def _advisories(host):
    _running(host)
    path = host.fleet.folder / "advisories.db"
    whole = []
    for day in range(3):
        _replace_advisories(path, day)
        begun, since_us = time.perf_counter(), time.time_ns() // 1000
        whole.append(host.wait_for_judgements(since_us=since_us) - begun)
    rows = [(f"judging {host.count} machines from the record", _judging_seconds(host), None)]
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


def _judging_seconds(host):
    """Judge a copy of the record by advisories that are new to it, as the agent does after its look."""
    with _copied_record(host) as (path, advisories, policy), closing(open_records(str(path))) as records:
        judging = Judging(records, lambda: datetime.now(UTC))
        times = []
        for day in range(5, 10):
            _replace_advisories(advisories, day)
            started = time.perf_counter()
            _judge_once(judging, advisories, policy)
            times.append(time.perf_counter() - started)
        return statistics.median(times)


@contextmanager
def _copied_record(host):
    """Give a copy of the record, one of the advisories, and the policy."""
    with tempfile.TemporaryDirectory(dir=host.fleet.folder) as folder:
        copy, advisories = Path(folder) / "fleet.db", Path(folder) / "advisories.db"
        with closing(_reading(host)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)  # one moment of it, while the agent writes
        shutil.copyfile(host.fleet.folder / "advisories.db", advisories)
        keeper = PolicyKeeper(host.fleet.folder / "policy.yaml", lambda: datetime.now(UTC).date())
        yield copy, advisories, keeper.policy


def _judge_once(judging, advisories, policy: Policy, only=()):
    with Advisor(str(advisories)).advice(datetime.now(UTC)) as advised:
        judging.everything(policy, advised, only)


# Judging, by the number of machines on record


def _judging(host):
    """Processor time of judging, also of a record that holds each machine ten times, under other UUIDs."""
    _running(host)
    rows = []
    for times in (1, 10):
        with _copied_record(host) as (path, advisories, policy), closing(open_records(str(path))) as records:
            _multiply(records, times)
            judging = Judging(records, lambda: datetime.now(UTC))
            whole = []
            for day in range(5, 8):
                _replace_advisories(advisories, day)
                whole.append(_cpu_of(_judge_once, judging, advisories, policy))
            one = f"machine:{uuid_of('clone0000')}"
            single = [_cpu_of(_judge_once, judging, advisories, policy, (one,)) for _ in range(20)]
            table = [_cpu_of(_table_of, records) for _ in range(3)]
        many = f"{host.count * times:,} on record"
        rows.append((f"{many}: new advisories, all judged", statistics.median(whole), None))
        rows.append((f"{many}: one machine judged", statistics.median(single), None))
        rows.append((f"{many}: the table of `undercroft fleet` made", statistics.median(table), None))
    _table("Judging and the table, processor time", rows, "")


def _multiply(records, times):
    """Put each machine on record again under other UUIDs, with its subject and its scan."""
    with records.transaction() as record:
        machines, scans = record.machines(), record.scans()
        subjects = {subject.machine: subject for subject in record.subjects() if subject.kind == "machine"}
        host, domains = machines[0].host, [machine.domain for machine in machines]
        for turn in range(1, times):
            for machine in machines:
                name = f"{machine.domain.name}-{turn}"
                subject = subjects[machine.domain.uuid]
                key = f"machine:{uuid_of(name)}"
                domains.append(replace(machine.domain, uuid=uuid_of(name), name=name))
                record.put_subject(replace(subject, key=key, name=name, machine=uuid_of(name)))
                record.put_scan(replace(scans[subject.key], subject=key))
        domains.sort(key=lambda domain: domain.name)
        record.put_survey(Survey(host, "", datetime.now(UTC), tuple(domains), record.volumes(host)))


def _table_of(records):
    with records.reading() as record:
        fleet_view(record, datetime.now(UTC))


def _cpu_of(call, *arguments):
    started = time.process_time()
    call(*arguments)
    return time.process_time() - started


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
    """At rest: when the credentials of all have been read too, which is done last and one by one."""
    _running(host)
    seconds = host.wait_for_credentials() - host.started_at
    time.sleep(5)
    pid, sandbox = host.agent_pid(), host.sandbox_pid()
    before = _cpu_seconds(pid)
    time.sleep(IDLE_S)
    percent = 100 * (_cpu_seconds(pid) - before) / IDLE_S
    print(f"## At rest with {host.count} machines\n\n| | found | goal |\n|---|---|---|")
    print(f"| of one core, over {IDLE_S} s | {percent:.2f} % | under 1 % |")
    print(f"| resident memory of the agent | {_mib(pid, 'Rss'):.0f} MiB | under 150 MB (143 MiB) |")
    print(f"| of that its own, shared with no other process | {_own_mib(pid):.0f} MiB | |")
    filtered = _filtered_mib(host)
    print(f"| resident, with a firewall policy in force and proven | {filtered:.0f} MiB | the same |")
    print(f"| beside it: the sandbox's warm process, its own | {_own_mib(sandbox):.0f} MiB | |")
    print(f"| from `undercroft up` until accounts and keys of all are known | {seconds:.0f} s | |\n")


def _filtered_mib(host):
    """Apply a policy, wait until the kernel's table is proven, and return the agent's memory after it."""
    host.fleet.policy(POLICY + FIREWALL)
    path = str(host.fleet.folder / "policy.yaml")
    host.fleet.undercroft("firewall", "apply", "--policy", path, "--reason", "bench", check=True)
    with host.fleet.records() as records:
        host.fleet.wait(lambda: _is_proven(records), "the table is proven")
    time.sleep(20)  # what proving took is given back a little later
    return _mib(host.agent_pid(), "Rss")


def _is_proven(records):
    with records.reading() as record:
        return any(state.number and state.proven_at for state in record.filter_states())


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


def _cpu_seconds(pid, *, children=False):
    """Return the processor time of a process so far, or of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    first = 13 if children else 11
    return (int(fields[first]) + int(fields[first + 1])) / os.sysconf("SC_CLK_TCK")


def _mib(pid, what):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{what}:")).split()[1]) / 1024


def _own_mib(pid):
    return _mib(pid, "Private_Clean") + _mib(pid, "Private_Dirty")


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
    "judging": _judging,
    "idle": _idle,
    "hook": _hook,
    "events": _events,
}

if __name__ == "__main__":
    main()
