"""A start on a real host: refused, quarantined or allowed by what is on the disk, and not a packet before.

The bridge is listened to from before the first start. Control runs do the same without hook and agent.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fleethost
import guests
import pytest
from fleethost import UPGRADE, FleetHost
from fleetstates import CVE, NEW, OLD, filesystem

MISSING = fleethost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-admission"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

REFUSED = 1
POLICY = """
version: 1
defaults: {drifting: quarantine}
rules:
  - match: {name: 'strict-*'}
    drifting: refuse
agent_away: {default: refuse, last_decision: 1h}
break_glass: ['gateway-*']
"""
USER_INTERFACE = "<interface type='user'><model type='virtio'/></interface>"


def metadata(attributes: str) -> str:
    return f"<metadata><u:machine xmlns:u='urn:undercroft:machine:1' {attributes}/></metadata>"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetHost]:
    folder = tmp_path_factory.mktemp("admission")
    with fleethost.running(folder) as host:
        filesystem(folder, "old", OLD)
        filesystem(folder, "new", NEW)
        host.policy(POLICY)
        with host.up():
            yield host


@pytest.fixture(scope="module")
def old(host: FleetHost) -> Path:
    return host.folder / "old.fs"


@pytest.fixture(scope="module")
def new(host: FleetHost) -> Path:
    return host.folder / "new.fs"


def refusal(host: FleetHost, name: str) -> str:
    """Try to start a machine and return what virsh says; it must not run."""
    done = host.virsh("start", name, check=False)
    assert done.returncode == REFUSED, done.stdout
    assert host.virsh("domstate", name).stdout.strip() == "shut off"
    return done.stderr


def decisions(host: FleetHost, uuid: str) -> list[tuple[str, str]]:
    """Return (who, what) of a machine's decisions, in order."""
    with host.records() as records, records.reading() as record:
        return [(one.by, one.action.value) for one in reversed(record.decisions(uuid))]


def test_an_unpatched_machine_is_refused_with_the_reason_and_starts_once_it_is_patched(
    host: FleetHost, old: Path, new: Path
) -> None:
    image = host.image("strict-01", old)
    uuid = host.define("strict-01", image)
    said = refusal(host, "strict-01")
    assert f"{CVE} in openssl" in said, "virsh tells the administrator why"
    host.wait_for_verdict("strict-01", "drifting")

    host.write(image, new)
    host.virsh("start", "strict-01")
    host.sends("strict-01")
    host.wait_for_verdict("strict-01", "steady")
    assert decisions(host, uuid) == [("agent", "refuse"), ("agent", "allow")]
    host.forget("strict-01")


def test_a_quarantined_machine_runs_unheard_until_it_is_patched_from_inside_and_released(
    host: FleetHost, old: Path
) -> None:
    host.define("web-01", host.image("web-01", old))
    host.virsh("start", "web-01")
    assert host.closed("web-01")
    guests.wait_for(host.serial("web-01"), "ALIVE 10")
    host.wait_for_verdict("web-01", "quarantined")

    done = host.undercroft("release", "web-01", "--reason", "please")
    assert done.returncode == REFUSED
    assert CVE in done.stderr, "it says what stands against it"
    assert host.closed("web-01")
    host.tell("web-01", UPGRADE)
    host.goes_on("web-01")
    assert host.packets("web-01") == 0, "it has sent from its first second"

    done = host.undercroft("release", "web-01", "--reason", "patched")
    assert done.returncode == 0, done.stderr
    host.sends("web-01")
    assert not host.closed("web-01")
    host.wait_for_verdict("web-01", "steady")
    host.forget("web-01")


def test_a_machine_that_was_patched_while_it_was_off_leaves_quarantine_at_its_next_start(
    host: FleetHost, old: Path, new: Path
) -> None:
    image = host.image("web-02", old)
    uuid = host.define("web-02", image)
    host.virsh("start", "web-02")
    assert host.closed("web-02")
    host.virsh("destroy", "web-02")
    host.write(image, new)
    host.virsh("start", "web-02")
    host.sends("web-02")
    assert decisions(host, uuid) == [("agent", "quarantine"), ("agent", "allow")]
    host.forget("web-02")


def test_control_without_undercroft_the_unpatched_machine_is_heard_at_once(
    host: FleetHost, old: Path
) -> None:
    host.define("strict-02", host.image("strict-02", old))
    host.define("web-03", host.image("web-03", old))
    with host.without():
        for name in ("strict-02", "web-03"):
            host.virsh("start", name)
        for name in ("strict-02", "web-03"):
            host.sends(name)
            host.virsh("destroy", name)


