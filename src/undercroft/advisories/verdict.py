"""Whether one version of a source package has one vulnerability, by the statements of one feed.

Rules, with the reasons:

1. Within one feed the highest fixed version wins: a second advisory about the same vulnerability means
   that the first fix was not one.
2. Fixed version "0" is Debian's way to write "never affected".
3. A version with an ESM suffix is judged by the ESM stream; one without is judged by everybody's archive,
   because "1.0-1ubuntu0.2" sorts above "1.0-1ubuntu0.1+esm1" without holding its fix. A fix that only ESM
   has needs a subscription.
4. "Undetermined" counts as affected, without a fix: nobody has said that it is clean.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from undercroft.advisories.debversion import key
from undercroft.advisories.records import Advisory, Status
from undercroft.model.finding import FixState

_EXTENDED = re.compile(r"[+~.]esm[0-9]")


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


def affects(statement: Advisory, version: str) -> bool:
    """Return whether `statement`, taken alone, leaves `version` affected."""
    if statement.introduced_version and key(version) < key(statement.introduced_version):
        return False
    match statement.status:
        case Status.NOT_AFFECTED:
            return False
        case Status.FIXED if statement.fixed_version:
            return statement.fixed_version != "0" and key(version) < key(statement.fixed_version)
        case _:
            return True  # a fix in no version is no fix


def claim(feed: str, statements: Sequence[Advisory], version: str) -> Claim | None:
    """Return what `feed` says against `version`, None when it says nothing against it.

    Args:
        feed: its name.
        statements: all of this feed's about one vulnerability in one source package, at least one.
        version: installed source version, untrusted.
    """
    extended = [statement for statement in statements if statement.stream]
    if not extended:
        return _claim(feed, [statement for statement in statements if affects(statement, version)])
    plain = [statement for statement in statements if not statement.stream]
    plain_affecting = [statement for statement in plain if affects(statement, version)]
    extended_affecting = [statement for statement in extended if affects(statement, version)]
    if plain and not _EXTENDED.search(version):
        return _claim(feed, plain_affecting, extended_affecting) if plain_affecting else None
    fixed_for_everybody = any(statement.status is Status.FIXED for statement in plain) and not plain_affecting
    return None if fixed_for_everybody else _claim(feed, extended_affecting)


def _claim(feed: str, affecting: Sequence[Advisory], extended: Sequence[Advisory] = ()) -> Claim | None:
    """Return the claim of statements that all affect the version, None without any.

    Those of `extended` only say where a fix is to be had that the others do not offer.
    """
    if not affecting:
        return None
    undetermined = all(statement.status is Status.UNDETERMINED for statement in affecting)
    fixed_version, fix = _highest(affecting), FixState.FIXABLE
    if affecting[0].stream or (not fixed_version and extended):
        fixed_version, fix = _highest(extended or affecting), FixState.NEEDS_SUBSCRIPTION
    if not fixed_version:
        fix = FixState.UNFIXED
    return Claim(feed, fix, fixed_version, undetermined, tuple(affecting))


def _highest(statements: Sequence[Advisory]) -> str:
    """Return the version from which none of `statements` affects any more, "" when there is none."""
    if not all(statement.status is Status.FIXED and statement.fixed_version for statement in statements):
        return ""
    return max((statement.fixed_version for statement in statements), key=key, default="")
