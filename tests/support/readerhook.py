"""A reader that dies where it opens or imports anything after its imports, as one in the sandbox would."""

import subprocess
import sys
from pathlib import Path

CONFINED = """
import os, sys
from undercroft.sandbox import jobs
from undercroft.disks.machine import open_machine
from undercroft.disks.source import DescriptorSource
from undercroft.inventory.collect import collect
from undercroft.model.schema import encode

disks = []
for number, path in enumerate(sys.argv[1:]):
    descriptor = os.open(path, os.O_RDONLY)
    disks.append((f"vd{chr(97 + number)}", DescriptorSource(descriptor, os.fstat(descriptor).st_size)))

def hook(event, arguments):
    if event in ("import", "open") or event.startswith(("os.", "socket.", "subprocess.")):
        os.write(2, f"{event} {arguments}\\n".encode())
        os._exit(9)

sys.addaudithook(hook)
found = collect(open_machine(disks))
encode(found)
print(found.boot.last_run_release, len(found.packages), [volume.content for volume in found.coverage.volumes])
"""


def confined(*disks: Path) -> str:
    """Take an inventory in a process that dies where it opens or imports anything after its imports."""
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, *map(str, disks)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
