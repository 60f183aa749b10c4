"""The patch floor of machines whose distributions have errata alone: rpm's, Alpine, Arch, Windows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from advisorydata import NOW, assessed, header, inventory, knowledge, statement
from hypothesis import given
from hypothesis import strategies as st

from undercroft.advisories.match import assess
from undercroft.advisories.orders.table import RPM
from undercroft.advisories.records import ANY_STREAM, Advisory, subject_name
from undercroft.advisories.releases import known_release
from undercroft.lineage.floor import raised, returning, unproven
from undercroft.model.comeback import Returning
from undercroft.model.fleet import Floor, FloorEntry
from undercroft.model.inventory import Inventory, OsRelease, Package
from undercroft.store.database import AdvisoryDatabase

EMPTY = Floor("uuid")
SYSTEMS = {
    "alma": OsRelease("almalinux", "9.4", "", "AlmaLinux 9.4 (Seafoam Ocelot)", "/etc/os-release"),
    "rocky": OsRelease("rocky", "9.4", "", "Rocky Linux 9.4 (Blue Onyx)", "/etc/os-release"),
    "rhel": OsRelease("rhel", "9.4", "", "Red Hat Enterprise Linux 9.4 (Plow)", "/etc/os-release"),
    "oracle": OsRelease("ol", "9.4", "", "Oracle Linux Server 9.4", "/etc/os-release"),
    "leap": OsRelease("opensuse-leap", "15.6", "", "openSUSE Leap 15.6", "/etc/os-release"),
    "alpine": OsRelease("alpine", "3.19.1", "", "Alpine Linux v3.19", "/etc/os-release"),
    "arch": OsRelease("arch", "", "", "Arch Linux", "/etc/os-release"),
    "windows": OsRelease("windows", "10.0.20348.2113", "", "Windows Server 2022", "registry"),
}
RELEASES = {
    "alma": "alma:9",
    "rocky": "rocky:9",
    "rhel": "rhel:9",
    "oracle": "oracle:9",
    "leap": "opensuse-leap:15.6",
    "alpine": "alpine:3.19",
    "arch": "arch",
    "windows": "windows:10.0.20348",
}
CVE, SECOND = "CVE-2026-0001", "CVE-2026-0002"


class Family:
    """One distribution with its errata, and what the floor says of states of its machines."""

    def __init__(self, name: str, *errata: Advisory) -> None:
        self.os, self.release = SYSTEMS[name], RELEASES[name]
        self._feed = header(f"errata:{name}", (self.release,))
        self.feeds = (
            (self._feed, [replace(one, feed=self._feed.name, release=self.release) for one in errata]),
        )

    def state(self, *packages: Package, **os: str) -> Inventory:
        return inventory(*packages, os=replace(self.os, **os))

    def floor(self, state: Inventory, before: Floor = EMPTY) -> Floor:
        return raised(before, state, knowledge(*self.feeds, release=self.release), NOW)

    def back(self, floor: Floor, state: Inventory) -> tuple[Returning, ...]:
        return returning(floor, state, assessed(state, *self.feeds, release=self.release))

    def names(self, floor: Floor, state: Inventory) -> list[str]:
        return [item.vulnerability for item in self.back(floor, state)]

    def unproven(self, floor: Floor, state: Inventory) -> tuple[str, ...]:
        return unproven(floor, state, assessed(state, *self.feeds, release=self.release))


def erratum(
    name: str, fixed: str, cve: str = CVE, *, source: bool = False, module: str = "", **more
) -> Advisory:
    subject = subject_name(name, binary=not source, module=module)
    return statement(header("any", ("any",)), subject, cve, fixed, **more)


def package(
    manager: str, name: str, version: str, source: str = "", built: str = "", module: str = ""
) -> Package:
    """Return a package; `built` is its source's version."""
    return Package(manager, name, version, "x86_64", source or name, built or version, module=module)


def rpm(name: str, version: str, source: str = "", built: str = "", module: str = "") -> Package:
    return package("rpm", name, version, source, built, module)


def versions(floor: Floor) -> dict[str, str]:
    return {entry.source: entry.version for entry in floor.entries}


