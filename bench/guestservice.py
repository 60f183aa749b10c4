"""The whole way of a guest's request: the guest service in its own process, guests beside it, and its peers.

    .venv/bin/python bench/guestservice.py [FOLDER]     # a minute and a half; as root; FOLDER says which disk
    .venv/bin/python bench/guestservice.py quick

The guests run the helper's own session (guest/undercroft_guest.py), all in one process beside the service, on
the same processors: sealed frames over sockets, group commit, one write and one fdatasync for a group. Beside
it, in the same run and on the same disk: a write with an fdatasync, a software TPM's NV counter, an etcd.
"""

import json
import os
import select
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.guesthost import PlayedGuest, ServiceProcess, eid, machine

import counterpeers

GUESTS, BATCH = 32, 16
GOAL_RATE, GOAL_OVER_MS, GOAL_TRIP_US = 30_000, 0.5, 150
TICKS = os.sysconf("SC_CLK_TCK")
INCREMENT, RANDOM = 1, 12
REQUEST_BYTES, SERIES = 75, 50
"""A sealed request for 32 random bytes, on the line; and how many follow each other."""


def main():
    quick = "quick" in sys.argv
    where = next((each for each in sys.argv[1:] if each != "quick"), None)
    seconds, count = (2, 200) if quick else (8, 1_000)
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        service = ServiceProcess(folder, confined=os.geteuid() == 0)
        try:
            client = service.start().client()
            rates = [together(client, service.process.pid, depth, seconds) for depth in (1, 4)]
            with counterpeers.Plain(folder / "plain") as plain:
                synced, alone, trip = waits(client, plain, count)
            trips = there_and_back(client, service.process.pid, count)
        finally:
            service.close()
        chip = counterpeers.swtpm(folder / "tpm", seconds / 2)
        store = counterpeers.etcd(folder / "etcd", GUESTS, BATCH, seconds)
    table(rates, alone, synced, trip, chip, store)
    table_of_trips(trips)


def together(client, pid, depth, seconds):
    """Let all guests ask at once, each with `depth` batches in flight.

    Returns increments a second, and microseconds of the service's and of the guests' processor for each.
    """
    guests = [PlayedGuest(client, machine(at), eid(depth)).meet() for at in range(1, GUESTS + 1)]
    end, begin = os.pipe()
    before = spent(pid)
    child = os.fork()
    if child == 0:
        os.close(end)
        os.write(begin, json.dumps(crowd(guests, depth, seconds)).encode())
        os._exit(0)
    os.close(begin)
    with open(end, "rb") as pipe:
        found = json.loads(pipe.read())
    os.waitpid(child, 0)
    service = spent(pid) - before
    for guest in guests:
        guest.close()
    answered = found["answered"]
    return answered / found["seconds"], service / answered * 1e6, found["processor"] / answered * 1e6


def crowd(guests, depth, seconds):
    """Be the guests: ask, and ask again with each answer; every value has to be the one after the last."""
    requests = [[INCREMENT, b"counter", 1]] * BATCH
    poll, by_line, last = select.epoll(), {}, {}
    for guest in guests:
        guest.line.setblocking(False)
        poll.register(guest.line.fileno(), select.EPOLLIN)
        by_line[guest.line.fileno()] = guest

    def ask(guest):
        standing = guest.session.standing
        guest.session.send([5, standing.next_request, requests])
        standing.next_request += BATCH

    answered = 0
    began, cost = time.perf_counter(), time.process_time()
    for guest in guests:
        for _ in range(depth):
            ask(guest)
        send(guest)
    while (now := time.perf_counter()) - began < seconds:
        for line, _ in poll.poll(1):
            guest = by_line[line]
            for event in guest.session.receive(guest.line.recv(1 << 16)):
                if event[0] != "answers":
                    raise RuntimeError(f"a guest was told {event!r:.80}")
                for answer in event[2]:
                    if answer[:2] != [0, 1] or answer[2] != last.get(line, answer[2] - 1) + 1:
                        raise RuntimeError(f"a guest was answered {answer!r:.80}")
                    last[line] = answer[2]
                answered += len(event[2])
                ask(guest)
            send(guest)
    return {"answered": answered, "seconds": now - began, "processor": time.process_time() - cost}


def send(guest):
    out = guest.session.out
    del out[: guest.line.send(out)]


def waits(client, plain, count):
    """Return median milliseconds: write and fdatasync, an increment, there and back without a write.

    One after the other in turns, so that what else the machine does falls on all of them.
    """
    guest = PlayedGuest(client, machine(100), eid(1)).meet()
    found = [[], [], []]
    calls = ((found[0], plain.write), (found[1], lambda: guest.answer([INCREMENT, b"counter", 1])))
    for _ in range(count):
        for times, call in calls:
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        found[2].append(trip(guest))
    guest.close()
    return [statistics.median(each) * 1e3 for each in found]


