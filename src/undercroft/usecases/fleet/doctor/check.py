"""Can this host enforce? Every part is looked at, and each thing that is missing names its cure.

    checks = examine(host)
    worst = max(check.health for check in checks)

Nothing is changed here, and nothing is taken for granted: what could not be looked at is `UNKNOWN`.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from undercroft.errors import InputError, NotFoundError, UndercroftError
from undercroft.model.audit import SignedHead
from undercroft.model.domain import Domain
from undercroft.model.job import DiskInput
from undercroft.model.schema import encode
from undercroft.model.verdict import Action
from undercroft.steady.policy import Settings, Unenforceable
from undercroft.usecases.fleet.audit.audit import RESTART_CURE
from undercroft.usecases.fleet.audit.headfile import read_heads
from undercroft.usecases.fleet.doctor.beneath import BENEATH_LOOKS
from undercroft.usecases.fleet.doctor.checkup import CheckedHost, Look
from undercroft.usecases.fleet.doctor.filter import FILTER_LOOKS
from undercroft.usecases.fleet.doctor.health import Check, Health
from undercroft.usecases.fleet.doctor.host import HOST_LOOKS
from undercroft.usecases.fleet.verdicts.facts import domain_target, unholdable
from undercroft.usecases.fleet.verdicts.keptpolicy import kept_policy
from undercroft.usecases.fleet.verdicts.policyfile import read_texts

_MAX_NAMES = 12


def looked(name: str, look: Callable[[], Iterable[Check]], cure: str = "") -> tuple[Check, ...]:
    """Return what a look found; one that fails is told as such, with the error's own words."""
    try:
        return tuple(look())
    except UndercroftError as error:
        return (Check(name, Health.UNKNOWN, str(error), cure),)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return (Check(name, Health.UNKNOWN, f"{where}{error.strerror or error}", cure),)


def examine(host: CheckedHost) -> tuple[Check, ...]:
    """Return all checks, those first that others rest on."""
    looks: list[tuple[str, Callable[[], Iterable[Check]], str]] = [
        *(
            (name, partial(look, host), cure)
            for name, look, cure in (*HOST_LOOKS, *_FLEET_LOOKS, *BENEATH_LOOKS)
        ),
        *((name, partial(look, host.filter), cure) for name, look, cure in FILTER_LOOKS),
    ]
    return tuple(check for name, look, cure in looks for check in looked(name, look, cure))


def _sandbox(host: CheckedHost) -> Iterable[Check]:
    disk = DiskInput("probe", (), unread="nothing to read")
    with host.reader() as reader:
        reader.call("inventory", {"disks": [encode(disk)]}, ())
    yield Check("sandbox", Health.OK, "bubblewrap starts a reader, and it answers")


def _policy(host: CheckedHost) -> Iterable[Check]:
    path = host.places.policy
    try:
        policy = host.policy()
    except UndercroftError as error:
        cure = f"undercroft policy check {path}; {_meanwhile(host)}"
        yield Check("policy", Health.FAIL, str(error), cure)
        return
    files = ", ".join(policy.files)
    if files and _is_gone(host):
        found = f"{path} is gone; the last good one holds instead, over restarts too: {files}"
        cure = f"put {path} back; to lift what it enforced, write 'version: 1' into it and no more"
        yield Check("policy", Health.FAIL, found, cure)
    elif files:
        yield Check("policy", Health.OK, files)
    else:
        cure = f"write {path}: docs/POLICY.md"
        yield Check("policy", Health.WARN, "none is written; the built-in one holds", cure)


def _meanwhile(host: CheckedHost) -> str:
    """Return by what starts go while the policy is wrong; an agent that was never there keeps nothing."""
    try:
        last = kept_policy(host.places.kept_policy, host.clock().date())
    except UndercroftError as error:
        return f"meanwhile no agent starts: {error}"
    if last is None:
        return "meanwhile no agent starts: no good policy was ever kept"
    return "meanwhile the agent goes by the last good one, over restarts too"


def _is_gone(host: CheckedHost) -> bool:
    """Tell whether the files of a policy that is kept are not there."""
    if not host.places.kept_policy.exists():
        return False
    try:
        read_texts(host.places.policy)
    except NotFoundError:
        return True
    return False


