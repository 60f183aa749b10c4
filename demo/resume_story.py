"""What a snapshot of RAM brings back with it: a machine that gives out tokens is resumed twice, and again.

The machine is a small one of its own, which boots in seconds. Until its channel is enabled, nothing beneath
it speaks with the helper in it.
"""

import time
from collections.abc import Callable
from pathlib import Path

import small_guest
from own_host import IMAGES, OwnHost
from telling import say, step

from undercroft.errors import OperationError

MACHINE = "app01"
CONSOLE = f"{MACHINE}.console"

_LINES = 3
_WAIT_S = 60.0
_RESEED_EVERY = 16
# A kernel draws itself a new key each minute, and each few seconds when it has just booted. Here that is due
# at known tokens, so that nobody has to wait for minutes until a snapshot falls between two of them.
_PROGRAM = f"""\
import fcntl, os, time
number = 0
while __name__ == "__main__":
    if number % {_RESEED_EVERY} == 0:
        with open("/dev/urandom", "wb") as kernel:
            fcntl.ioctl(kernel, 0x5207)
    number += 1
    print("token", number, os.urandom(16).hex(), flush=True)
    time.sleep(0.3)
"""
_POLICY = f"""\
rules:
  - match: {{name: {MACHINE}}}     # its disk is empty: what runs in it comes from outside
    drifting: allow
    unknown: allow
    reseed: required           # its network opens once its guest has fresh randomness
"""
_DEFINITION = f"""\
<domain type='qemu'>
  <name>{MACHINE}</name>
  <memory unit='MiB'>160</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{IMAGES}/{MACHINE}/vmlinuz</kernel>
    <initrd>{IMAGES}/{MACHINE}/initrd</initrd>
    <cmdline>console=ttyS0 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{IMAGES}/{MACHINE}.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <controller type='virtio-serial'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <serial type='file'><source path='{IMAGES}/{CONSOLE}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def begin(host: OwnHost, folder: Path) -> None:
    """Make the machine and switch it on. Raises OperationError."""
    run = host.shell
    say(f"\nAnother machine, {MACHINE}, gives out tokens: random numbers that nobody can guess.")
    step(
        "a small guest: Debian's cloud kernel, Python, Undercroft's helper",
        lambda: small_guest.build(folder / MACHINE, folder / "kernel", _PROGRAM),
    )
    _prepare(host, folder)
    run("virsh", "define", f"{MACHINE}.xml")
    host.wait_for("allow", "undercroft", "fleet", "--name", MACHINE)
    run("virsh", "start", MACHINE)


def resumed(host: OwnHost, folder: Path) -> None:
    """Resume the machine twice, without the layer and with it. Raises OperationError."""
    run = host.shell
    say(f"\nA snapshot of {MACHINE} with its RAM, and twice back to it, as two clones of it would begin:")
    _wait_for_key(folder)
    run("virsh", "snapshot-create-as", MACHINE, "monday")
    same = _same(_back(host, folder, "monday"), _back(host, folder, "monday"))
    if not same:
        raise OperationError("both resumes gave out other tokens: was this host too busy? run it again")
    say(f"\n{same} of {_LINES} tokens are the same. Now with the layer; the helper waits in the guest:")
    run("undercroft", "channel", "enable", MACHINE)
    host.wait_for("protected", "undercroft", "channel", "status", MACHINE)
    run("undercroft", "snapshot", MACHINE, "tuesday")
    if _same(_back(host, folder, "tuesday"), _back(host, folder, "tuesday")):
        raise OperationError("both resumes gave out the same tokens")
    say("\nNo token came twice: each resume began with fresh randomness, before anything in it ran.")
    run("undercroft", "channel", "status", MACHINE)


def _prepare(host: OwnHost, folder: Path) -> None:
    """Give the machine its disk and its definition, and the policy a rule about it."""
    (folder / f"{MACHINE}.xml").write_text(_DEFINITION)
    policy = folder / "policy.yaml"
    policy.write_text(policy.read_text() + _POLICY)
    code, said = host.shell.ask("qemu-img", "create", "-q", "-f", "qcow2", f"{MACHINE}.qcow2", "64M")
    if code:
        raise OperationError(f"qemu-img ended with {code}: {said}")


def _wait_for_key(folder: Path) -> None:
    """Wait until the guest's kernel has just drawn a new key."""
    _until(lambda: int(["token 0", *_tokens(folder)][-1].split()[1]) % _RESEED_EVERY == 1)


def _back(host: OwnHost, folder: Path, snapshot: str) -> list[str]:
    """Go back to a snapshot; show and return the first tokens that follow: the console begins anew."""
    host.shell("virsh", "snapshot-revert", MACHINE, snapshot)
    _until(lambda: len(_tokens(folder)) >= _LINES)
    host.shell("head", "-n", str(_LINES), CONSOLE)
    return _tokens(folder)[:_LINES]


def _same(first: list[str], second: list[str]) -> int:
    return len(set(first) & set(second))


def _tokens(folder: Path) -> list[str]:
    """Return the whole lines with tokens that the machine has written to its console."""
    console = folder / CONSOLE
    said = console.read_text(errors="replace") if console.exists() else ""
    return [line for line in said.splitlines(keepends=True) if line.startswith("token ") and line[-1] == "\n"]


def _until(done: Callable[[], bool]) -> None:
    """Wait for what the machine does. Raises OperationError."""
    until = time.monotonic() + _WAIT_S
    while not done():
        if time.monotonic() > until:
            raise OperationError(
                f"{MACHINE} gave out no tokens in {_WAIT_S:.0f} s: see its console, {CONSOLE}"
            )
        time.sleep(0.02)
