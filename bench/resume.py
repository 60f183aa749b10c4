"""How long a resumed guest takes until it answers, and until it has confirmed its seed, with either helper.

    .venv/bin/python bench/resume.py            # a minute; needs QEMU, busybox and a kernel from apt
    .venv/bin/python bench/resume.py quick

The guest runs without acceleration. It was quiesced for its snapshot; each resume is a load of that, and the
time is from QEMU's `cont` on. There are no hooks.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import channelguest
from channelguest import ChannelGuest
from channelpair import Host
from reseedguest import SILENT, ReseedGuest

from undercroft.channel.messages import Confirmed, Quiesce, Quiesced
from undercroft.channel.session import Ready

PYTHONS = SILENT.replace("/undercroft-reseed", "/usr/bin/python3 -ISB /undercroft_guest.py run")


def main():
    resumes = 5 if "quick" in sys.argv else 20
    print("| helper | answer, ms: median, most | confirmed, ms: median, most |")
    print("|---|---|---|")
    for name, start in (("C", small), ("Python", python)):
        with tempfile.TemporaryDirectory() as folder:
            guest = start(Path(folder))
            try:
                answers, confirms = measured(guest, resumes)
            finally:
                guest.close()
        shown = [f"{statistics.median(each):.0f}, {max(each):.0f}" for each in (answers, confirms)]
        print(f"| {name} | {shown[0]} | {shown[1]} |", flush=True)


def small(folder):
    return ReseedGuest(folder, workload=SILENT)


def python(folder):
    channelguest._WORKLOAD = PYTHONS  # noqa: SLF001 - the same guest with another script
    return ChannelGuest(folder)


def measured(guest, resumes):
    """Return the milliseconds to each answer, and to each confirmation."""
    guest.meet(os.urandom(32), 1)
    guest.until(lambda: guest.said(Confirmed))
    guest.line.send(guest.host.session.seal(Quiesce(1)))
    (quiesced,) = guest.until(lambda: guest.said(Quiesced))
    assert quiesced.frozen
    guest.order("savevm quiesced")
    times = [resumed(guest, number) for number in range(resumes)]
    return [answered for answered, _ in times], [confirmed for _, confirmed in times]


def resumed(guest, number):
    """Load the snapshot as another execution; return when it answered and when it confirmed."""
    guest.order("stop")
    guest.order("loadvm quiesced")
    guest.host = Host(eid=bytes([number]) * 16)
    guest.line.setblocking(True)
    begun = time.perf_counter()
    guest.order("cont")
    guest.line.sendall(guest.host.session.begin())
    taken_until(guest, lambda: any(isinstance(event, Ready) for event in guest.host.events))
    answered = time.perf_counter()
    guest.line.sendall(guest.host.session.welcome(2 + number, os.urandom(32), 1))
    taken_until(guest, lambda: guest.said(Confirmed))
    done = time.perf_counter()
    guest.line.setblocking(False)
    assert guest.said(Confirmed)[0].credited
    return (answered - begun) * 1000, (done - begun) * 1000


def taken_until(guest, done):
    while not done():
        guest.host.take(guest.line.recv(65_536))


if __name__ == "__main__":
    main()
