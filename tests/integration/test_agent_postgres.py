"""The agent over PostgreSQL, which is killed under it: starts go on, with closed networks, and none is lost.

Real libvirtd, hook, guests and PostgreSQL; the postmaster is killed by its number.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import fleethost
import postgres
import pytest
from fleethost import FleetHost
from fleetstates import NEW, filesystem
from postgres import PostgresServer

from undercroft.adapters import hookfiles
from undercroft.model.execution import Execution
from undercroft.model.verdict import Decision
from undercroft.usecases.fleet.history.facts import RAN

MISSING = fleethost.missing() or ("" if postgres.programs() else "needs PostgreSQL's server")
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-postgres"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt and PostgreSQL can be run"),
]

POLICY = """
version: 1
defaults: {drifting: quarantine}
agent_away: {default: refuse, last_decision: 1h}
"""
NAME = "web-20"


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres.server() as server:
        server.execute("CREATE DATABASE fleet")
        yield server


def executions(host: FleetHost, uuid: str) -> list[Execution]:
    with host.records() as records, records.reading() as record:
        return list(record.own_executions(uuid))


def decisions(host: FleetHost, uuid: str) -> list[Decision]:
    with host.records() as records, records.reading() as record:
        return list(reversed(record.decisions(uuid)))


def runs(host: FleetHost, uuid: str) -> int:
    return sum(RAN in one.evidence for one in executions(host, uuid))


def spool_is_empty(host: FleetHost) -> bool:
    return not hookfiles.spooled(host.state)


def test_a_database_that_is_killed_stops_no_start_and_loses_none(
    server: PostgresServer, tmp_path: Path
) -> None:
    with fleethost.running(tmp_path) as host:
        host.policy(POLICY)
        host.databases["fleet"] = server.url("fleet")
        uuid = host.define(NAME, host.image(NAME, filesystem(tmp_path, "new", NEW)))
        with host.up("--database", server.url("fleet")):
            host.wait_for_verdict(NAME, "steady")
            host.virsh("start", NAME)
            kept = host.state / "decisions" / f"{uuid}.json"
            host.wait(kept.exists, "the decision is kept for when the agent cannot answer")
            host.virsh("destroy", NAME)
            host.wait(lambda: [one.live for one in executions(host, uuid)] == [False], "its end is known")

            server.kill()
            host.virsh("start", NAME)  # by the last decision, with its network closed until it is read
            assert host.closed(NAME)
            assert not spool_is_empty(host)
            server.start()
            host.wait(lambda: spool_is_empty(host) and runs(host, uuid) == 2, "the second start is known")
            assert [(one.by, one.action) for one in decisions(host, uuid)][:2] == [
                ("agent", "allow"),
                ("hook", "quarantine"),
            ]
            host.sends(NAME)

            host.virsh("destroy", NAME)
            command = [*host.daemon.inside, "virsh", "-c", "qemu:///system", "start", NAME]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as starting:
                host.wait(lambda: not spool_is_empty(host) or runs(host, uuid) == 3, "a hook has called")
                server.kill()  # in whichever transaction it is
                assert starting.wait(60) == 0
            server.start()
            host.wait(lambda: spool_is_empty(host) and runs(host, uuid) == 3, "the third start is known")
            found = executions(host, uuid)
            assert [one.live for one in found] == [False, False, True]
            assert [one.parent for one in found] == ["", found[0].eid, found[1].eid]
            assert len({one.eid for one in decisions(host, uuid)}) == 3
            host.undercroft("audit", "verify", check=True)
            assert host.agent is not None
            assert host.agent.poll() is None, host.log()
