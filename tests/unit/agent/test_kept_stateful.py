"""Random lives of a kept decision against a model of what its file must say.

Starts, orders, judgements, starts that a hook decided alone, full disks, spoiled files, agents that begin
anew and time that passes come in any order, and what a start decided may reach the file late.
"""

import tempfile
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from keptdecisions import VALID, Agent, Kept, full_disk

from undercroft.errors import UndercroftError
from undercroft.model.verdict import Action, Decision
from undercroft.usecases.fleet.starts.admission import keep_decision

_ACTIONS = st.sampled_from(list(Action))
_SPOILED = "spoiled"


class KeptDecision(RuleBasedStateMachine):
    """One machine. `says`: what the file must say, None for no file; `followed`: whether rounds may write."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.kept = Kept(Path(self.folder.name))
        self.agent = Agent(self.kept)
        self.says: Action | str | None = None
        self.until = self.kept.now
        self.followed = False
        self.late: Decision | None = None

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def _keep(self, decision: Decision, *, full: bool) -> None:
        """Do what `HookHandler` does once it has answered."""
        try:
            with full_disk() if full else nullcontext():
                keep_decision(self.kept.means, decision, VALID)
        except UndercroftError:
            assert full
            return
        assert not full
        self.says, self.until = decision.action, _whole(decision.at + VALID)

    @rule(action=_ACTIONS, full=st.booleans())
    def start(self, action: Action, full: bool) -> None:
        self.kept.put(action)
        self.followed, self.late = True, None
        self._keep(self.kept.last, full=full)

    @rule(action=_ACTIONS)
    def start_that_is_kept_late(self, action: Action) -> None:
        self.kept.put(action)
        self.followed, self.late = True, self.kept.last

    @rule(full=st.booleans())
    def keep_late(self, full: bool) -> None:
        if self.late is not None:
            self._keep(self.late, full=full)
            self.late = None

    @rule(action=_ACTIONS)
    def start_without_the_agent(self, action: Action) -> None:
        self.kept.put(action, by="hook")
        self.followed = True

    @rule()
    def order(self) -> None:
        self.kept.put(Action.ALLOW, by="root")
        keep_decision(self.kept.means, self.kept.last, VALID)
        self.followed = False

    @rule(action=_ACTIONS, full=st.booleans())
    def judge(self, action: Action, full: bool) -> None:
        before = len(self.agent.problems)
        with full_disk() if full else nullcontext():
            self.agent.round(action)
        failed = len(self.agent.problems) > before
        assert full or not failed
        if self.followed and not failed:
            found = self.kept.read()
            assert found.action is action
            assert VALID / 2 <= found.until - self.kept.now <= VALID
            assert found.until == self.until or found.until == _whole(self.kept.now + VALID)
            self.says, self.until = action, found.until
        if failed:
            # It was right to try: the file does not say it, or not for long enough.
            assert self.followed
            assert self.says is not action or self.until - self.kept.now < VALID / 2

    @rule(hours=st.integers(min_value=1, max_value=100))
    def wait(self, hours: int) -> None:
        self.kept.now += timedelta(hours=hours)

    @rule()
    def begin_anew(self) -> None:
        self.agent = Agent(self.kept)

    @rule(cut=st.integers(min_value=0, max_value=100))
    def spoil(self, cut: int) -> None:
        if self.kept.path.exists():
            self.kept.path.write_bytes(self.kept.path.read_bytes()[:cut])
            self.says = _SPOILED

    @rule()
    def lose(self) -> None:
        self.kept.path.unlink(missing_ok=True)
        self.says = None

    @invariant()
    def the_file_says_what_the_model_says(self) -> None:
        try:
            found = self.kept.read()
        except UndercroftError:
            assert self.says == (_SPOILED if self.kept.path.exists() else None)
            return
        assert (found.action, found.until) == (self.says, self.until)

    @invariant()
    def nothing_half_written_stays(self) -> None:
        assert set(self.kept.path.parent.iterdir()) <= {self.kept.path}


def _whole(at: datetime) -> datetime:
    return at.replace(microsecond=0)


class TestKeptDecision(KeptDecision.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(stateful_step_count=40, deadline=None)