ALMA = Family(
    "alma", erratum("openssl-libs", "1:3.0.7-18.el9_2"), erratum("openssl-libs", "1:3.0.7-25.el9_3", SECOND)
)
OLD = ALMA.state(rpm("openssl-libs", "1:3.0.1-23.el9_0", "openssl"))
PATCHED = ALMA.state(rpm("openssl-libs", "1:3.0.7-27.el9", "openssl"))


def test_a_rollback_of_an_alma_machine_brings_back_what_it_had_fixed() -> None:
    floor = ALMA.floor(PATCHED)
    assert versions(floor) == {"binary:openssl-libs": "1:3.0.7-25.el9_3"}, "an update between two errata"
    first, second = ALMA.back(floor, OLD)
    assert (first.source, first.vulnerability, first.installed_version) == (
        "openssl",
        CVE,
        "1:3.0.1-23.el9_0",
    )
    assert (first.fixed_version, second.vulnerability) == ("1:3.0.7-18.el9_2", SECOND)
    assert ALMA.back(floor, PATCHED) == ()
    assert ALMA.unproven(floor, PATCHED) == ()


def test_what_was_not_fixed_does_not_return() -> None:
    half = ALMA.state(rpm("openssl-libs", "1:3.0.7-20.el9_2", "openssl"))
    assert ALMA.names(ALMA.floor(half), OLD) == [CVE]
    assert ALMA.floor(OLD) is EMPTY


@pytest.mark.parametrize(
    "claimed",
    [
        "999:1-1.el9",
        "999:1",
        "1:999-1",
        "1:999-1.fc39",
        "1:999-1.el8",
        "1:999-1.el9.rocky.1",
        "1:999-1-\x00.el9",
    ],
)
def test_a_guest_that_claims_an_impossible_version_raises_nothing_and_proves_nothing(claimed: str) -> None:
    state = ALMA.state(rpm("openssl-libs", claimed, "openssl"))
    assert ALMA.floor(state) is EMPTY
    reached = ALMA.floor(PATCHED)
    assert ALMA.floor(state, reached) is reached
    assert ALMA.back(reached, state) == (), "no finding: the version is above every fix"
    if "\x00" not in claimed:  # that is a problem of the assessment already
        assert ALMA.unproven(reached, state) == ("openssl",)


@pytest.mark.parametrize(
    ("name", "claimed", "fixed", "later"),
    [
        ("alma", rpm("openssl", "1:999-1.el9"), "1:3.0.7-25.el9", "1:3.0.7-27.el9"),
        ("alpine", package("apk", "openssl", "999-r0"), "3.1.4-r2", "3.1.4-r3"),
        ("arch", package("pacman", "openssl", "999-1"), "3.2.1-1", "3.2.1-2"),
    ],
)
def test_a_guest_cannot_lift_its_floor_above_what_its_publisher_has_fixed(
    name: str, claimed: Package, fixed: str, later: str
) -> None:
    """Whoever writes 999 has said that it has the newest fix, and no more: that one makes it whole again."""
    by_source = name == "alpine"
    subject = subject_name("openssl", binary=not by_source)
    family = Family(name, erratum("openssl", fixed, source=by_source))
    floor = family.floor(family.state(claimed))
    assert versions(floor) == {subject: fixed}
    updated = family.state(replace(claimed, version=fixed, source_version=fixed))
    assert (family.back(floor, updated), family.unproven(floor, updated)) == ((), ())
    tomorrow = Family(name, erratum("openssl", later, "CVE-2", source=by_source))
    assert tomorrow.back(floor, updated) == ()
    naive = Floor("uuid", (FloorEntry(family.release, subject, claimed.version, NOW),))
    assert tomorrow.names(naive, updated) == ["CVE-2"], "control: below for ever, whatever it installs"


def test_another_epoch_raises_nothing_in_pacmans_order_either() -> None:
    arch = Family("arch", erratum("openssl", "3.2.1-1"))
    assert arch.floor(arch.state(package("pacman", "openssl", "9:1-1"))) is EMPTY
    assert versions(arch.floor(arch.state(package("pacman", "openssl", "0:3.3-1")))) == {
        "binary:openssl": "3.2.1-1"
    }


PERL = Family(
    "rocky",
    *(erratum("perl", "4:5.32.1-481.el9", source=is_source) for is_source in (True, False)),
    *(erratum("lvm2", "8:2.03.17-7.el9", "CVE-2", source=is_source) for is_source in (True, False)),
)


