"""A machine that waits for fresh randomness and has a vault, migrated between two real hosts while it runs.

Both hosts have libvirt, an agent and a guest service of their own, and one record. The guest asks its vault
through the helper, and says on its console what it was answered.
"""

from collections.abc import Iterator

import channelhost
import fleethost
import guests
import pytest
import twohosts
from channelhost import REQUIRED, ChannelHost
from diskimages import make_qcow2
from twohosts import TwoHosts

from undercroft.model.execution import Origin

MISSING = twohosts.missing() or channelhost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.soak,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("fleet-channel-moves"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]
NAME = "web-01"
WAIT_S = 180.0
HELPER = "/usr/bin/python3 -ISB /undercroft_guest.py"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TwoHosts, ChannelHost, ChannelHost]]:
    folder = tmp_path_factory.mktemp("moves")
    with twohosts.running(folder, fleethost.WORKLOAD, ("192.0.2.1/24",)) as hosts:
        left, right = (ChannelHost(host, host.folder) for host in (hosts.left, hosts.right))
        for each in (left, right):
            each.fleet.policy(REQUIRED)
        with left.serving(), right.serving(), left.fleet.up(), right.fleet.up():
            yield hosts, left, right


def counted(host: ChannelHost) -> str:
    """Return what the guest is answered that increments a counter of its vault."""
    seen = len(answers(host))
    host.fleet.tell(NAME, f"echo ANSWER $({HELPER} counter serial 2>&1)")
    host.fleet.wait(lambda: len(answers(host)) > seen, "the guest has an answer", WAIT_S)
    return answers(host)[-1]


def answers(host: ChannelHost) -> list[str]:
    return [line for line in guests.lines(host.fleet.serial(NAME)) if line.startswith("ANSWER ")]


def test_it_speaks_on_the_other_host_with_fresh_randomness_and_its_vault_stays_at_home(
    hosts: tuple[TwoHosts, ChannelHost, ChannelHost],
) -> None:
    both, left, right = hosts
    image = make_qcow2(left.state, both.disks / f"{NAME}.qcow2")
    image.chmod(0o666)
    ident = left.define(NAME, image=image)
    left.fleet.virsh("start", NAME)
    left.fleet.wait(lambda: left.is_fresh(ident), "its guest has confirmed", WAIT_S)
    left.fleet.sends(NAME)
    first = int(counted(left).split()[1])
    execution, mark = left.execution(ident), left.mark()

    both.migrate(NAME, left.fleet, right.fleet)
    right.fleet.sends(NAME)
    right.fleet.wait(lambda: "confirmed" in left.story(ident, mark), "it has a seed of that host's", WAIT_S)
    after = left.execution(ident)
    assert (after.host, after.origin, after.parent) == ("right.lab", Origin.MIGRATE, execution.eid), after
    (row,) = right.fleet.document("channel", "status", NAME)["machines"]
    assert (row["host"], row["protection"]) == ("right.lab", "protected")
    assert "its vault is kept by left.lab" in counted(right)
    assert "web-01: its vault is kept by left.lab" in right.fleet.undercroft("vault", "ls").stdout

    both.migrate(NAME, right.fleet, left.fleet)
    left.fleet.sends(NAME)
    assert int(counted(left).split()[1]) > first, "it goes on above all that it was given"
