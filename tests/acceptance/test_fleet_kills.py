"""The agent is killed at random moments, again and again, while machines start, stop and are reverted.

What must be so afterwards is told by others: a second hook has counted libvirt's calls, the hook's own notes
say what each start was answered, and ip(8) says which taps are closed.
"""

import hashlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import baremachines
import fleethost
import pytest
from fleethost import FleetHost
from fleetstates import NEW, OLD, filesystem

from undercroft.adapters import hookfiles
from undercroft.adapters.hookfiles import RunNote
from undercroft.model.execution import Execution, Origin
from undercroft.model.verdict import Decision

MISSING = fleethost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-kills"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

GOOD, BAD, TREE = "good-01", "bad-01", "tree-01"
UNPATCHED, PATCHED = "unpatched", "patched"
POLICY = """
version: 1
defaults: {drifting: quarantine, below_floor: quarantine}
agent_away: {default: quarantine, last_decision: 1h}
"""
SETTLES_S = 180.0
ALONE = "the agent is away"


@dataclass
class Campaign:
    """What is done to the machines, and what the hook noted of each start.

    Attributes:
        host: the host.
        uuids: of the machines, by name.
        noted: the hook's notes of each machine's starts, in order.
        reverted: the executions that a revert began.
        holds: which state the disk of TREE holds.
    """

    host: FleetHost
    uuids: dict[str, str]
    noted: dict[str, list[RunNote]] = field(default_factory=lambda: {GOOD: [], BAD: [], TREE: []})
    reverted: set[str] = field(default_factory=set)
    holds: str = PATCHED

    def start(self, name: str) -> None:
        """Start a machine."""
        self.host.virsh("start", name)
        self.note(name)

    def note(self, name: str) -> None:
        """Keep what the hook has noted of the start that just was."""
        note = hookfiles.read_note(self.host.state, self.uuids[name])
        assert note is not None
        self.noted[name].append(note)

    def revert(self, snapshot: str) -> None:
        """Revert TREE with virsh, as soon as no scan holds it."""

        def done() -> bool:
            asked = self.host.virsh("snapshot-revert", TREE, snapshot, "--running", check=False)
            assert asked.returncode == 0 or "active block job" in asked.stderr, asked.stderr
            return asked.returncode == 0

        self.host.wait(done, f"{TREE} is reverted to {snapshot}")
        self.note(TREE)
        self.reverted.add(self.noted[TREE][-1].eid)
        self.holds = snapshot

    def look(self, name: str, chance: random.Random) -> None:
        """Let a machine run for a while; one that has to be in quarantine is closed at every look."""
        for _ in range(chance.randint(1, 3)):
            if self.is_unpatched(name):
                assert self.host.closed(name), f"{name} is open\n{self.host.log()}"
            time.sleep(chance.uniform(0, 0.6))

    def is_unpatched(self, name: str) -> bool:
        """Tell whether what a machine runs has the hole."""
        return name == BAD or (name == TREE and self.holds == UNPATCHED)

    def live(self, name: str, rounds: int, chance: random.Random) -> None:
        """Start and stop a machine that is off, and leave it running."""
        self.start(name)
        for _ in range(rounds):
            self.look(name, chance)
            self.host.virsh("destroy", name)
            time.sleep(chance.uniform(0, 0.3))
            self.start(name)
        self.look(name, chance)

    def rewind(self, rounds: int, chance: random.Random) -> None:
        """Revert TREE, which runs, and now and then start it anew; leave it running."""
        for _ in range(rounds):
            self.revert(chance.choice((UNPATCHED, PATCHED)))
            self.look(TREE, chance)
            if chance.random() < 0.4:
                self.host.virsh("destroy", TREE)
                self.start(TREE)
                self.look(TREE, chance)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetHost]:
    folder = tmp_path_factory.mktemp("kills")
    with fleethost.running(folder) as host:
        filesystem(folder, "old", OLD)
        filesystem(folder, "new", NEW)
        host.policy(POLICY)
        baremachines.install_witness(host)
        yield host


@pytest.fixture
def campaign(host: FleetHost) -> Iterator[Campaign]:
    """The machines, known to the agent, which runs; TREE runs patched and has a snapshot of each state."""
    old, new = host.folder / "old.fs", host.folder / "new.fs"
    images = {name: host.image(name, old if name == BAD else new) for name in (GOOD, BAD, TREE)}
    uuids = {name: baremachines.define(host, name, image) for name, image in images.items()}
    campaign = Campaign(host, uuids)
    host.start_agent()
    for state, snapshot in ((old, UNPATCHED), (new, PATCHED)):
        host.write(images[TREE], state)
        campaign.start(TREE)
        host.virsh("snapshot-create-as", TREE, snapshot)
        if snapshot == UNPATCHED:
            host.virsh("destroy", TREE)
    for snapshot, verdict in ((UNPATCHED, "drifting"), (PATCHED, "steady")):
        host.wait_for_verdict(f"{TREE}@{snapshot}", verdict)
    yield campaign
    host.stop_agent(signal.SIGKILL)
    for name in images:
        host.forget(name)