def perl(release: int) -> list[Package]:
    built = f"5.32.1-{release}.el9"
    return [
        rpm("perl-Errno", f"1.30-{release}.el9", "perl", built),
        rpm("perl-libs", f"4:{built}", "perl", built),
    ]


def lvm(release: int) -> list[Package]:
    built = f"2.03.17-{release}.el9"
    return [
        rpm("device-mapper", f"9:1.02.187-{release}.el9", "lvm2", built),
        rpm("lvm2", f"8:{built}", "lvm2", built),
    ]


def test_packages_of_one_source_with_numbers_of_their_own_are_each_compared_with_their_own() -> None:
    floor = PERL.floor(PERL.state(*perl(482), *lvm(9)))
    assert versions(floor) == {
        "perl": "4:5.32.1-481.el9",
        "lvm2": "8:2.03.17-7.el9",
        "binary:lvm2": "8:2.03.17-7.el9",
    }
    assert PERL.names(floor, PERL.state(*perl(480), *lvm(8))) == [CVE]
    assert PERL.names(floor, PERL.state(*perl(481), *lvm(3))) == ["CVE-2"]


def test_a_package_in_higher_numbers_than_its_sources_does_not_pass_for_fixed() -> None:
    """device-mapper 9:1.02 of lvm2 8:2.03 is above every fix of lvm2, fixed or not."""
    by_binary = erratum("device-mapper", "9:1.02.187-1.el9", "CVE-3")
    never_fixed = Family("rocky", erratum("lvm2", "8:2.03.17-7.el9", source=True), by_binary)
    floor = never_fixed.floor(never_fixed.state(lvm(3)[0]))
    assert versions(floor) == {"binary:device-mapper": "9:1.02.187-1.el9"}
    (finding,) = assessed(never_fixed.state(lvm(3)[0]), *never_fixed.feeds, release="rocky:9").findings
    assert finding.fixed_version == "8:2.03.17-7.el9"
    assert never_fixed.back(floor, never_fixed.state(lvm(3)[0])) == ()


def node(version: str, stream: str) -> Package:
    return rpm("npm", f"1:{version}.module_el9", "nodejs", f"1:{version}.module_el9", f"nodejs:{stream}")


NODE = Family(
    "alma",
    erratum("npm", "1:9.8-1.module_el9", module="nodejs:18"),
    erratum("npm", "1:10.2-1.module_el9", module="nodejs:20"),
)


def test_each_stream_of_a_module_has_its_own_floor() -> None:
    floor = NODE.floor(NODE.state(node("9.9-1", "18")))
    assert versions(floor) == {"binary:npm@nodejs:18": "1:9.8-1.module_el9"}
    assert NODE.names(floor, NODE.state(node("9.1-1", "18"))) == [CVE]
    both = NODE.floor(NODE.state(node("10.3-1", "20")), floor)
    assert versions(both)["binary:npm@nodejs:18"] == "1:9.8-1.module_el9"
    assert NODE.back(both, NODE.state(node("9.9-1", "18"))) == (), "control: as one floor, 18 were below 20"
    assert NODE.names(both, NODE.state(node("10.1-1", "20"))) == [CVE]


@pytest.mark.parametrize(
    "other", [node("10.1-1", "20"), node("99-1", "99"), rpm("npm", "1:99-1.el9", "nodejs")]
)
def test_a_state_in_another_stream_than_the_machine_had_proves_nothing(other: Package) -> None:
    floor = NODE.floor(NODE.state(node("9.9-1", "18")))
    assert NODE.back(floor, NODE.state(other)) == (), "control: without a word it passed for fixed"
    assert NODE.unproven(floor, NODE.state(other)) == ("nodejs",)


def test_a_machine_that_has_moved_to_another_stream_goes_on_there() -> None:
    moved = NODE.state(node("10.3-1", "20"))
    floor = NODE.floor(moved, NODE.floor(NODE.state(node("9.9-1", "18"))))
    assert (NODE.back(floor, moved), NODE.unproven(floor, moved)) == ((), ())


