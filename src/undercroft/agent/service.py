"""The agent from its start to its end.

It answers hooks before it asks libvirt for anything: a host that comes up starts its machines as soon as
libvirt does. When it ends, however it ends, what is closed stays closed, and the hook goes by the last
decisions.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path

from undercroft.adapters import hookfiles
from undercroft.agent.admissionserver import AdmissionServer
from undercroft.agent.channels import Channels
from undercroft.agent.events import Events
from undercroft.agent.filters import Filters
from undercroft.agent.firewall import Firewall
from undercroft.agent.guestchild import GuestChild
from undercroft.agent.hooks import HookHandler
from undercroft.agent.host import Host, now
from undercroft.agent.links import Links
from undercroft.agent.opening import Options, opened
from undercroft.agent.orders import Orders
from undercroft.agent.rounds import Rounds
from undercroft.agent.scans import Scans, Wish
from undercroft.agent.signing import Signing
from undercroft.agent.systemd import ServiceManager
from undercroft.errors import UndercroftError
from undercroft.model.domain import Domain
from undercroft.model.schema import Json
from undercroft.steady.policy import Policy
from undercroft.usecases.fleet.places import Places
from undercroft.usecases.fleet.starts.confirming import Confirmed
from undercroft.version import VERSION

QUARANTINE_LOOK_EVERY_S = 120.0
"""How often a machine in quarantine is read anew: it leaves when it is in order."""


async def serve(options: Options, report: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        options: how.
        report: takes lines for the service's log.

    Raises:
        InputError: the policy is wrong, one line for each mistake, and no good one was ever kept.
        StateError: another agent runs here; the record is of a newer version.
        DeniedError, OperationError: folders, record, sandbox or socket can't be had.
    """
    with opened(options, report) as (host, firewall):
        await Agent(options, host, firewall).run()


