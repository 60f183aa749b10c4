"""Which machines and images are to be read because they never were, or not for as long as the policy minds.

How old a scan may be is said by the policy for each machine (`scanned_within`); it is read anew when half of
that has passed, so that the queue has the other half. States whose accounts, keys and secrets are not known
are due as well, last of all.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from undercroft.agent.host import Host, now
from undercroft.agent.scans import Scans, Wish, lacks_credentials
from undercroft.errors import UndercroftError
from undercroft.model.domain import Domain
from undercroft.model.fleet import Scan
from undercroft.model.verdict import Subject, SubjectKind
from undercroft.steady.policy import Policy, Target
from undercroft.usecases.fleet.verdicts.facts import domain_target

LOOK_EVERY_S = 60.0
"""How often it is looked who is due: with half of the shortest time that a policy may say, in time for it."""
SETTLED = timedelta(minutes=1)
"""A running machine whose credentials are not known is held for them when its last look is so long ago: not
in the seconds after its start, in which its administrator is at work on it."""
AGAIN = timedelta(minutes=5)
"""A subject that a scan did not reach is not asked for more often: reading a running machine holds it."""


class Due:
    """Asks for the scans that are due.

    Args:
        host: the host.
        scans: the queue.
    """

    def __init__(self, host: Host, scans: Scans) -> None:
        self._host = host
        self._scans = scans
        self._asked: dict[str, datetime] = {}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.ask()
            except UndercroftError as error:
                self._host.problem("who is to be read again cannot be told; it is tried again", error)

    async def ask(self) -> None:
        """Put who is due into the queue. Raises OperationError where the record fails."""
        for key, wish in (await self._host.work(self.wishes, now())).items():
            self._scans.add(key, wish)

    def wishes(self, at: datetime) -> Mapping[str, Wish]:
        """Return what is due at a time, by machine (its UUID) or image, and note that it was asked for.

        Raises:
            OperationError: the record fails.
        """
        host, domains = self._host, self._host.domains()
        with host.records.reading() as record:
            scans = record.scans()
            subjects = [subject for subject in record.subjects() if subject.host == host.name]
        ages = _Ages(host.policy.policy)
        found: dict[str, Wish] = {}
        asked: dict[str, datetime] = {}
        for subject in subjects:
            domain = domains.get(subject.machine)
            limits = at - ages.within(subject, domain) / 2, at - SETTLED
            wish = _wish(subject, domain, scans.get(subject.key), limits)
            if wish is None:
                continue
            before = self._asked.get(subject.key)
            if before is not None and at - before < AGAIN:
                asked[subject.key] = before
                continue
            asked[subject.key] = at
            key = subject.machine or subject.key
            found[key] = found[key].with_(wish) if key in found else wish
        self._asked = asked
        return found


class _Ages:
    """How old scans may be under one policy; many machines are matched alike, and are matched once."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._within: dict[Target, timedelta] = {}

    def within(self, subject: Subject, domain: Domain | None) -> timedelta:
        """Return how old a subject's scan may be."""
        if not self._policy.rules:
            return self._policy.defaults.scanned_within.value
        image = Target(subject.name, host=subject.host)
        target = image if domain is None else domain_target(domain, subject.host)
        if target not in self._within:
            self._within[target] = self._policy.settings(target).scanned_within.value
        return self._within[target]


def _wish(
    subject: Subject, domain: Domain | None, scan: Scan | None, limits: tuple[datetime, datetime]
) -> Wish | None:
    """Return what to ask for; `limits`: read before the first is too old, before the second may be held."""
    too_old, settled = limits
    is_live = domain is not None and domain.power.has_process
    if scan is None or scan.scanned_at < too_old:
        return Wish()
    if domain is None or not lacks_credentials(scan):
        return None
    if is_live and subject.kind is SubjectKind.SNAPSHOT:
        return Wish(credentials=True, snapshots_alone=True)
    return Wish(credentials=True) if not is_live or scan.scanned_at < settled else None
