"""Property: knowing less never turns a finding or a problem into "clean and complete"."""

from dataclasses import replace
from datetime import date, timedelta

from advisorydata import (
    BOOKWORM,
    DSA,
    MIRROR,
    NOW,
    OSV,
    TRACKER,
    edition,
    entry,
    inventory,
    listed,
    package,
    statement,
)
from hypothesis import given
from hypothesis import strategies as st

from undercroft.advisories.knowledge import Edition, gather
from undercroft.advisories.match import assess
from undercroft.advisories.records import ChangelogEntry, Record, Status
from undercroft.model.finding import Assessment, FixState

VERSIONS = ["1.0-1", "1.0-2", "1.0-3", "1.0-4"]
MACHINES = st.lists(
    st.builds(
        lambda source, version: package(f"lib{source}", version, source),
        st.sampled_from(["a", "b"]),
        st.sampled_from(VERSIONS),
    ),
    min_size=1,
    max_size=3,
)
STATUSES = st.sampled_from([Status.FIXED, Status.UNFIXED, Status.UNDETERMINED])


@st.composite
def worlds(draw) -> list[tuple[Edition, list[Record]]]:
    """Return feeds that agree with one another: what is really wrong with the two source packages."""
    faults = draw(
        st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(VERSIONS[1:]), STATUSES), max_size=4)
    )
    feeds: list[tuple[Edition, list[Record]]] = []
    for feed in (TRACKER, DSA, OSV):
        records: list[Record] = [statement(feed, "unrelated", "CVE-0", "1.0-1")]
        for number, (source, fixed, status) in enumerate(faults):
            records.append(
                statement(
                    feed,
                    source,
                    f"CVE-{number}",
                    fixed if status is Status.FIXED else "",
                    status=status,
                    published_on=None if feed is TRACKER else date(2025, 1, 1),
                )
            )
        feeds.append((edition(feed, len(records)), records))
    mirror: list[Record] = [
        listed(f"lib{source}", draw(st.sampled_from(VERSIONS)), source) for source in ("a", "b")
    ]
    for source in ("a", "b"):
        for version in VERSIONS:
            fixed_here = [
                f"CVE-{number}"
                for number, (name, fixed, status) in enumerate(faults)
                if (name, fixed) == (source, version) and status is Status.FIXED
            ]
            mirror.append(entry(source, version, *fixed_here))
    return [*feeds, (edition(MIRROR, len(mirror)), mirror)]


def is_clean(answer: Assessment) -> bool:
    return answer.complete and not answer.findings


def gone_or_stale(draw, feeds: list[tuple[Edition, list[Record]]]) -> list[tuple[Edition, list[Record]]]:
    """Return `feeds` with each one kept, emptied, aged or taken away."""
    kept = []
    for found, records in feeds:
        fate = draw(st.sampled_from(["kept", "emptied", "aged", "gone"]))
        if fate == "kept":
            kept.append((found, records))
        elif fate == "emptied":
            kept.append((replace(found, records=0), []))
        elif fate == "aged":
            old = replace(found.header, published_at=NOW - timedelta(days=30))
            kept.append((replace(found, header=old), records))
    return kept


@given(st.data())
def test_taking_feeds_away_never_makes_a_dirty_machine_clean(data) -> None:
    machine = inventory(*data.draw(MACHINES))
    feeds = data.draw(worlds())
    before = assess(machine, gather(BOOKWORM, feeds), now=NOW)
    if is_clean(before):
        return
    less = gather(BOOKWORM, gone_or_stale(data.draw, feeds))
    answer = assess(machine, less, now=NOW)
    if is_clean(answer):
        # Only a mirror is left. It cannot know what nobody has fixed, says so, and missed nothing else.
        assert {found.header.name for found in less.editions if found.records} == {MIRROR.name}
        assert {finding.fix for finding in before.findings} == {FixState.UNFIXED}
        assert any("only fixed vulnerabilities are known" in note for note in answer.notes)


@given(st.data())
def test_cutting_a_changelog_short_at_either_end_never_makes_an_outdated_machine_clean(data) -> None:
    machine = inventory(*data.draw(MACHINES))
    ((found, records),) = [world for world in data.draw(worlds()) if world[0].header == MIRROR]
    if is_clean(assess(machine, gather(BOOKWORM, [(found, records)]), now=NOW)):
        return
    start, end = sorted(data.draw(st.tuples(st.integers(0, 4), st.integers(0, 4))))
    kept = [
        record
        for record in records
        if not isinstance(record, ChangelogEntry) or record.version in VERSIONS[start:end]
    ]
    answer = assess(machine, gather(BOOKWORM, [(found, kept)]), now=NOW)
    assert not is_clean(answer)
