"""What the agent does with each call of libvirt's hook. Nothing here asks libvirt.

`prepare begin` is decided and answered; everything else is put on record. What a hook decided while the agent
was away is recorded as it was, and the machine is looked at as soon as libvirt can be asked.

Where a filter is in force, `start begin` is answered too: its taps have their labels in the kernel then, or
are to be held. A machine whose `release end` was handled has none any more.
"""

import asyncio
import hashlib
from collections.abc import Callable

from undercroft.agent.admissionserver import Answer
from undercroft.agent.filters import Filters
from undercroft.agent.host import Host
from undercroft.errors import InputError, UndercroftError
from undercroft.model.domain import Domain
from undercroft.model.execution import HookEvent
from undercroft.model.fleet import Hold
from undercroft.model.schema import Json
from undercroft.model.verdict import Action, Decision
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history import hooks as history
from undercroft.usecases.fleet.history.facts import moment
from undercroft.usecases.fleet.starts.admission import decide, keep_decision, put_announced
from undercroft.usecases.fleet.starts.gate import HOOK
from undercroft.usecases.fleet.starts.hookdomain import hooked_domain
from undercroft.usecases.fleet.starts.network import let_go
from undercroft.usecases.fleet.starts.noted import held_by_hook, is_quarantined_start


class HookHandler:
    """`admissionserver.Handler`.

    Args:
        host: the host.
        ended: takes the UUID of a machine that has stopped: its disks are to be read.
        unseen: takes the UUID of a machine that a hook let start by itself.
        held: takes the UUID of a machine whose network a hook has closed.
        filters: the firewall.
    """

    def __init__(
        self,
        host: Host,
        ended: Callable[[str], None],
        unseen: Callable[[str], None],
        held: Callable[[str], None],
        filters: Filters,
    ) -> None:
        self._host = host
        self._ended = ended
        self._unseen = unseen
        self._held = held
        self._filters = filters
        self._background: set[asyncio.Task[None]] = set()

    async def __call__(self, event: HookEvent) -> Answer | None:
        """Take one event, and answer the one that waits."""
        if (event.operation, event.sub) == ("prepare", "begin") and not event.alone:
            decision = await self._host.answer(decide, self._host.means, event)
            self._later(decision)
            label, leaves_open = self._needs_label(decision), decision.leaves_open
            return Answer(decision.action, decision.hold, decision.reason, label, leaves_open)
        answer = await self._host.answer(self._record, event)
        if event.alone and event.operation == "prepare" and event.decided != Action.REFUSE:
            self._unseen(event.uuid)
        match event.operation, event.sub:
            case "start", "begin":
                self._held(event.uuid)
            case "release", "end":
                self._ended(event.uuid)
        return answer

    def _needs_label(self, decision: Decision) -> bool:
        """Tell whether taps need labels before QEMU runs; of a quarantine: whether labels are enough."""
        filter_ = self._host.means.filter
        return filter_.quarantines if decision.action is Action.QUARANTINE else filter_.required

    def _later(self, decision: Decision) -> None:
        """Keep the decision for when the agent is away, after the hook has its answer."""
        task = asyncio.create_task(self._keep(decision))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _keep(self, decision: Decision) -> None:
        valid = self._host.policy.policy.agent_away.last_decision
        try:
            await self._host.work(keep_decision, self._host.means, decision, valid)
        except UndercroftError as error:
            self._host.problem(f"{decision.name}: its decision is not kept for when the agent is away", error)

    def _record(self, event: HookEvent) -> Answer | None:
        """Put an event on record; return what a `start` is answered, None for any other."""
        host, step = self._host, (event.operation, event.sub)
        labels = step == ("start", "begin") and host.means.filter.required
        domain, hold, is_gone = None, None, False
        if step == ("migrate", "begin"):
            self._filters.arrives(event.uuid)
        with host.records.transaction() as record:
            if event.alone and event.decided:
                _decided_alone(record, event)
                _put_machine(host, record, event)
            history.hook_event(record, event, host.name)
            match step:
                case "start", "begin":
                    hold = held_by_hook(host.means, record, event)
                case "release", "end":
                    let_go(record, event.uuid, event.eid, moment(event.at_ns))
                    # An event may come twice: the labels of what has begun since are not this one's to take,
                    # for which `gone` looks once more: libvirt may tell of another start meanwhile.
                    is_gone = not _lives(record, event.uuid, host.name)
            if labels:
                domain = _put_machine(host, record, event)  # with its taps, which it had not at `prepare`
        if is_gone:
            self._filters.gone(event.uuid, migrated=event.extra == "migrated")
        return _labelled(host, event, domain, hold) if labels else None


def _lives(record: Record, machine: str, host: str) -> bool:
    return any(one.host == host for one in record.live_origins([machine]))


def _labelled(host: Host, event: HookEvent, domain: Domain | None, hold: Hold | None) -> Answer:
    """Give the taps of a machine that is about to run their labels; where that fails they are to be held.

    What is on record of it counts, which QEMU has not begun by yet.
    """
    if hold is not None and not hold.by_filter:
        return Answer(Action.ALLOW, True, "its taps are held")
    if hold is None and is_quarantined_start(host.means, event):
        # The policy whose labels were to close it has gone since `prepare`: ordinary ones would open it.
        return Answer(Action.ALLOW, True, "it is in quarantine, for which no labels are in force any more")
    taps = [item.tap for item in domain.interfaces if item.holdable] if domain else []
    try:
        host.means.filter.admit(event.uuid, taps)
    except UndercroftError as error:
        host.problem(f"{event.name}: its taps stay closed", error)
        return Answer(Action.ALLOW, True, str(error))
    return Answer(Action.ALLOW, False, "its taps have their labels")


def _decided_alone(record: Record, event: HookEvent) -> None:
    """Record what the hook decided by itself, also beside an answer of the agent's that never reached it."""
    action = Action(event.decided)
    at = moment(event.at_ns)
    before = record.decision(event.ident)
    unheard = before is not None and before.by != HOOK
    ident = hashlib.sha256(f"{event.ident} {HOOK}".encode()).hexdigest()[:32] if unheard else event.ident
    is_new = record.put_decision(
        Decision(ident, event.uuid, event.name, event.eid, action, False, event.reason, at, HOOK)
    )
    if is_new and before is not None and before.action is not action:
        body: dict[str, Json] = {"alarm": "late", "executions": [event.eid], "reason": _late(before, event)}
        record.log("alarm", event.uuid, body, at)


def _late(before: Decision, event: HookEvent) -> str:
    return (
        f"{event.name}: the agent's answer, {before.action}, came too late for the hook, which had "
        f"decided {event.decided} by itself"
    )


def _put_machine(host: Host, record: Record, event: HookEvent) -> Domain | None:
    """Put a machine that no survey may ever see on record; the event counts whatever its XML is."""
    known = host.domain(event.uuid)
    try:
        domain = hooked_domain(event, known, host.view().volumes)
    except InputError as error:
        host.problem(f"{event.name}: what the hook was told of it", error)
        return None
    put_announced(record, host.name, domain, moment(event.at_ns))
    return domain
