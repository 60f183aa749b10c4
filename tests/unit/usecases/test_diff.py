"""What changed between two states, in dpkg's order."""

from dataclasses import replace

import reports
from hypothesis import given
from hypothesis import strategies as st
from reports import assessment, finding, inventory, package, state

from undercroft.advisories.debversion import compare
from undercroft.model.diff import PackageChange
from undercroft.usecases.diff import diff_states, only_in


def having(*packages, **changes):
    return state(inventory=inventory(*packages), **changes)


def test_packages_are_sorted_into_added_removed_upgraded_and_downgraded() -> None:
    before = having(
        package("gone", "1"), package("up", "1.0~rc1"), package("down", "1:1"), package("same", "1")
    )
    after = having(package("new", "1"), package("up", "1.0"), package("down", "2"), package("same", "1"))
    diff = diff_states(before, after)
    assert diff.added == (PackageChange("new", "amd64", "", "1"),)
    assert diff.removed == (PackageChange("gone", "amd64", "1", ""),)
    assert diff.upgraded == (PackageChange("up", "amd64", "1.0~rc1", "1.0"),)
    assert diff.downgraded == (PackageChange("down", "amd64", "1:1", "2"),)


def test_a_package_of_two_architectures_is_two_packages() -> None:
    before = having(package("libc6", "1"), package("libc6", "1", architecture="i386"))
    after = having(package("libc6", "2"), package("libc6", "1", architecture="i386"))
    assert diff_states(before, after).upgraded == (PackageChange("libc6", "amd64", "1", "2"),)


def test_versions_that_only_look_different_are_no_change_of_order() -> None:
    diff = diff_states(having(package("a", "1.0")), having(package("a", "0:1.0-0")))
    assert (diff.upgraded, diff.downgraded) == ((), ())


def test_a_finding_that_stays_is_neither_gained_nor_lost() -> None:
    stays, lost, gained = finding("CVE-1"), finding("CVE-2"), finding("CVE-3")
    before = state(assessment=assessment(stays, lost))
    after = state(assessment=assessment(replace(stays, installed_version="1.0-1.1"), gained))
    diff = diff_states(before, after)
    assert (diff.findings_lost, diff.findings_gained) == ((lost,), (gained,))


def test_one_vulnerability_in_two_sources_is_two_findings() -> None:
    before = state(assessment=assessment(finding("CVE-1", "curl"), finding("CVE-1", "openssl")))
    after = state(assessment=assessment(finding("CVE-1", "curl")))
    assert [item.source for item in only_in(before, after)] == ["openssl"]


def test_problems_of_either_side_make_the_diff_incomplete() -> None:
    diff = diff_states(
        state(problems=("vda2 was not read",)), state("b", "2", assessment=None), from_name="x@a"
    )
    assert diff.problems == ("x@a: vda2 was not read", "b: was not assessed")
    assert not diff.complete


def test_an_unread_state_has_nothing_and_says_so() -> None:
    diff = diff_states(state("a", "1", inventory=None, assessment=None), reports.vulnerable())
    assert len(diff.added) == 2
    assert not diff.complete


versions = st.from_regex(r"[0-9]{1,2}(\.[0-9a-z~+]{1,3})?(-[0-9]{1,2})?", fullmatch=True)
trees = st.dictionaries(st.sampled_from("abcdef"), versions).map(
    lambda found: having(*(package(name, version) for name, version in found.items()))
)


@given(trees, trees)
def test_the_way_back_is_the_way_there_turned_around(one, other) -> None:
    there, back = diff_states(one, other), diff_states(other, one)
    assert [change.name for change in there.upgraded] == [change.name for change in back.downgraded]
    assert [change.name for change in there.added] == [change.name for change in back.removed]
    assert all(compare(change.from_version, change.to_version) < 0 for change in there.upgraded)