def _record(host: CheckedHost) -> Iterable[Check]:
    with host.records() as records, records.reading() as record:
        machines = len(record.machines())
        log, number, _ = record.log_head()
        yield Check("record", Health.OK, f"{machines} machines, {number} entries in the log")
        try:
            heads = read_heads(host.places.heads) if host.places.heads.exists() else ()
        except InputError as error:
            yield Check("signed heads", Health.FAIL, f"nothing is signed: {error}", RESTART_CURE)
            return
        last = heads[-1] if heads else None
        signed = record.log_entries(last.number - 1, 1) if last and last.number else ()
    yield _signed(last, log, number, signed[0].digest if signed else "")


def _signed(last: SignedHead | None, log: str, number: int, digest: str) -> Check:
    """Return whether the log's end is signed.

    Args:
        last: the last head, None for none.
        log: the log's identity.
        number: of its last entry.
        digest: of its entry that `last` pins, "" for none.
    """
    if last is None:
        health = Health.WARN if number else Health.OK
        return Check("signed heads", health, "no head of the log is signed yet", "systemctl start undercroft")
    if last.log != log or (last.number and last.digest != digest):
        found = (
            f"the log does not continue the head that was signed for entry {last.number}: nothing is signed"
        )
        return Check("signed heads", Health.FAIL, found, RESTART_CURE)
    if last.number < number:
        found = f"{number - last.number} entries since the last signed head"
        cure = "the running agent signs: systemctl status undercroft"
        return Check("signed heads", Health.WARN, found, cure)
    return Check("signed heads", Health.OK, f"the log's head is signed, on {last.at:%Y-%m-%d %H:%M}")


def _advisories(host: CheckedHost) -> Iterable[Check]:
    try:
        feeds = host.feeds()
    except NotFoundError:
        feeds = ()
    stale = [feed.name for feed in feeds if feed.stale]
    if not feeds:
        found = "there are none: every machine is unknown"
        yield Check("advisories", Health.FAIL, found, "undercroft feeds update")
    elif stale:
        found = f"too old: {', '.join(stale)}; what rests on them is unknown"
        yield Check("advisories", Health.FAIL, found, "undercroft feeds update")
    else:
        oldest = min(feed.fetched_at for feed in feeds)
        yield Check("advisories", Health.OK, f"{len(feeds)} sources, fetched since {oldest:%Y-%m-%d %H:%M}")


def _machines(host: CheckedHost) -> Iterable[Check]:
    survey, policy = host.survey(), host.policy()
    machines = [
        (domain, policy.settings(domain_target(domain, survey.host)))
        for domain in survey.domains
        if not domain.ownership.template
    ]
    yield from _enforceable(machines)
    yield from _genids([domain for domain, _ in machines])


def _enforceable(machines: Sequence[tuple[Domain, Settings]]) -> Iterable[Check]:
    bad = [
        (domain, settings)
        for domain, settings in machines
        if unholdable(domain.interfaces) and _asks_for_quarantine(settings)
    ]
    refused = [domain for domain, settings in bad if settings.unenforceable.value is not Unenforceable.ALLOW]
    opened = [domain for domain, settings in bad if settings.unenforceable.value is Unenforceable.ALLOW]
    for domains, follows in ((refused, "not at all"), (opened, "with only their taps held")):
        if domains:
            found = (
                f"start {follows} where they should be quarantined, as not all their interfaces can be held:"
                f" {_named(domains)}"
            )
            yield Check("networks", Health.WARN, found, "give them interfaces on a bridge: virsh edit")
    if not bad:
        yield Check("networks", Health.OK, "every machine that may be quarantined can be")


def _asks_for_quarantine(settings: Settings) -> bool:
    answers = (settings.drifting, settings.unknown, settings.below_floor, settings.expired)
    return any(answer.value is Action.QUARANTINE for answer in answers)


def _genids(domains: Sequence[Domain]) -> Iterable[Check]:
    lacking = [domain for domain in domains if not domain.genid]
    if not lacking:
        yield Check("genid", Health.OK, "every machine has <genid/>")
        return
    found = f"without it a guest is not told of a restore, and repeats its random numbers: {_named(lacking)}"
    yield Check("genid", Health.WARN, found, f"undercroft machine {lacking[0].name} --mend genid")


def _named(domains: Sequence[Domain]) -> str:
    names = ", ".join(domain.name for domain in domains[:_MAX_NAMES])
    return f"{names} and {len(domains) - _MAX_NAMES} more" if len(domains) > _MAX_NAMES else names


_FLEET_LOOKS: tuple[tuple[str, Look, str], ...] = (
    ("sandbox", _sandbox, "apt install bubblewrap"),
    ("policy", _policy, ""),
    ("record", _record, "systemctl start undercroft"),
    ("advisories", _advisories, "undercroft feeds update"),
    ("machines", _machines, ""),
)
