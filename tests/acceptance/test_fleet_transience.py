"""Machines that come and go faster than anybody looks, while the agent is killed: each one is on record.

The machines are real QEMU processes on linked clones of one base, transient ones: nothing but the record
knows of them afterwards.
"""

import json
import random
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fleethost
import hookhost
import libvirt
import libvirtd
import pytest
from fleethost import FleetHost
from fleetstates import OLD, filesystem, mac_of
from layers import make_clones

from undercroft.model.execution import Execution
from undercroft.model.verdict import Action, Decision

MISSING = fleethost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-transience"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

AT_ONCE = 3
SEED = 4
POLICY = "version: 1\ndefaults: {drifting: quarantine}\nagent_away: {default: allow}\n"


class Crowd:
    """Machines that are started and destroyed, a few at a time."""

    def __init__(self, host: FleetHost, clones: list[Path]) -> None:
        self._host = host
        self._clones = clones
        self._random = random.Random(SEED)
        self.uuids = {f"brief{number:03}": str(uuid.uuid4()) for number in range(len(clones))}
        self.done = 0
        self._lock = threading.Lock()

    def live(self, number: int) -> None:
        """Let one machine live, for less than a second."""
        name = f"brief{number:03}"
        connection = libvirt.open(self._host.daemon.uri)
        try:
            machine = connection.createXML(self._xml(name, self._clones[number]), 0)
            time.sleep(self._random.uniform(0.0, 0.9))
            machine.destroy()
        finally:
            connection.close()
        with self._lock:
            self.done += 1

    def _xml(self, name: str, image: Path) -> str:
        return (
            f"<domain type='qemu'><name>{name}</name><uuid>{self.uuids[name]}</uuid><genid/>"
            "<memory unit='MiB'>16</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
            "<emulator>/usr/bin/qemu-system-x86_64</emulator>"
            f"{libvirtd.disk_xml(image, 'vda')}{hookhost.interface(mac_of(name))}"
            "<memballoon model='none'/></devices></domain>"
        )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetHost]:
    folder = tmp_path_factory.mktemp("transience")
    with fleethost.running(folder) as host:
        host.policy(POLICY)
        yield host


def found(host: FleetHost, uuids: Mapping[str, str]) -> dict[str, tuple[Execution, ...]]:
    """Return what is on record of each machine's life."""
    with host.records() as records, records.reading() as record:
        return {name: record.own_executions(ident) for name, ident in uuids.items()}


def all_ended(lives: Mapping[str, tuple[Execution, ...]]) -> bool:
    return all(known and not any(one.live for one in known) for known in lives.values())


def decided(host: FleetHost, uuids: Mapping[str, str]) -> dict[str, tuple[Decision, ...]]:
    with host.records() as records, records.reading() as record:
        return {name: record.decisions(ident) for name, ident in uuids.items()}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [30, pytest.param(200, marks=pytest.mark.soak)])
def test_each_of_many_brief_machines_is_on_record_though_the_agent_is_killed_twice(
    host: FleetHost, count: int
) -> None:
    folder = host.daemon.images / str(count)
    folder.mkdir()
    base = host.image(f"base{count}", filesystem(host.folder, f"base{count}", OLD))
    crowd = Crowd(host, make_clones(base, folder, count))
    host.start_agent()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lives = [pool.submit(crowd.live, number) for number in range(count)]
        for kill in (1, 2):
            host.wait(lambda kill=kill: crowd.done >= kill * count // 4, "machines come and go", 600)
            host.stop_agent(signal.SIGKILL)
            away_from = crowd.done
            host.wait(lambda seen=away_from: crowd.done >= seen + AT_ONCE + 2, "machines come unseen", 600)
            host.start_agent()
        for life in lives:
            life.result()

    host.wait(lambda: all_ended(found(host, crowd.uuids)), "every life has its end", 120)
    executions = found(host, crowd.uuids)
    assert {name: len(lives) for name, lives in executions.items()} == dict.fromkeys(crowd.uuids, 1)
    decisions = decided(host, crowd.uuids)
    for name, (life,) in executions.items():
        start, *later = reversed(decisions[name])
        assert start.eid == life.eid
        assert start.action is Action.QUARANTINE or start.by == "hook"
        # What a hook let in by itself is looked at, and decided anew, by the agent that comes back.
        assert not later or start.by == "hook"
        assert [one.by for one in later] == ["agent"] * len(later)
        assert len({one.ident for one in decisions[name]}) == len(decisions[name])
        assert life.ended_at is not None
        assert life.started_at <= life.ended_at
    assert {known[-1].by for known in decisions.values()} == {"agent", "hook"}

    host.undercroft("audit", "verify", check=True)
    brief = "brief000"
    assert brief in host.undercroft("lineage", brief, check=True).stdout
    shown = json.dumps(host.document("lineage", brief))
    assert executions[brief][0].eid in shown
    assert brief in host.undercroft("machine", brief).stdout
    host.stop_agent()