def trip(guest):
    """Return the seconds from a sealed request at the host's socket to its sealed answer, without a write."""
    standing = guest.session.standing
    guest.session.send([5, standing.next_request, [[RANDOM, 32]]])
    standing.next_request += 1
    sealed = guest.sent()
    began = time.perf_counter()
    guest.line.sendall(sealed)
    while True:  # a ping may come before it
        data = guest.line.recv(1 << 16)
        spent_s = time.perf_counter() - began
        told = guest.session.receive(data)
        guest.push()
        if told:
            return spent_s


class Echo:
    """The least that a service at a socket can be: another process sends back what came."""

    def __init__(self):
        self.line, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.line.close()
            poll = select.epoll()
            poll.register(theirs.fileno(), select.EPOLLIN)
            while poll.poll() and (data := theirs.recv(1 << 16)):
                theirs.sendall(data)
            os._exit(0)
        theirs.close()

    def trip(self):
        """Return the seconds there and back of as many bytes as a sealed request has."""
        began = time.perf_counter()
        self.line.sendall(bytes(REQUEST_BYTES))
        self.line.recv(1 << 16)
        return time.perf_counter() - began

    def close(self):
        self.line.close()
        os.waitpid(self.pid, 0)


def there_and_back(client, pid, count):
    """Return, by where they run, median microseconds of the service and of a bare echo.

    Requests follow each other, in series that take turns with the echo's. On two processors each side wakes
    the other's from idling.
    """
    every = sorted(os.sched_getaffinity(0))
    threads = [int(each) for each in os.listdir(f"/proc/{pid}/task")]
    guest, echo, found = PlayedGuest(client, machine(101), eid(1)).meet(), Echo(), {}
    places = (
        ("wherever the kernel puts them", every, every),
        ("on one processor", every[:1], every[:1]),
        ("on two processors", every[:1], every[-1:]),
    )
    for what, ours, theirs in places:
        os.sched_setaffinity(0, ours)
        for thread in (*threads, echo.pid):
            os.sched_setaffinity(thread, theirs)
        times = [[], []]
        for _ in range(count // SERIES):
            times[0] += [trip(guest) for _ in range(SERIES)]
            times[1] += [echo.trip() for _ in range(SERIES)]
        found[what] = [statistics.median(each) * 1e6 for each in times]
    for thread in (0, *threads):
        os.sched_setaffinity(thread, every)
    echo.close()
    guest.close()
    return found


def table_of_trips(trips):
    print("\n| there and back, requests that follow each other | service, us | bare echo, us | goal |")
    print("|---|---|---|---|")
    for what, (service, echo) in trips.items():
        print(f"| {what} | {service:.0f} | {echo:.0f} | under {GOAL_TRIP_US} us |")


def spent(pid):
    """Return the seconds of the processor that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def table(rates, alone, synced, trip, chip, store):
    best = rates[-1][0]
    print("| durable increments | a second | ratio |")
    print("|---|---|---|")
    for depth, (rate, service, guests) in zip((1, 4), rates, strict=True):
        cost = f"{service:.0f} us of the processor each, the guests {guests:.0f}"
        print(f"| {GUESTS} guests, {depth} x {BATCH} in flight; {cost} | {rate:,.0f} | {rate / best:.3f} |")
    rows = [("etcd, one transaction of 16 names for each of 32 clients", store[2])]
    rows += [("etcd, 512 transactions in flight", store[1]), ("swtpm, one NV counter", chip[0])]
    for what, rate in rows:
        print(f"| {what} | {rate:,.0f} | {rate / best:.3f} |")
    print("\n| one client waits, median | ms | over fdatasync |")
    print("|---|---|---|")
    for what, wait in (
        ("a write and an fdatasync alone", synced),
        ("an increment through the service", alone),
        ("an increment in etcd", store[0]),
        ("an NV increment of swtpm, which syncs nothing", chip[1]),
        ("from a sealed request at the host's socket to its sealed answer, no write", trip),
    ):
        print(f"| {what} | {wait:.3f} | {wait - synced:+.3f} |")
    print("\n| goal | found |")
    print("|---|---|")
    print(f"| {GOAL_RATE:,} durable increments a second | {rates[0][0]:,.0f} |")
    print(f"| one client: fdatasync and at most {GOAL_OVER_MS} ms | {alone - synced:+.3f} ms |")


if __name__ == "__main__":
    main()
