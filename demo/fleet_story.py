"""What happens to web01 on a libvirt host with Undercroft: it is refused, patched, and kept so.

The commands are those that an administrator types, in their order.
"""

import time
from pathlib import Path

from own_host import OwnHost
from telling import say

MACHINE = "web01"
SNAPSHOT = "before-upgrade"
REFUSED = 1

_READ_S = 2.0
PICTURE = f"{MACHINE}.svg"

# Where advisories come from a mirror alone nobody tells what is exploited. Severities are unknown there and
# count as the worst, which is what such a site wants.
_POLICY = """\
version: 1
defaults:
  steady:
    known_exploited: allow    # nobody can tell: advisories come from a mirror alone
    fixable: {severity: high, days: 7}
  drifting: refuse            # a machine that lacks updates does not start,
  unknown: refuse             # nor does one of which nobody can tell,
  below_floor: refuse         # nor one that was put back to before its updates
"""
_DEFINITION = f"""\
<domain type='qemu'>
  <name>{MACHINE}</name>
  <memory unit='MiB'>64</memory>
  <genid/>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/var/lib/libvirt/images/{MACHINE}.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <memballoon model='none'/>
  </devices>
</domain>
"""


_NO_KERNEL = "(The disk has no kernel: it gets no further than its BIOS, and is judged before that.)"


def first_day(host: OwnHost, folder: Path) -> None:
    """Without a policy of one's own everything is seen and nothing is refused. Raises OperationError."""
    (folder / "policy.yaml").unlink(missing_ok=True)
    (folder / f"{MACHINE}.xml").write_text(_DEFINITION)
    run = host.shell
    say(
        "\nA libvirt host of the demo's own is up; this machine's own, if any, is not touched. The first day:"
    )
    host.start_agent("--policy", "policy.yaml", "--no-metrics")
    run("virsh", "define", f"{MACHINE}.xml")
    run("virsh", "start", MACHINE)
    say(_NO_KERNEL)
    host.wait_for("drifting", "undercroft", "fleet")
    run("undercroft", "fleet")
    run("virsh", "destroy", MACHINE)
    wait_until_read(host)
    run("virsh", "snapshot-create-as", MACHINE, SNAPSHOT)


def wait_until_read(host: OwnHost) -> None:
    """Let the agent read what the machine left on its disk before anything else happens to it."""
    host.wait_for("off ", "undercroft", "fleet")
    time.sleep(_READ_S)


def policy(host: OwnHost, folder: Path) -> None:
    """With a policy, the machine does not start as it was published. Raises OperationError."""
    (folder / "policy.yaml").write_text(_POLICY)
    run = host.shell
    say("\nNow with a policy; the agent takes it over within seconds:")
    run("cat", "policy.yaml")
    run("undercroft", "policy", "check", "policy.yaml")
    host.wait_for("refuse", "undercroft", "fleet")
    run("virsh", "start", MACHINE, codes=(REFUSED,))


def patched(host: OwnHost) -> None:
    """Patched, it starts, and no way leads back. Raises OperationError."""
    run = host.shell
    say("\nPatched, it starts:")
    run("virsh", "start", MACHINE)
    run("virsh", "snapshot-create-as", MACHINE, "after-upgrade")
    host.wait_for("1 drifting, 1 steady", "undercroft", "fleet", "--snapshots")
    run("undercroft", "fleet", "--snapshots")
    say("\nIt is switched off and on again, and goes on from where it was:")
    run("virsh", "destroy", MACHINE)
    wait_until_read(host)
    run("virsh", "start", MACHINE)
    host.wait_for("running ", "undercroft", "fleet")
    say("\nBack to before the upgrade? Undercroft looks first; the machine runs on:")
    run("undercroft", "revert", MACHINE, SNAPSHOT, codes=(REFUSED,))
    run("virsh", "domstate", MACHINE)
    say("\nvirsh looks at nothing, and ends the running machine. What it puts in its place does not start:")
    run("virsh", "snapshot-revert", MACHINE, SNAPSHOT, "--running", codes=(REFUSED,))
    say("\nThe way out is a snapshot that has what was fixed:")
    run("undercroft", "revert", MACHINE, "after-upgrade")
    run("virsh", "domstate", MACHINE)


def looking_back(host: OwnHost) -> None:
    """Show the machine's life and the log. Raises OperationError."""
    run = host.shell
    say("\nIts life so far, and the log of all that was decided:")
    run("undercroft", "lineage", MACHINE)
    run("undercroft", "lineage", MACHINE, "--svg", PICTURE)
    run("undercroft", "audit", "verify")
