"""Retention on a real host: a private key that was taken away lies on in a snapshot, and is named.

Nobody orders a look: the agent reads accounts, keys and secrets by itself, once everything else is read.
"""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fleethost
import pytest
from fleethost import FleetHost
from fleetstates import NEW, filesystem

from undercroft.agent.due import LOOK_EVERY_S, SETTLED

MISSING = fleethost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-retention"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

NAME, SNAPSHOT = "vault-01", "with-key"
KEY = "/root/.ssh/id_ed25519"
UNREAD = "its accounts, keys and secrets were not read"


def key_pair(folder: Path) -> dict[str, bytes]:
    """Return a fresh pair of keys as files of a guest."""
    path = folder / "id"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "root@vault", "-f", str(path)]
    subprocess.run(command, check=True)
    return {KEY[1:]: path.read_bytes(), f"{KEY[1:]}.pub": path.with_suffix(".pub").read_bytes()}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetHost]:
    """A host whose machine had a key when its snapshot was taken, and has none any more; off all the time."""
    folder = tmp_path_factory.mktemp("retention")
    with fleethost.running(folder) as host:
        host.policy("version: 1\n")
        image = host.image(NAME, filesystem(folder, "with", NEW, key_pair(folder)))
        host.define(NAME, image)
        host.virsh("snapshot-create-as", NAME, SNAPSHOT)
        host.write(image, filesystem(folder, "without", NEW))
        with host.up():
            yield host


def kept(host: FleetHost) -> dict[str, dict[str, Any]]:
    """Return what retention says of the machine's snapshots, by name."""
    return {one["name"]: one for one in host.document("retention", NAME)["snapshots"]}


def is_whole(host: FleetHost, *names: str) -> bool:
    """Tell whether all that is to be known of these snapshots is."""
    found = kept(host)
    return all(name in found and not found[name]["problems"] for name in names)


def test_the_agent_reads_by_itself_which_key_only_a_snapshot_holds(host: FleetHost) -> None:
    host.wait(lambda: is_whole(host, SNAPSHOT), f"{NAME} and its snapshot are read")
    assert (KEY, True) in [(one["path"], one["only_here"]) for one in kept(host)[SNAPSHOT]["secrets"]]
    done = host.undercroft("retention", NAME)
    assert (done.returncode, UNREAD in done.stdout + done.stderr) == (0, False), done.stdout
    shown = host.undercroft("machine", NAME).stdout
    assert "not read yet" not in shown


@pytest.mark.timeout(360)
def test_what_a_machine_that_runs_and_stops_holds_is_known_by_itself(host: FleetHost) -> None:
    """Nobody answers its hook: its network waits for a look, which leaves out what no verdict hangs on.

    What was put on record late, without credentials, is read again by the next look after a minute.
    """
    with host.stalled():
        host.virsh("start", NAME)
    host.goes_on(NAME)
    host.virsh("snapshot-create-as", NAME, "live")
    whole = "the new snapshot is read while the machine runs"
    at_most_s = SETTLED.total_seconds() + LOOK_EVERY_S + fleethost.WAIT_S
    host.wait(lambda: is_whole(host, SNAPSHOT, "live"), whole, at_most_s, lambda: kept(host))
    assert kept(host)["live"]["secrets"] == []
    host.virsh("destroy", NAME)
    begun = datetime.now(UTC)
    host.wait(lambda: read_at(host) > begun and is_whole(host, SNAPSHOT, "live"), "its end is read as well")
    assert (KEY, True) in [(one["path"], one["only_here"]) for one in kept(host)[SNAPSHOT]["secrets"]]


def read_at(host: FleetHost) -> datetime:
    """Return when the machine's present state was read."""
    with host.records() as records, records.reading() as record:
        (machine,) = record.find_machines(NAME)
        scan = record.scan(f"machine:{machine.domain.uuid}")
    return scan.scanned_at if scan else datetime.min.replace(tzinfo=UTC)
