"""What changed between two states, in the order of each package's manager."""

from dataclasses import replace

import reports
from hypothesis import given
from hypothesis import strategies as st
from reports import assessment, finding, inventory, package, state

from undercroft.advisories.orders.table import BY_MANAGER
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
    assert diff.added == (PackageChange("dpkg", "new", "amd64", "", "1"),)
    assert diff.removed == (PackageChange("dpkg", "gone", "amd64", "1", ""),)
    assert diff.upgraded == (PackageChange("dpkg", "up", "amd64", "1.0~rc1", "1.0"),)
    assert diff.downgraded == (PackageChange("dpkg", "down", "amd64", "1:1", "2"),)


def test_a_package_of_two_architectures_is_two_packages() -> None:
    before = having(package("libc6", "1"), package("libc6", "1", architecture="i386"))
    after = having(package("libc6", "2"), package("libc6", "1", architecture="i386"))
    assert diff_states(before, after).upgraded == (PackageChange("dpkg", "libc6", "amd64", "1", "2"),)


def of(manager, name, *versions):
    return [replace(package(name, version), manager=manager, architecture="") for version in versions]


def test_a_pypi_package_of_the_same_name_does_not_hide_the_upgrade_of_dpkgs() -> None:
    upgraded, planted = package("openssl", "1"), of("pypi", "openssl", "7")
    for order in (1, -1):  # the later one of a list would win
        before = [upgraded, *planted][::order]
        after = [replace(upgraded, version="2"), *planted][::order]
        diff = diff_states(having(*before), having(*after))
        assert diff.upgraded == (PackageChange("dpkg", "openssl", "amd64", "1", "2"),)
    planted = [replace(one, architecture="amd64") for one in planted]
    diff = diff_states(having(upgraded, *planted), having(replace(upgraded, version="2"), *planted))
    assert diff.upgraded == (PackageChange("dpkg", "openssl", "amd64", "1", "2"),)
    assert (diff.added, diff.removed, diff.downgraded) == ((), (), ())
    assert diff.managers == ("dpkg", "pypi")


def test_each_manager_has_its_own_order() -> None:
    before = having(package("x", "1.0"), *of("pypi", "x", "1.0"))
    after = having(package("x", "1.0rc1"), *of("pypi", "x", "1.0rc1"))
    diff = diff_states(before, after)
    assert [change.manager for change in diff.upgraded] == ["dpkg"]
    assert [change.manager for change in diff.downgraded] == ["pypi"]


def test_a_manager_without_an_order_says_what_changed_and_not_which_is_newer() -> None:
    def state_with(version):
        found = [of(manager, "x", version) for manager in ("snap", "flatpak", "msi", "kb")]
        return having(*(one for packages in found for one in packages), *of("pkg", "x", f"{version},1"))

    diff = diff_states(state_with("10"), state_with("9"))
    assert [change.manager for change in diff.changed] == ["flatpak", "kb", "msi", "snap"]
    assert [change.manager for change in diff.downgraded] == ["pkg"]
    assert (diff.upgraded, diff.added, diff.removed) == ((), (), ())
    two = diff_states(having(), having(*of("snap", "x", "9", "10", "\udcff")))
    assert [change.to_version for change in two.added] == ["10", "9", "\udcff"]


def test_of_several_versions_of_one_package_each_comes_and_goes_by_itself() -> None:
    old, middle, new = "5.14.0-9.el9", "5.14.0-70.el9", "5.14.0-162.el9"
    kernels = [having(*of("rpm", "kernel-core", *versions)) for versions in ((old, middle), (middle, new))]
    diff = diff_states(*kernels)
    assert diff.added == (PackageChange("rpm", "kernel-core", "", "", new),)
    assert diff.removed == (PackageChange("rpm", "kernel-core", "", old, ""),)
    assert (diff.upgraded, diff.downgraded) == ((), ())
    one_more = diff_states(having(*of("rpm", "kernel-core", old)), kernels[0])
    assert [change.to_version for change in one_more.added] == [middle]
    assert one_more.removed == ()
    replaced = diff_states(kernels[1], having(*of("rpm", "kernel-core", old)))
    assert [change.from_version for change in replaced.removed] == [middle, new]
    assert [change.to_version for change in replaced.added] == [old]


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
trees = st.lists(
    st.tuples(st.sampled_from(("dpkg", "rpm")), st.sampled_from("abc"), versions), max_size=8
).map(lambda found: having(*(one for manager, name, version in found for one in of(manager, name, version))))


def _present(there):
    """Return the packages that a state has."""
    return {(one.manager, one.name, one.version) for one in there.inventory.packages}


@given(trees, trees)
def test_the_way_back_is_the_way_there_turned_around(one, other) -> None:
    there, back = diff_states(one, other), diff_states(other, one)
    assert [change.name for change in there.upgraded] == [change.name for change in back.downgraded]
    assert [change.name for change in there.added] == [change.name for change in back.removed]
    assert all(
        BY_MANAGER[change.manager].compare(change.from_version, change.to_version) < 0
        for change in there.upgraded
    )


@given(trees, trees)
def test_whatever_only_one_state_has_is_told_unless_its_version_means_the_same(one, other) -> None:
    diff = diff_states(one, other)
    changes = [*diff.added, *diff.removed, *diff.upgraded, *diff.downgraded]
    told = {
        (change.manager, change.name, version)
        for change in changes
        for version in (change.from_version, change.to_version)
        if version
    }
    untold = (_present(one) ^ _present(other)) - told
    equal = {(manager, name, BY_MANAGER[manager].key(version)) for manager, name, version in untold}
    assert told <= _present(one) ^ _present(other)
    assert len(untold) == 2 * len(equal)