def test_a_rollback_into_another_stream_does_not_prove_itself_by_being_read() -> None:
    family = Family(
        "alma",
        *(one for _, found in NODE.feeds for one in found),
        erratum("npm", "1:10.0-1.module_el9", SECOND, module="nodejs:20"),
    )
    floor = family.floor(family.state(node("9.9-1", "18")))
    back = family.state(node("10.1-1", "20"))
    assert family.floor(back, floor) is floor
    assert family.unproven(floor, back) == ("nodejs",)
    naive = replace(floor, entries=(*floor.entries, *family.floor(back).entries))
    assert (family.back(naive, back), family.unproven(naive, back)) == ((), ()), (
        "control: it was patched by that"
    )
    patched = family.floor(family.state(node("10.2-1", "20")), floor)
    assert family.names(patched, back) == [CVE]


def test_an_erratum_of_any_stream_of_a_module_raises_the_floor_of_each() -> None:
    family = Family("alma", erratum("npm", "1:9.8-1.module_el9", module=ANY_STREAM))
    floor = family.floor(family.state(node("9.9-1", "18")))
    assert versions(floor) == {"binary:npm@nodejs:18": "1:9.8-1.module_el9"}
    assert family.names(floor, family.state(node("9.1-1", "18"))) == [CVE]


def test_several_builds_of_one_erratum_are_one_floor() -> None:
    first, second = "8.3-1.module_el9+296", "8.3-1.module_el9+297"
    builds = [erratum("php", version, module="php:8.3", advisory="ALSA-1") for version in (first, second)]
    family = Family("alma", *builds)
    state, old = (
        family.state(rpm("php", version, module="php:8.3")) for version in (first, "8.2-1.module_el9+200")
    )
    floor = family.floor(state)
    assert family.names(floor, old) == [CVE]
    assert family.back(floor, state) == ()
    other = Family("alma", *builds, erratum("php", second, "CVE-2", module="php:8.3", advisory="ALSA-2"))
    assert versions(other.floor(state)) == {"binary:php@php:8.3": first}, "the second build fixes more"
    assert other.back(other.floor(state), state) == ()


UEK = Family(
    "oracle",
    erratum("kernel-uek", "5.4.17-100.el9uek", module="5.4"),
    erratum("kernel-uek", "5.15.0-7.el9uek", module="5.15"),
)


def test_each_line_of_a_kernel_has_its_own_floor_as_a_modules_stream_has() -> None:
    def state(*found: str) -> Inventory:
        return UEK.state(*(rpm("kernel-uek", version, "kernel-uek") for version in found))

    floor = UEK.floor(state("5.4.17-105.el9uek"))
    assert versions(floor) == {"binary:kernel-uek@5.4": "5.4.17-100.el9uek"}
    assert UEK.names(floor, state("5.4.17-90.el9uek")) == [CVE]
    assert UEK.unproven(floor, state("5.15.0-1.el9uek")) == ("kernel-uek",)
    assert UEK.unproven(floor, state("5.4.17-105.el9uek")) == ()
    both = UEK.floor(state("5.4.17-105.el9uek", "5.15.0-9.el9uek"), floor)
    assert UEK.back(both, state("5.4.17-105.el9uek")) == ()
    assert UEK.names(both, state("5.15.0-1.el9uek")) == [CVE]


KERNELS = Family(
    "alma",
    *(
        erratum(name, f"5.14.0-{number}.el9", cve)
        for name in ("kernel-core", "kernel-tools")
        for number, cve in ((100, "CVE-A"), (200, "CVE-B"))
    ),
)


def kernels(*numbers: int) -> Inventory:
    installed = [rpm("kernel-core", f"5.14.0-{number}.el9", "kernel") for number in numbers]
    return KERNELS.state(*installed, rpm("kernel-tools", f"5.14.0-{max(numbers)}.el9", "kernel"))


def test_a_new_kernel_beside_the_old_one_is_the_floor_when_the_old_one_is_gone() -> None:
    floor = KERNELS.floor(kernels(110, 210))
    assert versions(floor)["binary:kernel-core"] == "5.14.0-100.el9"
    assert KERNELS.back(floor, kernels(110, 210)) == ()
    gone = KERNELS.floor(kernels(210), floor)
    (item,) = KERNELS.back(gone, kernels(110, 210))
    assert (item.vulnerability, item.installed_version) == ("CVE-B", "5.14.0-110.el9")