def test_what_may_not_start_at_all_is_refused_whatever_its_software(host: FleetHost, new: Path) -> None:
    image = host.image("dated", new)
    host.define("dated", image, metadata=metadata("owner='web team' expires='2026-01-31'"))
    assert "expired on 2026-01-31" in refusal(host, "dated")
    host.forget("dated")
    host.define("golden", image, metadata=metadata("template='yes'"))
    assert "template" in refusal(host, "golden")
    host.forget("golden")


def test_a_quarantine_that_cannot_be_enforced_is_a_refusal(host: FleetHost, old: Path, new: Path) -> None:
    image = host.image("web-04", old)
    host.define("web-04", image, USER_INTERFACE)
    said = refusal(host, "web-04")
    assert "cannot hold user" in said
    host.write(image, new)  # control: what needs no quarantine starts with that interface
    host.virsh("start", "web-04")
    host.forget("web-04")


def test_while_the_agent_is_away_its_last_decisions_hold_and_the_break_glass_list_starts(
    host: FleetHost, old: Path, new: Path
) -> None:
    states = {"strict-03": old, "web-05": old, "web-06": new, "gateway-01": old}
    uuids = {name: host.define(name, host.image(name, state)) for name, state in states.items()}
    refusal(host, "strict-03")
    for name in ("web-05", "web-06"):
        host.virsh("start", name)
        host.virsh("destroy", name)
    host.wait(lambda: all(kept(host, uuids[name]) for name in ("web-05", "web-06")), "decisions are kept")
    host.stop_agent(signal.SIGKILL)

    uuids["web-07"] = host.define("web-07", host.image("web-07", new))
    assert CVE in refusal(host, "strict-03"), "the last decision"
    assert "no last decision counts" in refusal(host, "web-07"), "nobody has judged it"
    for name in ("web-05", "web-06", "gateway-01"):
        host.virsh("start", name)
    assert host.closed("web-05"), "quarantined it was, and is"
    assert not host.closed("web-06")
    assert not host.closed("gateway-01")

    host.start_agent()
    expected = {
        "strict-03": [("agent", "refuse"), ("hook", "refuse")],
        "web-05": [("agent", "quarantine"), ("hook", "quarantine")],
        "web-06": [("agent", "allow"), ("hook", "allow")],
        "web-07": [("hook", "refuse")],
        "gateway-01": [("hook", "allow")],
    }
    for name, answers in expected.items():
        assert decisions(host, uuids[name])[: len(answers)] == answers, name
    # What started unseen is looked at as soon as the agent is back: the policy quarantines it.
    host.wait(lambda: host.closed("gateway-01"), "the unpatched gateway is held")
    host.wait(lambda: host.packets("web-06"), "the patched one goes on")
    assert host.packets("web-05") == 0
    for name in uuids:
        host.forget(name)


def test_a_host_that_comes_up_starts_its_machines_by_the_agent_or_by_its_last_decisions(
    host: FleetHost, old: Path, new: Path
) -> None:
    states = {"web-08": old, "web-09": new}
    uuids = {name: host.define(name, host.image(name, state)) for name, state in states.items()}
    for name in states:
        host.virsh("autostart", name)
    host.wait_for_verdict("web-08", "quarantined")
    host.wait_for_verdict("web-09", "steady")

    with booting(host):  # the agent answers hooks before libvirtd is there
        host.stop_agent()
        host.start_agent()
    host.wait(lambda: running(host, *states), "both were started")
    assert (host.closed("web-08"), host.closed("web-09")) == (True, False)
    assert decisions(host, uuids["web-08"]) == [("agent", "quarantine")]
    host.wait(lambda: all(kept(host, uuid) for uuid in uuids.values()), "decisions are kept")

    host.stop_agent(signal.SIGKILL)
    for name in states:
        host.virsh("destroy", name)
    with booting(host):
        pass
    host.wait(lambda: running(host, *states), "both were started")
    assert (host.closed("web-08"), host.closed("web-09")) == (True, False)
    host.start_agent()
    assert decisions(host, uuids["web-08"])[:2] == [("agent", "quarantine"), ("hook", "quarantine")]
    for name in states:
        host.virsh("autostart", "--disable", name)
        host.forget(name)


@contextmanager
def booting(host: FleetHost) -> Iterator[None]:
    """Take libvirtd down; when it is back it starts its machines, as after a boot of the host."""
    with host.daemon.down():
        (host.daemon.root / "run" / "libvirt" / "qemu" / "autostarted").unlink(missing_ok=True)
        yield


def kept(host: FleetHost, uuid: str) -> bool:
    """Tell whether the hook could follow a decision of the agent."""
    return (host.state / "decisions" / f"{uuid}.json").exists()


def running(host: FleetHost, *names: str) -> bool:
    listed = host.virsh("list", "--name").stdout.split()
    return all(name in listed for name in names)
