"""`make bench`: Undercroft against its peers and against the physical limit, in one run, as ratios.

Prints the tables that docs/BENCHMARKS.md holds. Times are the median of several runs with a warm page
cache; a peer that is not installed is named as such.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from guest import CACHE, bench_image
from matching import match_seconds

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
UNDERCROFT = str(BIN / "undercroft")
RUNS = 9


def main():
    image = bench_image()
    database = CACHE / "advisories.db"
    environment = {**os.environ, "UNDERCROFT_DATABASE": str(database)}
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    _inventory(image, environment)
    _read_all(image)
    _memory(image, environment)
    _matching()
    _help(environment)


def _inventory(image, environment):
    ours = _median([UNDERCROFT, "packages", str(image)], environment)
    scan = _median([UNDERCROFT, "scan", str(image)], environment)
    peers = {
        "pytsk3, bare script, no sandbox": [sys.executable, HERE / "peers/tsk_packages.py", image],
        "dissect.target": [sys.executable, HERE / "peers/dissect_packages.py", image],
    }
    rows = [
        ("`undercroft packages`, sandboxed", ours, 1.0),
        ("`undercroft scan`, sandboxed", scan, scan / ours),
    ]
    for name, command in peers.items():
        seconds = _median([str(part) for part in command], environment)
        rows.append((name, seconds, seconds and seconds / ours))
    if shutil.which("virt-inspector"):
        direct = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
        command = ["virt-inspector", "-a", str(image), "--no-icon"]
        seconds = _median(command, {**environment, **direct}, runs=2)
        rows.append(("virt-inspector (TCG)", seconds, seconds and seconds / ours))
    _table("Inventory of a machine, whole process", rows, "time of `packages`")


def _read_all(image):
    command = [sys.executable, str(HERE / "read_all.py"), str(image)]
    answers = [_answer(command) for _ in range(7)]
    size, files = answers[0][:2]
    seconds = statistics.median(answer[2] for answer in answers)
    raw = statistics.median(answer[3] for answer in answers)
    stream = statistics.median(_pread_seconds(image, int(size)) for _ in range(7))
    rows = [
        ("pread of the same ranges", raw, 1.0),
        (f"read of {files:.0f} files", seconds, seconds / raw),
        ("pread of as many bytes in one piece, 256 KiB at a time", stream, stream / raw),
    ]
    _table(f"Reading all files ({size / (1 << 20):.0f} MiB)", rows, "pread")


def _answer(command):
    return tuple(float(word) for word in subprocess.check_output(command, text=True).split())


def _pread_seconds(image, size):
    descriptor = os.open(image, os.O_RDONLY)
    total = os.fstat(descriptor).st_size
    started = time.perf_counter()
    done = 0
    while done < size:
        done += len(os.pread(descriptor, min(1 << 18, size - done), done % (total - (1 << 20))))
    seconds = time.perf_counter() - started
    os.close(descriptor)
    return seconds


def _memory(image, environment):
    print("## Peak memory of a whole scan in one process (--no-sandbox)\n\n| image | MiB |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        huge = Path(folder) / "huge.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", huge, "16T"], check=True)
        for name, path in (("benchmark guest", image), ("empty 16 TiB qcow2", huge)):
            command = [UNDERCROFT, "scan", "--no-sandbox", str(path)]
            print(f"| {name} | {_peak_mib(command, environment):.0f} |")
    print()


def _peak_mib(command, environment):
    """Run in a child of its own, whose RUSAGE_CHILDREN then holds only this command's processes."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    output = subprocess.check_output([sys.executable, "-c", code, *command], env=environment, text=True)
    return int(output) / 1024


def _matching():
    rows = [(name, seconds, None) for name, seconds in match_seconds()]
    _table("Matching without reading a disk, database query included", rows, "")


def _help(environment):
    bare = _median([sys.executable, "-c", "pass"], environment)
    ours = _median([UNDERCROFT, "--help"], environment)
    _table(
        "Start", [("python -c pass", bare, 1.0), ("`undercroft --help`", ours, ours / bare)], "bare Python"
    )


def _median(command, environment, runs=RUNS):
    """Return the median wall time, None where the command fails (a peer that is missing or broken)."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        done = subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        times.append(time.perf_counter() - started)
        if done.returncode not in (0, 4):
            print(f"<!-- {command[0]} failed: {done.stderr[-200:]!r} -->")
            return None
    return statistics.median(times[1:])


def _table(title, rows, unit):
    ratio_to = f"ratio to {unit}" if unit else ""
    print(f"## {title}\n\n| | seconds | {ratio_to} |\n|---|---|---|")
    for name, seconds, ratio in rows:
        shown = "not available" if seconds is None else f"{seconds:.3f}"
        print(f"| {name} | {shown} | {'' if ratio is None else f'{ratio:.1f}'} |")
    print()


if __name__ == "__main__":
    main()
