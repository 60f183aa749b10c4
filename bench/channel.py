"""What a frame of the channel costs, on the host's side and on the guest's, in processor time.

    .venv/bin/python bench/channel.py           # half a minute; needs no root
    .venv/bin/python bench/channel.py quick

A request and its answer are a frame each way, sealed, with a standing that is kept in shared memory. The
round trip is over a socket pair to a helper in a process of its own, without the vault.
"""

import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from channelpair import BOOT, Guest, Host, helper, meet

from undercroft.channel.messages import Answers
from undercroft.channel.requests import Answer, Outcome, Rests
from undercroft.channel.session import Message, Ready

STEPS = ("guest seals", "host opens", "host seals", "guest opens")
BATCHES = (1, 16, 64)
ROUND = 50


def main():
    rounds = 300 if "quick" in sys.argv else 5_000
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        print(f"| increments in a frame | {' | '.join(STEPS)} | both sides, us | bytes there, back |")
        print("|---|---|---|---|---|---|---|")
        for batch in BATCHES:
            costs, sizes = frames(batch, rounds, folder)
            shown = " | ".join(f"{each:.0f}" for each in costs)
            print(f"| {batch} | {shown} | {sum(costs):.0f} | {sizes[0]}, {sizes[1]} |")
        host, guest = handshakes(max(20, rounds // 50), folder)
        print(f"\nA handshake: host {host:.2f} ms, guest {guest:.2f} ms of processor time.")
        waits = round_trips(rounds, folder)
        p50, p99 = statistics.median(waits), statistics.quantiles(waits, n=100)[98]
        print(f"A ping's round trip to a helper in a process of its own: p50 {p50:.0f} us, p99 {p99:.0f} us.")


def pair(folder):
    """A session between both sides, the guest's standing in shared memory."""
    host, guest = Host(), Guest()
    guest.session.standing = helper.Page(os.path.join(folder, "standing"), BOOT)
    meet(host, guest)
    return host, guest


def frames(batch, rounds, folder):
    """Return the median microseconds of each step, and the sizes of both frames.

    A round is `ROUND` frames, one step after the other: to ask for the time may cost more than a frame.
    """
    host, guest = pair(folder)
    asked = [[1, b"counter-%d" % place, 1] for place in range(batch)]
    told = tuple(Answer(Outcome.OK, Rests.SYNCED, ((5 << 40) + place,)) for place in range(batch))
    clock, steps = time.thread_time_ns, ([], [], [], [])
    for _ in range(rounds // ROUND):
        begun = clock()
        there = [guest.say([5, 1 + place * batch, asked]) for place in range(ROUND)]
        sealed = clock()
        events = [host.session.receive(line) for line in there]
        opened = clock()
        back = [host.session.seal(Answers(1 + place * batch, told)) for place in range(ROUND)]
        answered = clock()
        for line in back:
            guest.session.receive(line)
        done = clock()
        assert all(isinstance(event, Message) for (event,) in events)
        for step, cost in zip(
            steps, (sealed - begun, opened - sealed, answered - opened, done - answered), strict=True
        ):
            step.append(cost / 1000 / ROUND)
    return [statistics.median(step) for step in steps], (len(there[0]), len(back[0]))


def handshakes(rounds, folder):
    """Return the median milliseconds of a handshake for the host and for the guest."""
    host, guest = pair(folder)
    hosts, guests = [], []
    for _ in range(rounds):
        guest.session.prepare()  # as an idle helper does
        begun = time.thread_time()
        hello = host.session.begin()
        sent = time.thread_time()
        answer = guest.take(hello)
        answered = time.thread_time()
        (event,) = host.session.receive(answer)
        assert isinstance(event, Ready)
        hosts.append((sent - begun + time.thread_time() - answered) * 1000)
        guests.append((answered - sent) * 1000)
        guest.take(host.session.welcome(1, None, 1))
    return statistics.median(hosts), statistics.median(guests)


def round_trips(rounds, folder):
    """Return the microseconds of each ping to a process and back."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        guest = Guest()
        guest.session.standing = helper.Page(os.path.join(folder, "other"), BOOT)
        while data := theirs.recv(65_536):
            theirs.sendall(guest.take(data) or b"\0")
        os._exit(0)
    theirs.close()
    host, waits = Host(), []
    for data in (host.session.begin(), None):
        ours.sendall(data or host.session.welcome(1, None, 1))
        host.take(ours.recv(65_536))
    for _ in range(rounds):
        begun = time.perf_counter()
        ours.sendall(host.session.ping())
        while not host.session.receive(ours.recv(65_536)):
            continue
        waits.append((time.perf_counter() - begun) * 1e6)
    ours.close()
    os.waitpid(child, 0)
    return waits


if __name__ == "__main__":
    main()
