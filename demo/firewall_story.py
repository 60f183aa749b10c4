"""What the firewall does with web01 on the demo's host: a policy planned, applied, asked and proven.

The host gets a bridge, and the machine an interface on it; the network of this machine is not touched.
"""

import sys
from pathlib import Path

from fleet_story import MACHINE, wait_until_read
from own_host import OwnHost
from telling import say

MAP = "firewall-map.svg"
BRIDGE = "br0"
DENIED = 1

_POLICY = """\
labels:
  web: {machines: "web*"}
  quarantine: {verdict: quarantined}
addresses:
  web01: 10.0.0.1
  mirror: 192.0.2.10
firewall:
  - {from: world, to: web, allow: [tcp/443]}
  - {from: [web, quarantine], to: mirror, allow: [tcp/443]}
never:
  - {from: quarantine, to: "*", except: mirror}
"""
_NEW_BRIDGE, _SET_FLAGS, _UP = 0x89A0, 0x8914, 1
# With ioctls of linux/sockios.h: `ip` belongs to a package that nothing else here needs. What passes a bridge
# does not pass the chains for the host's own traffic, too.
_PREPARE = f"""
import fcntl, glob, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, {_NEW_BRIDGE}, b"{BRIDGE}\\0")
    fcntl.ioctl(control, {_SET_FLAGS}, struct.pack("16sh14x", b"{BRIDGE}", {_UP}))
for path in glob.glob("/proc/sys/net/bridge/bridge-nf-call-*"):
    with open(path, "w") as setting:
        setting.write("0")
from undercroft.adapters.nftables import Nftables
with Nftables() as kernel:
    kernel.features()
"""


def filtered(host: OwnHost, folder: Path) -> None:
    """Filter the machine at its port. Raises OperationError."""
    run = host.shell
    code, said = run.ask(sys.executable, "-c", _PREPARE)
    if code:
        say(f"\n(The firewall is left out, as this kernel cannot: {said.strip().splitlines()[-1]})")
        return
    say(f"\n{MACHINE} gets an interface on a bridge, {BRIDGE}, and the policy a part for its traffic:")
    (folder / "firewall.yaml").write_text(_POLICY)
    policy = folder / "policy.yaml"
    policy.write_text(policy.read_text() + _POLICY)
    run.ask("virsh", "destroy", MACHINE)
    wait_until_read(host)
    run("virsh", "attach-interface", MACHINE, "bridge", BRIDGE, "--model", "virtio", "--config")
    run("virsh", "start", MACHINE)
    run("cat", "firewall.yaml")
    say("\nNothing is filtered because a file says so. What would it do?")
    run("undercroft", "firewall", "plan")
    run("undercroft", "firewall", "apply", "--reason", "demo")
    run("undercroft", "firewall", "map", "--svg", MAP)
    say("\nAsked about a flow, it names the rule and the way through the kernel's own table:")
    run("undercroft", "firewall", "trace", "world", MACHINE, "tcp/22", codes=(DENIED,))
    say("\nAnd what the kernel holds is proven to be the policy, for every packet:")
    run("undercroft", "firewall", "prove")