def test_one_invented_new_package_does_not_keep_the_floor_down_and_an_old_one_is_a_finding() -> None:
    real = rpm("openssl-libs", "1:3.0.7-27.el9", "openssl")
    invented = rpm("openssl-libs", "999:1-1.el9", "openssl")
    assert versions(ALMA.floor(ALMA.state(real, invented))) == {"binary:openssl-libs": "1:3.0.7-25.el9_3"}
    old = ALMA.state(real, rpm("openssl-libs", "1:0-1.el9", "openssl"))
    assert ALMA.floor(old) is EMPTY
    assert ALMA.names(ALMA.floor(ALMA.state(real)), old) == [CVE, SECOND]


def test_everybodys_build_above_an_extended_streams_does_not_hold_its_fix() -> None:
    family = Family(
        "rhel",
        erratum("a", "1.0-1.el9_4", "CVE-0"),
        erratum("a", "1.0-3.el9_2", stream="eus"),
    )
    everybodys, extended = (family.state(rpm("a", version)) for version in ("1.0-5.el9_4", "1.0-4.el9_2"))
    assert versions(family.floor(everybodys)) == {"binary:a": "1.0-1.el9_4"}
    assert versions(family.floor(extended)) == {"binary:a": "1.0-3.el9_2"}
    old = family.state(rpm("a", "1.0-2.el9_2"))
    assert family.names(family.floor(extended), old) == [CVE]
    assert family.back(family.floor(everybodys), old) == ()


APK = Family(
    "alpine",
    erratum("openssl", "3.1.4-r2", source=True),
    erratum("busybox", "1.36.1-r9", "CVE-2", source=True),
)


def test_a_rollback_of_an_alpine_machine_brings_back_what_it_had_fixed() -> None:
    def state(openssl: str, busybox: str) -> Inventory:
        found = [package("apk", name, openssl, "openssl") for name in ("libcrypto3", "libssl3")]
        return APK.state(*found, package("apk", "busybox", busybox))

    floor = APK.floor(state("3.1.4-r5", "1.36.1-r2"))
    assert versions(floor) == {"openssl": "3.1.4-r2"}
    (item,) = APK.back(floor, state("3.1.4_rc1-r9", "1.36.1-r2"))
    assert (item.source, item.vulnerability, item.floor_version) == ("openssl", CVE, "3.1.4-r2")
    broken = state("3.1.9-broken", "1.36.1-r2")
    assert APK.floor(broken) is EMPTY


def test_a_windows_that_goes_back_to_an_older_build_is_below_its_floor() -> None:
    family = Family("windows", erratum("windows-server", "10.0.20348.1900", source=True))
    floor = family.floor(family.state())
    assert versions(floor) == {"windows-server": "10.0.20348.1900"}
    assert family.names(floor, family.state(version="10.0.20348.887")) == [CVE]


@pytest.mark.parametrize(
    ("name", "older", "newer"),
    [
        ("alma", "9.4", "10.0"),
        ("alpine", "3.9.6", "3.19.1"),
        ("alpine", "3.19.1", "3.22.0_alpha20250101"),
        ("leap", "15.6", "16.0"),
        ("windows", "10.0.9600.1", "10.0.20348.1"),
    ],
)
def test_an_older_release_is_below_the_floor_as_a_whole(name: str, older: str, newer: str) -> None:
    family = Family(name)
    states = {version: family.state(version=version) for version in (older, newer)}
    keys = {version: known_release(state) for version, state in states.items()}
    floor = Floor("uuid", (FloorEntry(keys[newer], "a", "1", NOW), FloorEntry(keys[older], "a", "1", NOW)))
    (item,) = returning(floor, states[older], assessed(states[older], release=keys[older]))
    assert (item.source, item.installed_version, item.floor_version) == ("", keys[older], keys[newer])
    assert returning(floor, states[newer], assessed(states[newer], release=keys[newer])) == ()


def test_a_state_that_calls_itself_another_distribution_proves_nothing() -> None:
    floor = ALMA.floor(PATCHED)
    rocky = Family("rocky", erratum("openssl-libs", "1:3.0.7-25.el9_3"))
    state = rocky.state(rpm("openssl-libs", "1:3.0.7-27.el9", "openssl"))
    assert rocky.back(floor, state) == (), "control: it passed for having all that was fixed"
    assert rocky.unproven(floor, state) == ("rocky:9",)
    assert rocky.unproven(rocky.floor(state, floor), state) == (), "a machine that was made anew goes on"


