"""The patch floor: what a machine had fixed, and what a state of it would bring back."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import product

import advisorydata
import pytest
from advisorydata import (
    BOOKWORM,
    DEBIAN_12,
    DSA,
    JAMMY,
    KEV,
    MIRROR,
    NOW,
    TRACKER,
    UBUNTU_2204,
    UBUNTU_OSV,
    changelog,
    entry,
    inventory,
    knowledge,
    listed,
    package,
    statement,
)
from hypothesis import given
from hypothesis import strategies as st

from undercroft.advisories.debversion import key
from undercroft.advisories.match import assess
from undercroft.advisories.records import KnownExploited, Status
from undercroft.lineage.floor import raised, returning, unproven
from undercroft.model.comeback import Returning
from undercroft.model.finding import FixState
from undercroft.model.fleet import Floor, FloorEntry
from undercroft.model.inventory import Inventory, OsRelease

EMPTY = Floor("uuid")
OLD, NEW = "3.0.14-1~deb12u2", "3.0.15-1~deb12u1"
CVE = "CVE-2024-5535"
FEEDS = ((TRACKER, [statement(TRACKER, "openssl", CVE, NEW)]), (MIRROR, [listed("openssl", NEW)]))
PATCHED, UNPATCHED = inventory(package("openssl", NEW)), inventory(package("openssl", OLD))


def floor_of(machine: Inventory, *feeds, floor: Floor = EMPTY, release: str = BOOKWORM) -> Floor:
    return raised(floor, machine, knowledge(*feeds, release=release), NOW)


def versions(floor: Floor) -> dict[str, str]:
    return {entry.source: entry.version for entry in floor.entries}


def back(floor: Floor, machine: Inventory, *feeds, release: str = BOOKWORM) -> tuple[Returning, ...]:
    return returning(floor, machine, advisorydata.assessed(machine, *feeds, release=release))


def test_a_state_from_before_the_patch_brings_the_vulnerability_back() -> None:
    (item,) = back(floor_of(PATCHED, *FEEDS), UNPATCHED, *FEEDS)
    assert (item.source, item.vulnerability) == ("openssl", CVE)
    assert (item.installed_version, item.fixed_version, item.floor_version) == (OLD, NEW, NEW)


def test_a_machine_that_never_had_the_patch_loses_nothing_by_a_revert() -> None:
    assert back(floor_of(UNPATCHED, *FEEDS), UNPATCHED, *FEEDS) == ()


def test_known_exploited_vulnerabilities_come_first() -> None:
    feeds = (
        (TRACKER, [statement(TRACKER, "openssl", "CVE-1", NEW), statement(TRACKER, "openssl", CVE, NEW)]),
        (MIRROR, [listed("openssl", NEW)]),
        (KEV, [KnownExploited(CVE, date(2024, 1, 1))]),
    )
    found = back(floor_of(PATCHED, *feeds), UNPATCHED, *feeds)
    assert [item.vulnerability for item in found] == [CVE, "CVE-1"]


@pytest.mark.parametrize(
    "feeds",
    [
        [(MIRROR, [listed("openssl", NEW)])],
        [(DSA, [statement(DSA, "openssl", CVE, NEW)])],
        [(MIRROR, changelog(entry("openssl", "3.0.16-1"), entry("openssl", NEW)))],
    ],
    ids=["a package index", "a publisher's fixed version", "a changelog"],
)
def test_a_version_counts_where_a_trusted_source_lists_it(feeds) -> None:
    assert versions(floor_of(PATCHED, *feeds)) == {"openssl": NEW}


def test_a_guest_that_writes_999_into_its_database_raises_no_floor_and_proves_nothing() -> None:
    claimed = inventory(package("openssl", "999:1"))
    floor = floor_of(claimed, *FEEDS)
    assert floor is EMPTY
    assert back(floor, UNPATCHED, *FEEDS) == ()
    reached = floor_of(PATCHED, *FEEDS)
    assert floor_of(claimed, *FEEDS, floor=reached) is reached
    assert back(reached, claimed, *FEEDS) == (), "no finding: the version is above every fix"
    assert unproven(reached, claimed, advisorydata.assessed(claimed, *FEEDS)) == ("openssl",)


def test_control_a_naive_floor_would_take_what_the_guest_wrote() -> None:
    naive = Floor("uuid", (FloorEntry(BOOKWORM, "openssl", "999:1", NOW),))
    assert back(naive, UNPATCHED, *FEEDS), "every honest state would be below it for ever"


def test_a_version_above_the_floor_that_the_index_lists_is_proven() -> None:
    floor = floor_of(UNPATCHED, (MIRROR, [listed("openssl", OLD)]))
    assert unproven(floor, PATCHED, advisorydata.assessed(PATCHED, *FEEDS)) == ()


def test_without_an_index_nobody_can_tell_which_versions_are_listed() -> None:
    feeds = ((TRACKER, [statement(TRACKER, "openssl", CVE, OLD)]),)
    floor = floor_of(UNPATCHED, *feeds)
    assert versions(floor) == {"openssl": OLD}
    assessment = advisorydata.assessed(PATCHED, *feeds)
    assert unproven(floor, PATCHED, assessment) == ()
    assert "origins of packages were not checked" in "".join(assessment.notes)


def test_one_invented_package_does_not_keep_the_floor_of_its_source_down() -> None:
    both = inventory(package("openssl", NEW), package("invented", "999:1", "openssl"))
    assert versions(floor_of(both, *FEEDS)) == {"openssl": NEW}


def test_what_the_floor_holds_is_the_lists_text_not_the_guests() -> None:
    written = inventory(package("openssl", f"0:{NEW}"))
    assert versions(floor_of(written, *FEEDS)) == {"openssl": NEW}


def test_a_removed_package_brings_nothing_back_until_it_returns_in_an_old_version() -> None:
    floor = floor_of(PATCHED, *FEEDS)
    removed = inventory(package("bash", "1"))
    assert floor_of(removed, *FEEDS, floor=floor) is floor
    assert back(floor, removed, *FEEDS) == ()
    assert back(floor, inventory(package("openssl", OLD, status="config-files")), *FEEDS) == ()
    assert len(back(floor, UNPATCHED, *FEEDS)) == 1


def test_a_vulnerability_without_a_fix_is_never_a_return() -> None:
    feeds = ((TRACKER, [statement(TRACKER, "openssl", CVE)]), (MIRROR, [listed("openssl", NEW)]))
    assert back(floor_of(PATCHED, *feeds), UNPATCHED, *feeds) == ()


def test_a_fix_that_was_withdrawn_or_moved_up_is_no_return() -> None:
    floor = floor_of(PATCHED, *FEEDS)
    moved = (TRACKER, [statement(TRACKER, "openssl", CVE, "3.0.16-1")])
    withdrawn = (TRACKER, [statement(TRACKER, "openssl", CVE, status=Status.UNFIXED)])
    rejected = (TRACKER, [statement(TRACKER, "openssl", CVE, status=Status.NOT_AFFECTED)])
    for feed in (moved, withdrawn, rejected):
        assert back(floor, UNPATCHED, feed) == ()


def test_an_advisory_that_comes_later_counts_where_its_fix_was_installed() -> None:
    floor = floor_of(PATCHED, (MIRROR, [listed("openssl", NEW)]))
    assert len(back(floor, UNPATCHED, *FEEDS)) == 1


KERNELS = (
    (
        TRACKER,
        [
            statement(TRACKER, "linux", "CVE-A", "6.1.112-1"),
            statement(TRACKER, "linux", "CVE-B", "6.1.119-1"),
        ],
    ),
    (MIRROR, [listed("linux-libc-dev", "6.1.119-1", "linux")]),
)


def kernels(*found: str) -> Inventory:
    return inventory(
        *(
            package(f"linux-image-{number}", version, "linux-signed-amd64", version.replace("-", "+"))
            for number, version in enumerate(found)
        )
    )


def test_a_new_kernel_beside_the_old_one_is_not_yet_the_floor() -> None:
    floor = floor_of(kernels("6.1.112-1", "6.1.119-1"), *KERNELS)
    assert versions(floor) == {"linux": "6.1.112-1"}
    assert back(floor, kernels("6.1.112-1", "6.1.119-1"), *KERNELS) == ()
    gone = floor_of(kernels("6.1.119-1"), *KERNELS, floor=floor)
    assert versions(gone) == {"linux": "6.1.119-1"}
    (item,) = back(gone, kernels("6.1.112-1", "6.1.119-1"), *KERNELS)
    assert (item.vulnerability, item.installed_version) == ("CVE-B", "6.1.112-1")


def test_a_version_of_everybodys_archive_does_not_hold_the_fix_of_an_extended_stream() -> None:
    plain, extended = "1.0-1ubuntu0.2", "1.0-1ubuntu0.1+esm1"
    feeds = (
        (
            UBUNTU_OSV,
            [
                statement(UBUNTU_OSV, "openssl", CVE, status=Status.UNFIXED),
                statement(UBUNTU_OSV, "openssl", CVE, extended, stream="esm"),
            ],
        ),
        (advisorydata.header("mirror:jammy", (JAMMY,)), [listed("openssl", plain, release=JAMMY)]),
    )
    before, now = (inventory(package("openssl", text), os=UBUNTU_2204) for text in ("1.0-1ubuntu0.1", plain))
    floor = floor_of(now, *feeds, release=JAMMY)
    assert versions(floor) == {"openssl": plain}
    (finding,) = advisorydata.assessed(before, *feeds, release=JAMMY).findings
    assert (finding.fix, finding.fixed_version) == (FixState.NEEDS_SUBSCRIPTION, extended)
    assert back(floor, before, *feeds, release=JAMMY) == ()
    assert back(floor, now, *feeds, release=JAMMY) == ()


def test_an_older_release_is_below_the_floor_as_a_whole() -> None:
    bullseye = OsRelease("debian", "11", "bullseye", "Debian GNU/Linux 11 (bullseye)", "/etc/os-release")
    floor = floor_of(PATCHED, *FEEDS)
    old = inventory(package("openssl", "1.1.1w-0+deb11u1"), os=bullseye)
    (item,) = back(floor, old, release="debian:11")
    assert (item.source, item.installed_version, item.floor_version) == ("", "debian:11", BOOKWORM)
    newer = inventory(package("openssl", OLD), os=replace(DEBIAN_12, version="13", codename="trixie"))
    assert back(floor, newer, release="debian:13") == ()


@pytest.mark.parametrize("os", [None, OsRelease("kali", "2025", "kali", "Kali", "/etc/os-release")])
def test_a_system_that_no_advisory_speaks_of_raises_nothing(os: OsRelease | None) -> None:
    machine = inventory(package("openssl", NEW), os=os)
    assert floor_of(machine, *FEEDS) is EMPTY
    assert unproven(floor_of(PATCHED, *FEEDS), machine, advisorydata.assessed(machine, *FEEDS)) == ()


# An oracle without versions: the set of advisories that some state of the machine had fixed.

NUMBERS = ["1.0-1", "1.0-1+deb12u1", "1.0-2", "1:0.1-1", "1.0~rc1-1"]
SOURCES = ["curl", "openssl", "zlib"]
UNLISTED = "999:1"
states = st.dictionaries(
    st.sampled_from(SOURCES), st.lists(st.sampled_from([*NUMBERS, UNLISTED]), min_size=1, max_size=2)
)
fixes = st.lists(
    st.tuples(st.sampled_from(SOURCES), st.sampled_from(["", *NUMBERS])), max_size=8, unique=True
)


def machine_of(state: dict[str, Sequence[str]]) -> Inventory:
    return inventory(
        *(
            package(f"{source}-{number}", version, source)
            for source, found in sorted(state.items())
            for number, version in enumerate(found)
        )
    )


def world_of(found: Sequence[tuple[str, str]]):
    records = [
        statement(TRACKER, source, f"CVE-{number}", fixed) for number, (source, fixed) in enumerate(found)
    ]
    index = [listed(f"{s}-{n}", v, s) for s, n, v in product(SOURCES, (0, 1), NUMBERS)]
    return knowledge((TRACKER, records), (MIRROR, index))


def fixed_in(state: dict[str, Sequence[str]], found: Sequence[tuple[str, str]]) -> set[int]:
    """The advisories of which the state is free although it has their source, in listed versions."""
    return {
        number
        for number, (source, fixed) in enumerate(found)
        if fixed and source in state
        if all(key(version) >= key(fixed) for version in state[source])
        if min(state[source], key=key) != UNLISTED
    }


def open_in(state: dict[str, Sequence[str]], found: Sequence[tuple[str, str]]) -> set[int]:
    return {
        number
        for number, (source, fixed) in enumerate(found)
        if fixed and any(key(version) < key(fixed) for version in state.get(source, ()))
    }


@given(st.lists(states, min_size=1, max_size=5), states, fixes)
def test_what_returns_is_what_some_earlier_state_had_fixed(history, target, found) -> None:
    world = world_of(found)
    floor = EMPTY
    for state in history:
        floor = raised(floor, machine_of(state), world, NOW)
    machine = machine_of(target)
    back = returning(floor, machine, assess(machine, world, now=NOW))
    expected = set().union(*(fixed_in(state, found) for state in history)) & open_in(target, found)
    assert {item.vulnerability for item in back} == {f"CVE-{number}" for number in expected}


@given(st.lists(states, min_size=1, max_size=5), fixes)
def test_the_floor_only_grows_and_the_same_state_raises_it_once(history, found) -> None:
    world = world_of(found)
    floor = EMPTY
    for number, state in enumerate(history):
        at = NOW + timedelta(days=number)
        higher = raised(floor, machine_of(state), world, at)
        assert all(
            key(versions(higher)[source]) >= key(version) for source, version in versions(floor).items()
        )
        assert raised(higher, machine_of(state), world, at + timedelta(days=9)) is higher
        floor = higher
    assert [entry.source for entry in floor.entries] == sorted(versions(floor))
    assert UNLISTED not in versions(floor).values()


@given(st.lists(states, max_size=4), states, fixes)
def test_a_state_that_has_just_raised_the_floor_is_never_below_it_in_what_it_raised(
    history, last, found
) -> None:
    world = world_of(found)
    floor = EMPTY
    for state in history:
        floor = raised(floor, machine_of(state), world, NOW)
    machine = machine_of(last)
    higher = raised(floor, machine, world, NOW)
    grown = {s for s, v in versions(higher).items() if versions(floor).get(s) != v}
    back = returning(higher, machine, assess(machine, world, now=NOW))
    assert not {item.source for item in back} & grown


@given(st.lists(states, min_size=1, max_size=4), fixes)
def test_a_state_at_the_floor_in_every_source_brings_nothing_back(history, found) -> None:
    world = world_of(found)
    floor = EMPTY
    for state in history:
        floor = raised(floor, machine_of(state), world, NOW)
    machine = machine_of({source: [version] for source, version in versions(floor).items()})
    assert returning(floor, machine, assess(machine, world, now=NOW)) == ()
    assert unproven(floor, machine, assess(machine, world, now=NOW)) == ()