class Agent:
    """All parts, wired together."""

    def __init__(self, options: Options, host: Host, firewall: Firewall) -> None:
        self._options = options
        self._host = host
        self._filters = Filters(host, firewall, self._policy_changed)
        self._manager = ServiceManager(os.environ)
        self._rounds = Rounds(host, lambda: not self._scans.idle, self._policy_changed, self._tick)
        self._scans = Scans(host, self._rounds.judge, self._follow)
        self._events = Events(
            host, self._scans, self._rounds.judge, self._heard, self._hooks_behind, self._filters, self._lines
        )
        starts = self._events.starts
        self._channels = Channels(host, starts)
        handler = HookHandler(host, self._ended, starts.look_at, starts.held, self._filters)
        places = options.places
        self._server = AdmissionServer(places.state, places.admission_socket, handler, host.report)
        self._stop = asyncio.Event()
        self._signing = Signing(host)

    async def run(self) -> None:
        """Run until a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        starts = self._events.starts
        orders = Orders(self._host, self._ended, self._events.survey_soon, starts.again, self._lines)
        await self._host.work(self._begin)
        async with self._server:
            self._manager.ready("answering hooks")
            parts = (
                self._events.run,
                self._scans.run,
                self._rounds.run,
                self._filters.run,
                self._channels.run,
                Links(self._host).run,
                orders.run,
                self._signing.run,
                self._keep_alive,
                self._look_at_quarantined,
                *self._guest_service(),
            )
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(part()) for part in parts]
                    self._rounds.judge_everything()
                    await self._stop.wait()
                    self._manager.stopping()
                    for task in tasks:
                        task.cancel()
            except* UndercroftError as failed:
                raise _first(failed) from failed
        await self._host.work(self._end)

    def _guest_service(self) -> list[Callable[[], Coroutine[None, None, None]]]:
        """Return what keeps the guest service running, where that is the agent's to do."""
        child = GuestChild(self._options.places, self._host.report)
        return [child.run] if self._options.guest_service else []

    def _begin(self) -> None:
        options, host = self._options, self._host
        host.recall()
        self._filters.begin(labelled=_labelled(options.hooks))
        if options.hooks is not None:
            self._install_hook(options.hooks)
        self._log({"agent": "started", "version": VERSION, "policy": host.policy.policy.digest})
        self._tell_policy()

    def _tell_policy(self) -> None:
        """Tell loudly that the policy's files are not what holds, or are not kept for the next start."""
        host, policy = self._host, self._host.policy
        if policy.problem:
            host.report(f"the policy's files do not hold, the last good policy does:\n{policy.problem}")
            with host.records.transaction() as record:
                body: dict[str, Json] = {"digest": policy.policy.digest, "problem": policy.problem}
                record.log("policy", host.name, body, now())
        self._tell_unkept()

    def _tell_unkept(self) -> None:
        if self._host.policy.unkept:
            self._host.report(self._host.policy.unkept)

    def _end(self) -> None:
        try:
            self._log({"agent": "stopped"})
        except UndercroftError as error:
            self._host.problem("that the agent stops is not on record", error)
        self._signing.sign(last=True)

    def _install_hook(self, hooks: Path) -> None:
        host = self._host
        label = host.means.filter.required
        installed = hookfiles.install_hook(hooks, hook_settings(host.places, host.policy.policy, label=label))
        if installed.needs_reload:
            try:
                hookfiles.reload_daemon()
            except UndercroftError as error:
                host.report(f"the hook counts once libvirt's daemon starts: {error}")

    def _policy_changed(self) -> None:
        self._tell_unkept()
        if self._options.hooks is not None:
            try:
                self._install_hook(self._options.hooks)
            except UndercroftError as error:
                self._host.problem("the hook was not told of what has changed", error)

    def _heard(self, what: str, reason: str) -> None:
        if what == "lost":
            self._host.report(f"libvirt: {reason}; tried again until it answers")
        self._manager.status("watching libvirt" if what == "connected" else "libvirt does not answer")
        task = asyncio.ensure_future(self._host.work(self._log, {"agent": what, "reason": reason}))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _hooks_behind(self, uuid: str) -> bool:
        return self._server.is_behind(uuid)

    def _lines(self, machines: Iterable[str]) -> None:
        self._channels.changed(machines)

    def _follow(self, domain: Domain, confirmed: Confirmed) -> None:
        self._events.starts.follow(domain, confirmed)

    def _ended(self, uuid: str) -> None:
        self._scans.add(uuid, first=True)

    def _tick(self) -> None:
        self._events.survey_soon()

    def _log(self, body: dict[str, Json]) -> None:
        with self._host.records.transaction() as record:
            record.log("agent", self._host.name, body, now())

    async def _keep_alive(self) -> None:
        if not self._manager.watchdog_s:
            return
        while True:
            self._manager.alive()
            await asyncio.sleep(self._manager.watchdog_s / 3)

    async def _look_at_quarantined(self) -> None:
        while True:
            await asyncio.sleep(QUARANTINE_LOOK_EVERY_S)
            try:
                held = await self._host.work(self._quarantined)
            except UndercroftError as error:
                self._host.problem("who is in quarantine cannot be told; it is tried again", error)
                continue
            for machine in held:
                self._scans.add(machine, Wish(settle=True, credentials=True))

    def _quarantined(self) -> list[str]:
        with self._host.records.reading() as record:
            held = [hold.machine for hold in record.holds() if not hold.pending]
        found = ((uuid, self._host.domain(uuid)) for uuid in held)
        return [uuid for uuid, domain in found if domain is not None and domain.power.has_process]


def _first(failed: BaseExceptionGroup[UndercroftError]) -> UndercroftError:
    """Return the first of the errors that ended the agent; their own messages say it all."""
    found: BaseException = failed
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, UndercroftError)
    return found


def _labelled(hooks: Path | None) -> bool:
    """Tell whether taps needed labels by what the hook was told last."""
    try:
        return hooks is not None and hookfiles.read_settings(hooks).label
    except UndercroftError:
        return False  # it was told nothing yet, or is told anew


def hook_settings(places: Places, policy: Policy, *, label: bool = False) -> hookfiles.HookSettings:
    """Return what the hook has to know of a policy, and whether a firewall's labels are needed."""
    return hookfiles.HookSettings(
        state=str(places.state),
        socket=str(places.admission_socket),
        away=policy.agent_away.default,
        break_glass=policy.break_glass,
        label=label,
    )
