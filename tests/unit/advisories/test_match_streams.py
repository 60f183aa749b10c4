"""Red Hat's extended streams, and what a guest's word for its repositories is worth."""

import json
from collections.abc import Sequence

import pytest
from advisorydata import NOW, edition, header, inventory, statement
from feedfixtures import feed_input
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.knowledge import gather
from undercroft.advisories.match import assess
from undercroft.advisories.records import Advisory, subject_name
from undercroft.model.finding import Assessment, FixState
from undercroft.model.inventory import Inventory, OsRelease, Package
from undercroft.store.database import AdvisoryDatabase

RHEL = "rhel:9"
BASE = "rhel-9-for-x86_64-baseos-rpms"
EUS = "rhel-9-for-x86_64-baseos-eus-rpms"
EUS_RHUI = "rhel-9-for-x86_64-baseos-eus-rhui-rpms"
E4S = "rhel-9-for-x86_64-baseos-e4s-rpms"
LAYERED = "rhocp-4.14-for-rhel-9-x86_64-rpms"
MAPPING = {
    "data": {
        BASE: {"cpes": ["cpe:/o:redhat:enterprise_linux:9::baseos"], "repo_relative_urls": ["content/dist"]},
        EUS: {"cpes": ["cpe:/o:redhat:rhel_eus:9.2::baseos", "cpe:/o:redhat:rhel_eus:9.4::baseos"]},
        E4S: {"cpes": ["cpe:/o:redhat:rhel_e4s:9.0::baseos"]},
        LAYERED: {"cpes": ["cpe:/a:redhat:openshift:4.14::el9"]},
    }
}
FEED = header("redhat-vex", (RHEL,), complete=True)
CVE = "CVE-2026-0001"


def machine(version: str, *repositories: str, release: str = "9.2") -> Inventory:
    openssl = Package("rpm", "openssl-libs", version, "x86_64", "openssl", version)
    named = [Package("repository", name, "enabled", "", name, "enabled") for name in repositories]
    os = OsRelease("rhel", release, "", "Red Hat Enterprise Linux", "/etc/os-release")
    return inventory(openssl, *named, os=os)


def fixed(version: str, stream: str = "") -> Advisory:
    subject = subject_name("openssl-libs", binary=True)
    return statement(FEED, subject, CVE, version, stream=stream, advisory=f"RHSA-2026:{len(version)}")


SAID = (fixed("3.0.7-27.el9_4"), fixed("3.0.7-18.el9_2.1", "eus"), fixed("3.0.1-50.el9_0.1", "e4s"))


def answer(state: Inventory, said: Sequence[Advisory] = SAID) -> Assessment:
    mapping = parse_any(feed_input(json.dumps(MAPPING)))
    editions = [(edition(FEED), list(said)), (edition(mapping.header), list(mapping.records))]
    return assess(state, gather(RHEL, editions), now=NOW)


def fix(state: Inventory, said: Sequence[Advisory] = SAID) -> tuple[FixState, str]:
    (finding,) = answer(state, said).findings
    return finding.fix, finding.fixed_version


@pytest.mark.parametrize("repository", [EUS, EUS_RHUI])
def test_a_machine_of_a_stream_is_told_the_streams_fix(repository: str) -> None:
    assert fix(machine("3.0.7-17.el9_2", BASE)) == (FixState.FIXABLE, "3.0.7-27.el9_4")
    assert fix(machine("3.0.7-17.el9_2", repository)) == (FixState.FIXABLE, "3.0.7-18.el9_2.1")
    assert fix(machine("3.0.7-6.el9", repository)) == (FixState.FIXABLE, "3.0.7-18.el9_2.1")


def test_a_fix_that_only_a_stream_has_can_be_had_by_its_machines() -> None:
    said = (SAID[1], statement(FEED, subject_name("openssl-libs", binary=True), CVE))
    state, stream = fix(machine("3.0.7-17.el9_2", BASE), said)
    assert (state, stream) == (FixState.NEEDS_SUBSCRIPTION, "3.0.7-18.el9_2.1")
    assert fix(machine("3.0.7-17.el9_2", EUS), said) == (FixState.FIXABLE, "3.0.7-18.el9_2.1")


def test_a_stream_of_another_minor_release_is_not_the_machines() -> None:
    assert fix(machine("3.0.7-17.el9_2", E4S)) == (FixState.FIXABLE, "3.0.7-27.el9_4")
    assert fix(machine("3.0.7-17.el9_2", EUS, release="9.4")) == (FixState.FIXABLE, "3.0.7-27.el9_4")


def only_of_named_products(said: Sequence[Advisory], *names: str) -> list[Advisory]:
    """What a scanner keeps that believes a guest's repositories: statements about their products alone."""
    streams = {
        {"rhel_eus": "eus", "rhel_e4s": "e4s", "enterprise_linux": ""}.get(cpe.split(":")[3], "another's")
        for name in names
        for cpe in MAPPING["data"].get(name, {"cpes": []})["cpes"]
    }
    return [one for one in said if one.stream in streams]


@pytest.mark.parametrize("names", [(), (LAYERED,), ("made-up-rpms",), (E4S,)])
def test_a_guest_hides_no_hole_by_the_repositories_that_it_names(names: tuple[str, ...]) -> None:
    state = machine("3.0.7-17.el9_2", *names)
    believed = only_of_named_products(SAID, *names)
    assert answer(state, believed).findings == ()  # the attack, on a scanner that believes the guest
    assert fix(state)[0] is FixState.FIXABLE


def test_a_streams_fix_clears_a_build_of_that_stream_alone_whatever_the_guest_names() -> None:
    assert answer(machine("3.0.7-18.el9_2.1", BASE)).findings == ()
    assert answer(machine("3.0.7-18.el9", EUS)).findings
    assert answer(machine("3.0.1-50.el9_0.1", EUS)).findings == ()
    assert answer(machine("3.0.7-18.el9_3", EUS)).findings


VERSIONS = [
    f"3.0.{patch}-{build}.{dist}"
    for patch in (1, 7)
    for build in (17, 18, 27, 50)
    for dist in ("el9", "el9_2.1", "el9_4")
]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    version=st.sampled_from(VERSIONS),
    names=st.lists(st.sampled_from([BASE, EUS, EUS_RHUI, E4S, LAYERED, "x"]), max_size=4),
    release=st.sampled_from(["9.0", "9.2", "9.4", "9", "", "9.2.2"]),
)
def test_no_set_of_repositories_and_no_minor_release_takes_a_finding_away(
    version: str, names: list[str], release: str
) -> None:
    with_names = answer(machine(version, *names, release="9.2"))
    without = answer(machine(version, release="9.2"))
    assert [one.vulnerability for one in with_names.findings] == [
        one.vulnerability for one in without.findings
    ]
    if release:
        other = answer(machine(version, *names, release=release))
        assert len(other.findings) == len(without.findings)


def test_the_database_gives_what_the_mapping_says_of_the_machines_repositories(tmp_path) -> None:
    state = machine("3.0.7-17.el9_2", BASE, EUS)
    mapping = parse_any(feed_input(json.dumps(MAPPING)))
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as database:
        database.replace_feed(FEED, SAID, NOW)
        database.replace_feed(mapping.header, mapping.records, NOW)
        found = assess(state, database.knowledge(RHEL, state), now=NOW)
    assert [one.fixed_version for one in found.findings] == ["3.0.7-18.el9_2.1"]
    assert not any("repository" in note for note in found.notes)