def kill_again_and_again(host: FleetHost, chance: random.Random, over: threading.Event) -> int:
    """Kill the agent at random moments and start it again, and return how often; it runs afterwards."""
    kills = 0
    while not over.wait(chance.uniform(0.1, 3)):
        host.stop_agent(signal.SIGKILL)
        kills += 1
        over.wait(chance.uniform(0, 1))
        host.start_agent()
    return kills


def executions(campaign: Campaign) -> dict[str, tuple[Execution, ...]]:
    with campaign.host.records() as records, records.reading() as record:
        return {name: record.own_executions(ident, 1000) for name, ident in campaign.uuids.items()}


def decisions(campaign: Campaign) -> dict[str, tuple[Decision, ...]]:
    with campaign.host.records() as records, records.reading() as record:
        return {name: record.decisions(ident, 1000) for name, ident in campaign.uuids.items()}


def follows_a_start(decision: Decision) -> bool:
    """Tell whether it was made about a machine that ran already, not in answer to its hook."""
    ident = hashlib.sha256(f"{decision.eid} {decision.action.value}".encode()).hexdigest()[:32]
    return decision.ident == ident


def check_lives(campaign: Campaign) -> None:
    """Each start has one execution, with its end where it stopped, and its hook's calls count once."""
    for name, known in executions(campaign).items():
        calls = baremachines.calls(campaign.host, name)
        noted = [note.eid for note in campaign.noted[name]]
        assert [one.eid for one in known] == noted, name
        assert calls["prepare begin"] == len(noted), name
        assert calls["release end"] == len([one for one in known if not one.live]), name
        assert {one.ending for one in known if not one.live} <= {"stopped"}, name
        for one in known:
            # What is started from disks that no guest has written to since may be taken for a revert.
            assert one.origin is Origin.REVERT or one.eid not in campaign.reverted or not one.certain, one
            assert one.ended_at is None or one.started_at <= one.ended_at, one


def check_decisions(campaign: Campaign) -> None:
    """Each start has one answer on record, by whom the hook says it was; none is lost or doubled."""
    for name, made in decisions(campaign).items():
        answers = [one for one in reversed(made) if not follows_a_start(one)]
        assert len({one.ident for one in made}) == len(made)
        for note in campaign.noted[name]:
            own = [(one.by, one.action) for one in answers if one.eid == note.eid]
            if note.reason.startswith(ALONE):
                # Beside it there may be an answer that was on record when the agent was killed over it.
                assert own.count(("hook", note.action)) == 1, (name, note, own)
                assert len(own) <= 2, (name, note, own)
            else:
                assert own == [("agent", note.action)], (name, note, own)
        assert {one.eid for one in made} == {note.eid for note in campaign.noted[name]}, name


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("seed", "rounds"), [(4, 5), pytest.param(40, 60, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_nothing_is_lost_doubled_or_opened_by_an_agent_that_is_killed_again_and_again(
    campaign: Campaign, seed: int, rounds: int
) -> None:
    host, over = campaign.host, threading.Event()
    dice = random.Random(seed)
    with ThreadPoolExecutor(4) as pool:
        killer = pool.submit(kill_again_and_again, host, random.Random(dice.random()), over)
        lives = [
            pool.submit(campaign.live, name, rounds, random.Random(dice.random())) for name in (GOOD, BAD)
        ]
        lives.append(pool.submit(campaign.rewind, rounds, random.Random(dice.random())))
        try:
            for life in lives:
                life.result()
        finally:
            over.set()
        assert killer.result() >= 2

    for name in (GOOD, BAD, TREE):
        closed = campaign.is_unpatched(name)
        host.wait(lambda n=name, c=closed: host.closed(n) == c, f"{name}: closed is {closed}", SETTLES_S)
    assert all(known[-1].live for known in executions(campaign).values())
    for name in (GOOD, BAD, TREE):
        host.virsh("destroy", name)
    settled(campaign)
    check_lives(campaign)
    check_decisions(campaign)
    answered = [note.reason.startswith(ALONE) for notes in campaign.noted.values() for note in notes]
    assert set(answered) == {True, False}, "some were decided by the agent, some by the hook alone"
    host.undercroft("audit", "verify", check=True)
    assert "Traceback" not in host.log()


def settled(campaign: Campaign) -> None:
    """Wait until everything that the hook kept is taken, and every life has its end."""
    host = campaign.host
    host.wait(lambda: not hookfiles.spooled(host.state), "the spool is empty", SETTLES_S)
    host.wait(
        lambda: not any(one.live for known in executions(campaign).values() for one in known),
        "every life has its end",
        SETTLES_S,
    )
    bad = host.state / "spool" / hookfiles.BAD_FOLDER
    assert not any(Path(bad).iterdir()), "what the hook wrote can be read"