def test_the_database_knows_enough_for_the_floor(tmp_path: Path) -> None:
    """It gives what is open, and of what is fixed only the highest: control is a floor of all records."""
    older = [erratum("openssl-libs", f"1:3.0.7-{number}.el9", f"CVE-3-{number}") for number in range(9)]
    family = Family("alma", *older, *(one for _, found in ALMA.feeds for one in found))
    (feed, records), *_ = family.feeds
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as writable:
        writable.replace_feed(feed, records, NOW)
    with AdvisoryDatabase(tmp_path / "a.db") as database:
        known = database.knowledge("alma:9", PATCHED)
    assert raised(EMPTY, PATCHED, known, NOW) == family.floor(PATCHED) != EMPTY
    assert sum(map(len, known.advisories.values())) == 1
    assert assess(PATCHED, known, now=NOW).findings == ()


# An oracle without versions of the floor: what some state of the machine had fixed, package by package.

NUMBERS = ["1.0-1.el9", "1.0-2.el9_1", "1.0~rc1-9.el9", "1.1-1.el9", "1.0^git-1.el9"]
LIES = ["999:1-1.el9", "9-1.el8", "9-1"]
NAMES = ["curl", "libcurl", "zlib"]
states = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.sampled_from([*NUMBERS, *LIES]), min_size=1, max_size=2)
)
fixes = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NUMBERS)), max_size=8, unique=True)


def machine_of(state: dict[str, Sequence[str]]) -> Inventory:
    sources = {"libcurl": "curl"}
    found = sorted({(name, version) for name, held in state.items() for version in held})
    return ALMA.state(*(rpm(name, version, sources.get(name, "")) for name, version in found))


def family_of(found: Sequence[tuple[str, str]]) -> Family:
    return Family("alma", *(erratum(name, fixed, f"CVE-{n}") for n, (name, fixed) in enumerate(found)))


def at_or_above(held: Sequence[str], fixed: str) -> bool:
    return all(RPM.key(version) >= RPM.key(fixed) for version in held)


def fixed_in(state: dict[str, Sequence[str]], found: Sequence[tuple[str, str]]) -> set[int]:
    return {
        number
        for number, (name, fixed) in enumerate(found)
        if name in state and at_or_above(state[name], fixed) and min(state[name], key=RPM.key) not in LIES
    }


def open_in(state: dict[str, Sequence[str]], found: Sequence[tuple[str, str]]) -> set[int]:
    return {
        number
        for number, (name, fixed) in enumerate(found)
        if name in state and not at_or_above(state[name], fixed)
    }


@given(st.lists(states, min_size=1, max_size=5), states, fixes)
def test_what_returns_is_what_some_earlier_state_had_fixed(history, target, found) -> None:
    family = family_of(found)
    floor = EMPTY
    for state in history:
        floor = family.floor(machine_of(state), floor)
    expected = set().union(*(fixed_in(state, found) for state in history)) & open_in(target, found)
    assert set(family.names(floor, machine_of(target))) == {f"CVE-{number}" for number in expected}


@given(st.lists(states, min_size=1, max_size=5), fixes)
def test_the_floor_only_grows_by_the_publishers_words_and_never_stands_above_them(history, found) -> None:
    family = family_of(found)
    floor = EMPTY
    for state in history:
        higher = family.floor(machine_of(state), floor)
        assert all(
            RPM.key(versions(higher)[name]) >= RPM.key(known) for name, known in versions(floor).items()
        )
        assert family.floor(machine_of(state), higher) is higher
        floor = higher
    assert {(name.removeprefix("binary:"), version) for name, version in versions(floor).items()} <= set(
        found
    )


@pytest.mark.parametrize("other", ["rocky", "leap", "arch"])
def test_a_floor_of_one_distribution_says_nothing_of_anothers_versions(other: str) -> None:
    floor = ALMA.floor(PATCHED)
    family = Family(other, erratum("openssl-libs", "1:3.0.7-18.el9_2"))
    manager = "pacman" if other == "arch" else "rpm"
    assert family.back(floor, family.state(package(manager, "openssl-libs", "0-1"))) == ()
