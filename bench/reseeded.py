"""How long a restored guest waits for fresh randomness, through the guest service as it runs on a host.

    .venv/bin/python bench/reseeded.py            # a minute
    .venv/bin/python bench/reseeded.py quick

A real guest under QEMU without acceleration is restored from its RAM again and again, each time in a new
process. The clock begins when the monitor is told to let it run; the guest service is then given its socket,
and tells when the guest has credited its seed, emptied the virtual generator and thawed. There are no hooks.
What the helper alone takes is in bench/resume.py.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import resumelab

GOAL_MS = 100


def main():
    count = 8 if "quick" in sys.argv else 30
    if resumelab.missing():
        sys.exit(resumelab.missing())
    print("| resume to reseeded, under TCG | median, ms | least | most | goal |\n|---|---|---|---|---|")
    for helper in resumelab.HELPERS:
        with resumelab.lab(helper=helper) as lab:
            guest = lab.boot()
            lab.layer.seed(guest)
            lab.layer.quiesce(guest)
            file, _ = lab.save(guest)
            waits = sorted(resumed(lab, file, guest) for _ in range(count))
        told = f"{statistics.median(waits):.0f} | {waits[0]:.0f} | {waits[-1]:.0f} | under {GOAL_MS} ms"
        print(f"| quiesced guest, helper of {helper}, {count} times | {told} |", flush=True)


def resumed(lab, file, guest):
    """Restore the guest once; return the milliseconds."""
    again = lab.restore(file, guest.disk, guest.state, paused=True)
    begun = time.perf_counter()
    again.monitor("cont")
    lab.layer.seed(again)
    took = (time.perf_counter() - begun) * 1000
    again.end()
    return took


if __name__ == "__main__":
    main()
