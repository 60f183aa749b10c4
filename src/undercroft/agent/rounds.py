"""What comes round: judging what was read, and everything when policy, advisories or time change it.

A policy that is wrong never replaces the one that holds. New advisories are asked about every software on
record, dormant machines and snapshots included; no disk is read for it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from undercroft.agent.host import Host, now
from undercroft.agent.memory import give_back
from undercroft.errors import UndercroftError
from undercroft.model.schema import Json
from undercroft.model.verdict import Judgement
from undercroft.usecases.fleet.starts.admission import follow_judgement
from undercroft.usecases.fleet.verdicts.floors import Reached, raise_floors, seen_to_have

LOOK_EVERY_S = 2.0
"""How often the files of policy and advisories are looked at."""
JUDGE_EVERY_S = 300.0
"""How often everything is judged anew because time has passed: graces end, scans grow old."""
GIVE_BACK_EVERY_S = 30.0
"""How often memory that was let go is given back to the host."""
GATHER_S = 0.1
GATHER_AT_MOST_S = 5.0


class Rounds:
    """Judges.

    Args:
        host: the host.
        busy: tells whether more scans are coming: judgements then wait for a while, to be made together.
        policy_changed: called when another policy holds.
        tick: called every `JUDGE_EVERY_S`.
    """

    def __init__(
        self,
        host: Host,
        busy: Callable[[], bool],
        policy_changed: Callable[[], None],
        tick: Callable[[], None],
    ) -> None:
        self._host = host
        self._busy = busy
        self._policy_changed = policy_changed
        self._tick = tick
        self._wanted: dict[str, None] = {}
        self._everything = False
        self._judging = False
        self._more = asyncio.Event()
        self._mark = ""
        self.judged_at = now()

    def judge(self, keys: Iterable[str]) -> None:
        """Ask for judgements of these subjects."""
        self._wanted |= dict.fromkeys(keys)
        if self._wanted:
            self._more.set()

    def judge_everything(self) -> None:
        """Ask for a judgement of every subject."""
        self._everything = True
        self._more.set()

    @property
    def idle(self) -> bool:
        """True when nothing is asked for and nothing is being judged."""
        return not (self._wanted or self._everything or self._judging)

    async def run(self) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._judge_for_ever())
            group.create_task(self._look_for_ever())

    async def _judge_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._more.wait()
            until = loop.time() + GATHER_AT_MOST_S
            while self._busy() and loop.time() < until:
                await asyncio.sleep(GATHER_S)
            keys, everything = tuple(self._wanted), self._everything
            self._wanted, self._everything, self._judging = {}, False, True
            self._more.clear()
            try:
                await self._host.work(self._judge, () if everything else keys)
            except Exception as error:  # noqa: BLE001 - tried again with the next round
                self._host.problem("judging", error)
                self._wanted |= dict.fromkeys(keys)
                self._everything |= everything
                await asyncio.sleep(LOOK_EVERY_S)
                self._more.set()
            finally:
                self._judging = False

    def _judge(self, keys: tuple[str, ...]) -> None:
        host = self._host
        with host.advisor.advice(now()) as advised:
            judgements = host.judging.everything(host.policy.policy, advised, keys)
            self._follow(judgements)
            if not keys and advised.mark != self._mark:
                raise_floors(host.records, self._reached(), advised.knowledge)
                self._mark = advised.mark
        self.judged_at = now()

    def _follow(self, judgements: Mapping[str, Judgement]) -> None:
        """Let the decisions that are kept for when the agent is away follow what has changed since.

        Each file is looked at in each round, about 0.1 ms a machine: no memory of what was written tells what
        stands there after a full disk, a start meanwhile, or half of a decision's time.
        """
        valid = self._host.policy.policy.agent_away.last_decision
        failed: list[tuple[str, UndercroftError]] = []
        for key, judgement in judgements.items():
            if key.startswith("machine:"):
                try:
                    follow_judgement(self._host.means, judgement, valid)
                except UndercroftError as error:
                    failed.append((key, error))
        if failed:
            key, first = failed[0]
            others = f" and of {len(failed) - 1} more" if len(failed) > 1 else ""
            self._host.problem(f"what is kept of {key}{others} for when the agent is away is old", first)

    def _reached(self) -> list[Reached]:
        """Return what every machine has: an index that is newer may list what it could not list before."""
        with self._host.records.reading() as record:
            scans = record.scans()
            own = [subject for subject in record.subjects() if subject.host == self._host.name]
        found = [seen_to_have(subject, scans.get(subject.key)) for subject in own]
        return [one for one in found if one is not None]

    async def _look_for_ever(self) -> None:
        last: str | None = None
        loop = asyncio.get_running_loop()
        next_tick = loop.time() + JUDGE_EVERY_S
        give_back_at = loop.time() + GIVE_BACK_EVERY_S
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if loop.time() >= give_back_at:
                give_back_at = loop.time() + GIVE_BACK_EVERY_S
                await self._host.work(give_back)
            await self._look_at_policy()
            mark = await self._host.work(self._host.advisor.mark, now())
            if (last is not None and mark != last) or loop.time() >= next_tick:
                self.judge_everything()
            if loop.time() >= next_tick:
                next_tick = loop.time() + JUDGE_EVERY_S
                self._tick()
            last = mark

    async def _look_at_policy(self) -> None:
        found = await self._host.work(self._host.policy.refresh)
        if found is None:
            return
        body: dict[str, Json] = {"digest": found.policy.digest, "problem": found.problem}
        try:
            await self._host.work(self._log, body)
        except UndercroftError as error:
            self._host.problem("what became of the policy's files is not on record", error)
        if found.problem:
            self._host.report(f"the policy was not taken over, the last good one holds: {found.problem}")
        if found.changed:
            self._policy_changed()
            self.judge_everything()

    def _log(self, body: dict[str, Json]) -> None:
        with self._host.records.transaction() as record:
            record.log("policy", self._host.name, body, now())
