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
5. A version that an advisory lists as fixed is fixed by this advisory, although it lists a higher one too:
   it had one build for each architecture.
6. rpm's streams (Red Hat's extended update support, SUSE's LTSS) go on from one minor release. A build of the
   same minor release ("el9_2") that has the stream's fix is fixed, although everybody's fix is higher; the
   stream's fix counts, as one that needs a subscription, where everybody's repositories have none.

Versions stand in the order of the release's family.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from undercroft.advisories.orders.order import Order
from undercroft.advisories.orders.table import DEB, RPM
from undercroft.advisories.records import Advisory, Status
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
    if statement.introduced_version and key(version) < key(statement.introduced_version):
        return False
    if statement.status is not Status.FIXED or not statement.fixed_version:  # a fix in no version is no fix
        return True
    return statement.fixed_version != "0" and key(version) < key(statement.fixed_version)


def claim(feed: str, statements: Sequence[Advisory], version: str, order: Order = DEB) -> Claim | None:
    """Return what `feed` says against `version`, None when it says nothing against it.

    Args:
        feed: its name.
        statements: all of this feed's about one vulnerability in one package.
        version: installed version, untrusted; of the source package where the statements name sources.
        order: of the release's family.
    """
    affecting = [statement for statement in statements if affects(statement, version, order)]
    if affecting and len(statements) > 1 and order is not DEB:
        affecting = _unlisted(statements, affecting, order.key(version), order)  # 5
    if not affecting:
        return None
    if order is RPM and [statement for statement in statements if statement.stream]:
        return _claim_of_minor_releases(feed, statements, affecting, version)  # 6
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
    feed: str, statements: Sequence[Advisory], affecting: Sequence[Advisory], version: str
) -> Claim | None:
    """Return the claim where rpm's streams have their say (rule 6); some statement is affecting."""
    minor = _minor_release(version)
    fixes = [
        statement
        for statement in statements
        if statement.stream and statement.fixed_version and _minor_release(statement.fixed_version) == minor
    ]
    if fixes and not any(statement in affecting for statement in fixes):
        return None
    plain = [statement for statement in statements if not statement.stream]
    plain_affecting = [statement for statement in affecting if not statement.stream]
    if plain and not plain_affecting:
        return None
    if fixed_version := _highest(plain_affecting, RPM):
        return _claim(feed, plain_affecting, fixed_version, FixState.FIXABLE)
    if fixes:
        open_fixes = [statement for statement in fixes if statement in affecting]
        return _claim(feed, open_fixes, _highest(open_fixes, RPM), FixState.NEEDS_SUBSCRIPTION)
    return _claim(feed, plain_affecting, "", FixState.UNFIXED) if plain_affecting else None


def _minor_release(version: str) -> str:
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
