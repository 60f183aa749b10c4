"""Whether one version of a source package has one vulnerability, by the statements of one feed.

Rules, with the reasons:

1. Within one feed the highest fixed version wins: a second advisory about the same vulnerability means
   that the first fix was not one.
2. Fixed version "0" is Debian's way to write "never affected".
3. A version with an ESM suffix is judged by the ESM stream; one without is judged by everybody's archive,
   because "1.0-1ubuntu0.2" sorts above "1.0-1ubuntu0.1+esm1" without holding its fix. A fix that only ESM
   has needs a subscription.
4. "Undetermined" counts as affected, without a fix: nobody has said that it is clean. So does what the
   publisher is still looking into, will not fix, or does not look after any more; the finding says which.
5. A version that an advisory of rpms or of Windows lists as fixed is fixed by this advisory, although it
   lists a higher one too: it had one build for each architecture. Elsewhere a second range is a second fault.
6. rpm's streams (Red Hat's extended update support, SUSE's LTSS) go on from one minor release. A build that
   names its minor release ("el9_2") and has the stream's fix for it is fixed, although everybody's fix is
   higher; one that does not ("3.10.0-1160.el7") proves nothing by being above another stream's fix. The
   stream's fix counts, as one that needs a subscription, where everybody's repositories have none, or
   nothing is said of them. A machine that names the stream's repositories as its own gets the stream's fix,
   and it is the one that is named; no finding goes away by that (`streams`).
7. A version that its manager would not call one is below every fix, and never below the first that is
   affected: it is not clean because it cannot be compared.

Versions stand in the order of the release's family.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from undercroft.advisories.orders.order import Order
from undercroft.advisories.orders.table import BUILD, DEB, RPM
from undercroft.advisories.records import Advisory, Status
from undercroft.advisories.streams import Streams
from undercroft.errors import InputError
from undercroft.model.finding import FixState

_EXTENDED = re.compile(r"[+~.]esm[0-9]")
_MINOR_RELEASE = re.compile(r"el[0-9]{1,2}_[0-9]{1,2}")
_WITHOUT_FIX = {
    Status.INVESTIGATED: FixState.UNDER_INVESTIGATION,
    Status.WILL_NOT_FIX: FixState.WILL_NOT_FIX,
    Status.OUT_OF_SUPPORT: FixState.OUT_OF_SUPPORT,
}


@dataclass(frozen=True, slots=True)
class Claim:
    """One feed's word that a version is affected.

    Attributes:
        feed: its name.
        fix: whether, by this feed, a fix can be had.
        fixed_version: "" for none.
        undetermined: the feed has only not said that the version is clean.
        statements: those that say so.
    """

    feed: str
    fix: FixState
    fixed_version: str
    undetermined: bool
    statements: tuple[Advisory, ...]


def is_extended(version: str) -> bool:
    """Tell whether a version is of an extended stream (rule 3)."""
    return _EXTENDED.search(version) is not None


def affects(statement: Advisory, version: str, order: Order = DEB) -> bool:
    """Return whether `statement`, taken alone, leaves `version` affected."""
    key = order.key
    if statement.status is Status.NOT_AFFECTED:
        return False
    introduced = statement.introduced_version
    if introduced and key(version) < key(introduced) and _is_version(version, order):  # 7
        return False
    if statement.status is not Status.FIXED or not statement.fixed_version:  # a fix in no version is no fix
        return True
    return statement.fixed_version != "0" and key(version) < key(statement.fixed_version)


def _is_version(text: str, order: Order) -> bool:
    try:
        order.check(text)
    except InputError:
        return False
    return True


def claim(
    feed: str,
    statements: Sequence[Advisory],
    version: str,
    order: Order = DEB,
    others: Mapping[str, str] | None = None,
    streams: Streams = frozenset(),
) -> Claim | None:
    """Return what `feed` says against `version`, None when it says nothing against it.

    Args:
        feed: its name.
        statements: all of this feed's about one vulnerability in one package.
        version: installed version, untrusted; of the source package where the statements name sources.
        order: of the release's family.
        others: versions to compare with statements about other subjects that stand for the same package.
        streams: those that the machine says it has (rule 6).
    """
    versions = others or {}
    affecting = [
        statement
        for statement in statements
        if affects(statement, versions.get(statement.source, version), order)
    ]
    if affecting and len(statements) > 1 and (order is RPM or order is BUILD):
        affecting = _unlisted(statements, affecting, order.key(version), order)  # 5
    if not affecting:
        return None
    if order is RPM and [statement for statement in statements if statement.stream]:
        return _claim_of_minor_releases(feed, statements, affecting, version, streams)  # 6
    if [statement for statement in statements if statement.stream]:
        return _claim_of_streams(feed, statements, affecting, version, order)
    fixed_version = _highest(affecting, order)
    return _claim(feed, affecting, fixed_version, FixState.FIXABLE)


def _unlisted(
    statements: Sequence[Advisory], affecting: Sequence[Advisory], installed: bytes, order: Order
) -> list[Advisory]:
    """Return those of `affecting` whose advisory does not list the installed version as fixed."""
    listing = {
        statement.advisory
        for statement in statements
        if statement.status is Status.FIXED
        and statement.advisory
        and order.key(statement.fixed_version) == installed
    }
    return [statement for statement in affecting if statement.advisory not in listing]


def _claim_of_streams(
    feed: str, statements: Sequence[Advisory], affecting: Sequence[Advisory], version: str, order: Order
) -> Claim | None:
    """Return the claim where an extended stream has its say (rule 3); some statement is affecting."""
    plain = [statement for statement in statements if not statement.stream]
    plain_affecting = [statement for statement in affecting if not statement.stream]
    extended_affecting = [statement for statement in affecting if statement.stream]
    extended_fix = _highest(extended_affecting, order)
    if not plain or is_extended(version):
        is_fixed = any(statement.status is Status.FIXED for statement in plain) and not plain_affecting
        if is_fixed or not extended_affecting:
            return None
        return _claim(feed, extended_affecting, extended_fix, FixState.NEEDS_SUBSCRIPTION)
    if not plain_affecting:
        return None
    if fixed_version := _highest(plain_affecting, order):
        return _claim(feed, plain_affecting, fixed_version, FixState.FIXABLE)
    return _claim(feed, plain_affecting, extended_fix, FixState.NEEDS_SUBSCRIPTION)


def _claim_of_minor_releases(
    feed: str, statements: Sequence[Advisory], affecting: Sequence[Advisory], version: str, streams: Streams
) -> Claim | None:
    """Return the claim where rpm's streams have their say (rule 6); some statement is affecting."""
    minor = minor_release(version)
    fixes = [
        statement
        for statement in statements
        if statement.stream and statement.fixed_version and minor_release(statement.fixed_version) == minor
    ]
    open_fixes = [statement for statement in fixes if statement in affecting]
    plain_affecting = [statement for statement in affecting if not statement.stream]
    fixed_again = [item for item in plain_affecting if minor and minor_release(item.fixed_version) == minor]
    if minor and fixes and not open_fixes and not fixed_again:
        return None
    if had := [one for one in affecting if (one.stream, minor_release(one.fixed_version)) in streams]:
        return _claim(feed, [*had, *plain_affecting], _highest(had, RPM), FixState.FIXABLE)
    if fixed_version := _highest(plain_affecting, RPM):
        return _claim(feed, plain_affecting, fixed_version, FixState.FIXABLE)
    if open_fixes:
        return _claim(feed, open_fixes, _highest(open_fixes, RPM), FixState.NEEDS_SUBSCRIPTION)
    if plain_affecting:
        return _claim(feed, plain_affecting, "", FixState.UNFIXED)
    if any(not statement.stream for statement in statements):
        return None
    return _claim(feed, affecting, _highest(affecting, RPM), FixState.NEEDS_SUBSCRIPTION)


def minor_release(version: str) -> str:
    """Return "el9_2" of a build that Red Hat made for 9.2, "" for every other."""
    match = _MINOR_RELEASE.search(version)
    return match[0] if match else ""


def _claim(feed: str, affecting: Sequence[Advisory], fixed_version: str, fix: FixState) -> Claim:
    open_questions = [statement for statement in affecting if statement.status is Status.UNDETERMINED]
    return Claim(
        feed,
        fix if fixed_version else _without_fix(affecting),
        fixed_version,
        len(open_questions) == len(affecting),
        tuple(affecting),
    )


def _without_fix(affecting: Sequence[Advisory]) -> FixState:
    """Return what all statements say of why there is no fix, UNFIXED where they differ or do not say."""
    states = {_WITHOUT_FIX.get(statement.status, FixState.UNFIXED) for statement in affecting}
    return states.pop() if len(states) == 1 else FixState.UNFIXED


def _highest(affecting: Sequence[Advisory], order: Order) -> str:
    """Return the version from which none of the statements affects any more, "" when there is none."""
    versions = [statement.fixed_version for statement in affecting]  # "" unless FIXED
    return "" if "" in versions else max(versions, key=order.key, default="")
