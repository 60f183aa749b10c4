"""One finding for each vulnerability of each installed source package, out of what all feeds say.

Who is believed, with the reasons:

1. The release's own tracker decides where it has a statement, also when it says "not affected" against an
   older advisory: it is made from the advisory lists, corrections included. Statements that are dated
   after its edition count beside it, because it cannot know them. A stale tracker decides nothing.
2. Where it has none, any feed that says "affected" makes a finding, and the fix is the best that one of
   them offers: one that everybody can have before one that needs a subscription, then the highest.
3. A changelog is prose: where a publisher has dated a fix that the installed version has, and no publisher
   says otherwise, what a newer version's changelog names again counts for nothing.
4. A fix above everything that the release's own package indexes offer cannot be had yet: unfixed.
5. A rejected CVE record loses its severity and title, but does not take the distribution's statement away.
6. Where a feed speaks of binary and of source packages, what it says of a binary package goes before what it
   says of its source; a fix for a stream's subscribers does not go before what is said of everybody's.
   Findings of binary packages of one source are one finding: its version and fix are those of the package
   that has the best fix.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from undercroft.advisories import severity
from undercroft.advisories.archive import candidate
from undercroft.advisories.families import order_of
from undercroft.advisories.fixday import changelog_days, fixed_on
from undercroft.advisories.installed import Installed
from undercroft.advisories.knowledge import Edition, Knowledge, grouped
from undercroft.advisories.merging import FIX_RANK, merged, sorted_ids
from undercroft.advisories.orders.order import Order
from undercroft.advisories.records import Advisory, Status, is_mirror
from undercroft.advisories.sources import Subject
from undercroft.advisories.streams import Streams
from undercroft.advisories.verdict import Claim, affects, claim
from undercroft.model.finding import Finding, FixState

_HAS_FIX = frozenset({FixState.FIXABLE, FixState.NEEDS_SUBSCRIPTION})
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}")
UNDETERMINED = "undetermined: "
"""What stands before the title where the publisher has not said whether the version is affected."""


@dataclass(frozen=True, slots=True)
class _Case:
    """What is the same for all vulnerabilities of one installed version.

    Attributes:
        installed: the version.
        newer: what the changelogs of newer versions say, by vulnerability.
        offered: key of the newest version that the release's indexes list, None when they do not tell.
        version_days: when each version of the source package was finished, where a changelog tells.
    """

    installed: Installed
    newer: Mapping[str, Sequence[Advisory]]
    offered: bytes | None
    version_days: Mapping[str, date]


@dataclass(frozen=True, slots=True)
class _Affected:
    """An installed version that is affected, the claim that leads, and all that agree with it."""

    case: _Case
    lead: Claim
    claims: Sequence[Claim]


def find(
    knowledge: Knowledge,
    installed: Iterable[Installed],
    changelogs: Mapping[Subject, Sequence[Advisory]],
    at: datetime,
    streams: Streams = frozenset(),
) -> tuple[Finding, ...]:
    """Return the findings, known-exploited first, then by severity, source package and vulnerability.

    Args:
        knowledge: for the release, already limited to the day that is asked for.
        installed: each subject once, in any order.
        changelogs: what newer versions of an installed subject fix, by subject.
        at: the moment at which a tracker must be fresh to decide.
        streams: extended streams that the machine says it has.
    """
    judge = _Judge(knowledge, at, streams)
    findings = []
    for versions in grouped((item.subject.source, item) for item in installed).values():
        in_order = sorted(versions, key=lambda item: judge.order.key(item.subject.version))
        cases = [judge.case(item, changelogs.get(item.subject, ())) for item in in_order]
        about = [grouped((one.vulnerability, one) for one in _about(knowledge, item)) for item in in_order]
        known = {name for said in about for name in said} | {name for case in cases for name in case.newer}
        for vulnerability in known:
            verdicts = [
                judge.affected(case, said.get(vulnerability, ()), case.newer.get(vulnerability, ()))
                for case, said in zip(cases, about, strict=True)
            ]
            if affected := [verdict for verdict in verdicts if verdict]:
                every = dict.fromkeys(one for said in about for one in said.get(vulnerability, ()))
                findings.append(judge.finding(vulnerability, tuple(every), affected))
    return ordered(merged(findings, judge.order))


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings known-exploited first, then by severity, source package and vulnerability."""
    return tuple(sorted(findings, key=_order))


def _about(knowledge: Knowledge, item: Installed) -> Sequence[Advisory]:
    """Return every statement about the subjects of `item`, of each feed the most specific (rule 6)."""
    first = knowledge.advisories.get(item.subject.source, ())
    names = [other.source for other in item.others if other.source in knowledge.advisories]
    if not names:
        return first
    kept = list(first)
    for name in names:
        said = {(statement.feed, statement.vulnerability) for statement in kept}
        said_to_all = {(one.feed, one.vulnerability) for one in kept if not one.stream}
        kept += [
            statement
            for statement in knowledge.advisories[name]
            if (statement.feed, statement.vulnerability) not in (said if statement.stream else said_to_all)
        ]
    return kept


