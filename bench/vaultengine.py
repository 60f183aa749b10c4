"""How many durable increments a second the vaults' engine makes, and what one client waits.

    python bench/vaultengine.py [FOLDER] [SECONDS]

32 callers have one batch of 16 in flight each, or four of them; all that waits goes to the disk with one
write and one fdatasync, while the batches for the next group are decided.
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from undercroft.adapters.durablefiles import FolderFiles
from undercroft.adapters.vaultfile import VaultFile
from undercroft.channel.requests import Operation, Request
from undercroft.vault.engine import Engine
from undercroft.vault.keeping import Keeping
from undercroft.vault.start import start

CALLERS, BATCH = 32, 16


def opened(folder: Path) -> tuple[VaultFile, Engine]:
    log = VaultFile(FolderFiles(folder), b"k" * 32)
    engine = start(
        log, None, Keeping(b"k" * 32, os.urandom), clock=lambda: int(time.time()), random=os.urandom
    )
    for each in range(CALLERS):
        engine.take(bytes([each]) * 16, b"execution", forked=False)
    work = engine.close_group()
    work.run(log, None)
    engine.release(work)
    return log, engine


def throughput(folder: Path, seconds: float, in_flight: int) -> tuple[float, float]:
    """Increments a second, and how many are in a group on average."""
    log, engine = opened(folder)
    requests = tuple(Request(Operation.INCREMENT, (b"counter", 1)) for _ in range(BATCH))
    machines = [bytes([each]) * 16 for each in range(CALLERS)]
    numbers = dict.fromkeys(machines, 1)
    ready = machines * in_flight
    answered = groups = 0
    running = None
    asked: list[bytes] = []
    began = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        while time.perf_counter() - began < seconds:
            for machine in ready:
                engine.batch(machine, b"execution", numbers[machine], requests)
                numbers[machine] += BATCH
            collected, ready = ready, []
            if running is not None:
                future, work = running
                future.result()
                answered += sum(len(batch.answers) for batch in engine.release(work))
                groups += 1
                ready, running = asked, None
            if engine.waits:
                work, asked = engine.close_group(), collected
                running = pool.submit(work.run, log, None), work
        spent = time.perf_counter() - began
    log.close()
    return answered / spent, answered / max(1, groups)


def alone(folder: Path, count: int) -> tuple[float, float]:
    """What one client waits for one increment in ms (p50), and what write and fdatasync alone take (p50)."""
    log, engine = opened(folder)
    request = (Request(Operation.INCREMENT, (b"counter", 1)),)
    waited = []
    for number in range(1, count + 1):
        began = time.perf_counter()
        engine.batch(bytes([1]) * 16, b"execution", number, request)
        work = engine.close_group()
        work.run(log, None)
        engine.release(work)
        waited.append(time.perf_counter() - began)
    log.close()
    handle = os.open(folder / "plain", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(handle, 0, 1 << 22)
    plain = []
    for at in range(count):
        began = time.perf_counter()
        os.pwrite(handle, bytes(150), at * 150)
        os.fdatasync(handle)
        plain.append(time.perf_counter() - began)
    os.close(handle)
    return sorted(waited)[count // 2] * 1e3, sorted(plain)[count // 2] * 1e3


def decided(folder: Path, groups: int) -> float:
    """Microseconds of the processor's time for each increment, but for the write: one thread, no disk."""
    log, engine = opened(folder)
    requests = tuple(Request(Operation.INCREMENT, (b"counter", 1)) for _ in range(BATCH))
    began = time.thread_time()
    for group in range(groups):
        for each in range(CALLERS):
            engine.batch(bytes([each]) * 16, b"execution", 1 + group * BATCH, requests)
        work = engine.close_group()
        work.head = log.head
        engine.release(work)
    spent = time.thread_time() - began
    log.close()
    return spent / (groups * CALLERS * BATCH) * 1e6


def main() -> None:
    where = sys.argv[1] if len(sys.argv) > 1 else None
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        print(f"decided: {decided(folder / 'a', 200):.2f} us of the processor for an increment")
        for in_flight in (1, 2, 4):
            rate, group = throughput(folder / f"b{in_flight}", seconds, in_flight)
            print(
                f"{CALLERS} callers, batches of {BATCH}, {in_flight} in flight each: {rate:,.0f} durable"
                f" increments/s, {group:,.0f} in a group"
            )
        waited, plain = alone(folder / "c", 300)
        print(f"one client: p50 {waited:.3f} ms, write and fdatasync alone {plain:.3f} ms")


if __name__ == "__main__":
    main()
