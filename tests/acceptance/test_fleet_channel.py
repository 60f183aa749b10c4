"""Beneath real guests: a port opens once its guest has fresh randomness, and closes when it was put back.

libvirt, QEMU, the guest service and the helper are the real ones; the guest sends from its first second.
"""

from collections.abc import Iterator

import channelhost
import pytest
from channelhost import IGNORED, REQUIRED, ChannelHost
from gatetraces import always, broken, run_of

from undercroft.assurance import trace

MISSING = channelhost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("fleet-channel"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]
NAME, BARE = "web-01", "bare-01"
WAIT_S = 180.0


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChannelHost]:
    with channelhost.running(tmp_path_factory.mktemp("channel")) as host:
        host.fleet.policy(REQUIRED)
        with host.serving(), host.fleet.up():
            yield host


@pytest.fixture(scope="module")
def web01(host: ChannelHost) -> str:
    """A machine whose guest has the helper, and runs with an open network."""
    ident = host.define(NAME)
    host.fleet.virsh("start", NAME)
    assert host.fleet.closed(NAME), "it is closed from before its guest runs"
    host.fleet.wait(lambda: host.is_fresh(ident), "its guest has confirmed", WAIT_S)
    host.fleet.sends(NAME)
    return ident


def test_a_port_opens_once_its_guest_has_confirmed(host: ChannelHost, web01: str) -> None:
    assert host.story(web01) == ["closed", "confirmed", "open"]
    (row,) = host.fleet.document("channel", "status", NAME)["machines"]
    assert (row["protection"], row["channel"], row["genid"]) == ("protected", True, True)
    assert row["helper"]


def test_a_guest_without_the_helper_stays_closed_and_not_one_packet_leaves(host: ChannelHost) -> None:
    fleet = host.fleet
    ident = host.define(BARE, helper=False)
    fleet.virsh("start", BARE)
    fleet.goes_on(BARE)
    fleet.wait(lambda: host.waits(ident), "all but its guest's word is there", WAIT_S)
    fleet.goes_on(BARE)
    assert fleet.closed(BARE)
    assert fleet.packets(BARE) == 0
    assert "fresh randomness" in fleet.undercroft("machine", BARE).stdout
    (row,) = fleet.document("channel", "status", BARE)["machines"]
    assert row["protection"] == "no helper"

    host.policy(IGNORED)  # control: without that line its packets arrive
    try:
        fleet.virsh("destroy", BARE)
        fleet.virsh("start", BARE)
        fleet.sends(BARE)
    finally:
        host.policy(REQUIRED)
        fleet.forget(BARE)


def test_a_restored_machine_is_closed_until_its_new_execution_has_confirmed(
    host: ChannelHost, web01: str
) -> None:
    before, mark = host.execution(web01), host.mark()
    host.fleet.virsh("managedsave", NAME)
    host.fleet.virsh("start", NAME)
    host.fleet.wait(lambda: host.execution(web01).eid != before.eid, "it is another execution")
    host.fleet.wait(lambda: host.is_fresh(web01), "its guest has confirmed", WAIT_S)
    host.fleet.sends(NAME)
    assert host.story(web01, mark) == ["closed", "confirmed", "open"]
    assert host.execution(web01).origin == "restore"


def test_a_quiesced_snapshot_thaws_the_machine_that_went_on_and_a_revert_to_it_is_fresh(
    host: ChannelHost, web01: str
) -> None:
    fleet = host.fleet
    done = fleet.undercroft("snapshot", NAME, "calm", "-f", "json")
    assert done.returncode == 0, (done.stderr, done.stdout)
    fleet.goes_on(NAME)
    assert '"quiesced": true' in done.stdout
    exposed = fleet.undercroft("snapshot", NAME, "open", "--exposed")
    assert exposed.returncode == 0, exposed.stderr
    names = {one.key.split(":")[2] for one in host.read(lambda record: record.quiesced(web01)).values()}
    assert names == {"calm"}

    before, mark = host.execution(web01), host.mark()
    fleet.virsh("snapshot-revert", NAME, "calm", "--running")
    fleet.wait(lambda: host.execution(web01).eid != before.eid, "it is another execution")
    fleet.wait(lambda: host.is_fresh(web01), "its guest has confirmed", WAIT_S)
    fleet.sends(NAME)
    fleet.goes_on(NAME)
    assert host.story(web01, mark) == ["closed", "confirmed", "open"]


def test_a_load_through_the_monitor_is_an_execution_with_an_alarm_and_closes_the_port(
    host: ChannelHost, web01: str
) -> None:
    fleet = host.fleet
    before, mark = host.execution(web01), host.mark()
    done = fleet.virsh("qemu-monitor-command", "--hmp", NAME, "loadvm calm")
    assert not done.stdout.strip(), "the state is loaded"
    fleet.wait(lambda: "alarm" in host.story(web01, mark), "the proof is an alarm", WAIT_S)
    after = host.execution(web01)
    assert (after.origin, after.parent, after.certain) == ("load", before.eid, True)
    fleet.wait(lambda: host.is_fresh(web01), "the new execution has confirmed", WAIT_S)
    fleet.sends(NAME)
    story = host.story(web01, mark)  # the proof, the look at its disks and its word come as they come
    assert story[0] in {"closed", "alarm"}
    assert story.count("open") == 1
    assert story.index("closed") < story.index("confirmed") < story.index("open"), story


def test_all_that_this_host_did_breaks_no_invariant_and_would_without_the_confirmations(
    host: ChannelHost, web01: str
) -> None:
    """The last one: it replays the record of the whole run beside what the guest service has written."""
    name = host.execution(web01).host
    service = host.events()
    with host.fleet.records() as records:
        assert broken(records, name, service, host.wanted) == []
        events = run_of(records, name, service, host.wanted)
        opened = [each.eid for each in events if isinstance(each, trace.Opened) and each.gated]
        assert host.execution(web01).eid in opened
        unheard = [each for each in service if not isinstance(each, trace.Confirmed)]
        found = broken(records, name, unheard, host.wanted)
        assert {each.invariant for each in found} == {"NoOutputBeforeReseed"}
        assert sum("before its seed" in each.text for each in found) == len(opened)
        as_if = broken(records, name, service, always)
        bare = [each for each in as_if if "before its seed" in each.text]
        controls = [each for each in events if isinstance(each, trace.Opened) and not each.gated]
        assert len(bare) == len(controls) > 0, "and the control's guest was heard before it had confirmed"