class _Judge:
    """Weighs the feeds' claims against each other; holds what is the same for all vulnerabilities."""

    def __init__(self, knowledge: Knowledge, at: datetime, streams: Streams) -> None:
        self._knowledge = knowledge
        self._streams = streams
        self.order = order_of(knowledge.release)
        # OSV repeats a distribution's tracker with a delay: the tracker itself goes first.
        self._deciding: Sequence[Edition] = sorted(
            (
                edition
                for edition in knowledge.editions
                if knowledge.release in edition.header.complete_for and at <= edition.known_until
            ),
            key=lambda edition: edition.header.name.startswith("osv:"),
        )
        self._knows_archive = knowledge.has_index and not any(
            edition.header.name.startswith("mirror:") and at > edition.known_until
            for edition in knowledge.editions
        )

    def case(self, installed: Installed, newer: Sequence[Advisory]) -> _Case:
        """Return what holds for all vulnerabilities of `installed`; `newer` comes from changelogs."""
        subject = installed.subject
        listed = self._knowledge.archive.get(subject.source, ()) if self._knows_archive else ()
        offered = self.order.key(candidate(listed, subject.version)[1]) if listed else None
        return _Case(
            installed,
            grouped((record.vulnerability, record) for record in newer),
            offered,
            changelog_days(self._knowledge.changelogs.get(subject.source, ())) if newer else {},
        )

    def affected(
        self, case: _Case, statements: Sequence[Advisory], newer: Sequence[Advisory]
    ) -> _Affected | None:
        """Return the verdict on one installed version, None when it is not affected.

        Args:
            case: the version.
            statements: all feeds' about one vulnerability in its source package.
            newer: what the changelogs of newer versions say of it.
        """
        by_feed = grouped((statement.feed, statement) for statement in (*statements, *newer))
        claims = [found for feed, own in by_feed.items() if (found := self._claim(feed, own, case.installed))]
        for decider in self._deciding:
            if decider.header.name in by_feed:
                break
        else:
            version = case.installed.subject.version
            if not claims or (_is_prose(claims) and _is_fixed(statements, version)):
                return None
            return _Affected(case, max(claims, key=self._best), claims)
        counting = [item for item in claims if _counts(item, decider)]
        if not counting:
            return None
        agreed = decider.header.name in [item.feed for item in counting]
        return _Affected(case, max(counting, key=self._best), claims if agreed else counting)

    def _claim(self, feed: str, statements: Sequence[Advisory], installed: Installed) -> Claim | None:
        """Return what one feed says against an installed version."""
        version, others = installed.subject.version, installed.other_versions
        return claim(feed, statements, version, self.order, others, self._streams)

    def _best(self, item: Claim) -> tuple[int, bytes, bool]:
        """Return what sorts the claim highest that offers the best fix (rule 2)."""
        return -FIX_RANK[item.fix], self.order.key(item.fixed_version), not item.undetermined

    def finding(
        self, vulnerability: str, statements: Sequence[Advisory], affected: Sequence[_Affected]
    ) -> Finding:
        """Return the finding; `affected` is sorted by version, oldest first, and not empty."""
        case, lead = affected[0].case, affected[0].lead
        subject = case.installed.subject
        claims = [item for verdict in affected for item in verdict.claims]
        supporting = [statement for item in claims for statement in item.statements]
        # A changelog's day is the one on which somebody finished the fix.
        days = [item.published_on for item in supporting if item.published_on and not is_mirror(item.feed)]
        records = self._knowledge.vulnerabilities.get(vulnerability, ())
        level, level_source = severity.choose(statements, records)
        titles = [record.title for record in records if not record.rejected]
        titles += [statement.title for statement in supporting]
        title = next((text for text in titles if text and not _names_another(text, vulnerability)), "")
        fix = _fix(lead, case.offered, self.order)
        exploited = self._knowledge.known_exploited.get(vulnerability)
        probability = self._knowledge.exploit_probabilities.get(vulnerability)
        return Finding(
            vulnerability=vulnerability,
            packages=tuple(sorted({name for item in affected for name in item.case.installed.names})),
            source=case.installed.source,
            installed_version=case.installed.version_of(supporting[0].source) or subject.version,
            fixed_version=lead.fixed_version,
            fix=fix,
            severity=level,
            severity_source=level_source,
            advisories=_ids(supporting),
            feeds=tuple(dict.fromkeys([lead.feed, *sorted([item.feed for item in claims])])),
            title=UNDETERMINED + title if lead.undetermined else title,
            published_on=min(days, default=None),
            fixed_on=fixed_on(supporting, case.version_days) if fix in _HAS_FIX else None,
            known_exploited_on=exploited.added_on if exploited else None,
            exploit_probability=probability.probability if probability else None,
        )


def _is_prose(claims: Iterable[Claim]) -> bool:
    """Tell whether nothing but changelogs makes these claims."""
    return all(is_mirror(item.feed) for item in claims)


def _is_fixed(statements: Iterable[Advisory], version: str) -> bool:
    """Tell whether a publisher has dated a fix that `version` has (rule 3)."""
    return any(
        statement.status is Status.FIXED and statement.published_on and not affects(statement, version)
        for statement in statements
    )


def _names_another(title: str, vulnerability: str) -> bool:
    """Tell whether a title is another vulnerability's: a changelog entry has one for all that it fixes."""
    named = _CVE.findall(title)
    return bool(named) and vulnerability not in named


def _fix(lead: Claim, offered: bytes | None, order: Order) -> FixState:
    """Return the claim's own state, or UNFIXED where the archive does not offer its version (rule 4)."""
    if lead.fix is FixState.FIXABLE and offered is not None and offered < order.key(lead.fixed_version):
        return FixState.UNFIXED
    return lead.fix


def _counts(item: Claim, decider: Edition) -> bool:
    """Return whether a claim stands beside the deciding feed's statement (rule 1)."""
    if item.feed == decider.header.name:
        return True
    known_until = (decider.header.published_at or decider.fetched_at).date()
    return any(record.published_on and record.published_on > known_until for record in item.statements)


def _ids(statements: Iterable[Advisory]) -> tuple[str, ...]:
    return sorted_ids({statement.advisory for statement in statements if statement.advisory})


def _order(finding: Finding) -> tuple[bool, int, str, str]:
    return (
        finding.known_exploited_on is None,
        severity.RANK[finding.severity],
        finding.source,
        finding.vulnerability,
    )
