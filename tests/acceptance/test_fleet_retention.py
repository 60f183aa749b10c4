"""Retention on a real host: a private key that was taken away lies on in a snapshot, and is named.

Nobody orders a look: the agent reads accounts, keys and secrets by itself, once everything else is read.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fleethost
import pytest
from fleethost import FleetHost
from fleetstates import NEW, filesystem

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


def kept(host: FleetHost) -> dict[str, Any]:
    """Return what retention says of the snapshot."""
    (found,) = host.document("retention", NAME)["snapshots"]
    result: dict[str, Any] = found
    return result


def test_the_agent_reads_by_itself_which_key_only_a_snapshot_holds(host: FleetHost) -> None:
    host.wait(lambda: not kept(host)["problems"], f"{NAME} and its snapshot are read")
    assert (KEY, True) in [(one["path"], one["only_here"]) for one in kept(host)["secrets"]]
    done = host.undercroft("retention", NAME)
    assert (done.returncode, UNREAD in done.stdout + done.stderr) == (0, False), done.stdout
    shown = host.undercroft("machine", NAME).stdout
    assert "not read yet" not in shown
