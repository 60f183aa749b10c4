"""Several kernels on one disk: what is installed, what boots, what ran."""

import pytest
from advisorydata import TRACKER, UBUNTU_2204, UBUNTU_OSV, assessed, inventory, package, statement

from undercroft.model.inventory import Boot, Kernel


def image(release: str, version: str):
    return package(
        f"linux-image-{release}",
        version,
        source="linux-signed-amd64",
        source_version=version.replace("-", "+", 1),
    )


def kernel(release: str, owned: bool = True, has_image: bool = True) -> Kernel:
    return Kernel(
        release, f"/boot/vmlinuz-{release}" if has_image else "", f"linux-image-{release}" if owned else ""
    )


OLD, NEW = "6.1.0-25-amd64", "6.1.0-31-amd64"
TWO = (image(OLD, "6.1.106-3"), image(NEW, "6.1.128-1"))
FEED = [
    statement(TRACKER, "linux", "CVE-FIXED", "6.1.119-1"),
    statement(TRACKER, "linux", "CVE-OPEN"),
    statement(TRACKER, "linux", "CVE-ANCIENT", "5.10.1-1"),
]


def test_a_signed_kernel_is_matched_as_the_source_that_was_signed() -> None:
    answer = assessed(inventory(image(OLD, "6.1.106-3")), (TRACKER, FEED))
    assert [finding.vulnerability for finding in answer.findings] == ["CVE-FIXED", "CVE-OPEN"]
    assert {(finding.source, finding.installed_version) for finding in answer.findings} == {
        ("linux", "6.1.106-3")
    }


def test_a_signed_kernel_from_backports_keeps_the_rest_of_its_version() -> None:
    backport = package("linux-image-6.12-amd64", "6.12.9-1~bpo12+1", "linux-signed-amd64", "6.12.9+1~bpo12+1")
    (finding,) = assessed(inventory(backport), (TRACKER, [statement(TRACKER, "linux", "CVE-1")])).findings
    assert finding.installed_version == "6.12.9-1~bpo12+1"


def test_a_finding_names_only_the_kernels_that_are_affected() -> None:
    findings = {found.vulnerability: found for found in assessed(inventory(*TWO), (TRACKER, FEED)).findings}
    assert findings["CVE-FIXED"].packages == (f"linux-image-{OLD}",)
    assert findings["CVE-FIXED"].installed_version == "6.1.106-3"
    assert findings["CVE-OPEN"].packages == (f"linux-image-{OLD}", f"linux-image-{NEW}")
    assert findings["CVE-OPEN"].installed_version == "6.1.106-3", "the oldest affected one"


def test_a_fixed_kernel_that_does_not_boot_is_noted() -> None:
    kernels = (kernel(OLD), kernel(NEW))
    boots_old = inventory(*TWO, kernels=kernels, boot=Boot(default_release=OLD, last_run_release=OLD))
    notes = assessed(boots_old, (TRACKER, FEED)).notes
    assert f"kernel {OLD} (6.1.106-3) boots by default, although {NEW} (6.1.128-1) is installed" in notes
    assert f"kernel {OLD} (6.1.106-3) ran last, although {NEW} (6.1.128-1) is installed" in notes
    boots_new = inventory(*TWO, kernels=kernels, boot=Boot(default_release=NEW, last_run_release=NEW))
    assert not any("kernel" in note for note in assessed(boots_new, (TRACKER, FEED)).notes)


def test_a_kernel_that_ran_and_was_removed_is_noted() -> None:
    machine = inventory(
        TWO[1], kernels=(kernel(NEW), kernel(OLD, has_image=False)), boot=Boot(last_run_release=OLD)
    )
    assert f"kernel {OLD} ran last, and is not on the disk" in assessed(machine, (TRACKER, FEED)).notes


@pytest.mark.parametrize("boot", [Boot(default_release="6.9-own"), Boot(last_run_release="6.9-own")])
def test_a_kernel_that_runs_and_that_no_package_owns_is_a_problem(boot: Boot) -> None:
    own = Kernel("6.9-own", "/boot/vmlinuz-6.9-own", "")
    answer = assessed(inventory(*TWO, kernels=(own, kernel(NEW)), boot=boot), (TRACKER, FEED))
    (problem,) = answer.problems
    assert "6.9-own" in problem
    assert "no package owns it" in problem


def test_ubuntus_signed_kernels_are_matched_by_flavour() -> None:
    machine = inventory(
        package("linux-image-5.15.0-91-generic", "5.15.0-91.101", source="linux-signed"),
        package("linux-image-6.5.0-14-generic", "6.5.0-14.14~22.04.1", source="linux-signed-hwe-6.5"),
        os=UBUNTU_2204,
    )
    feed = [
        statement(UBUNTU_OSV, "linux", "CVE-1", "5.15.0-92.102"),
        statement(UBUNTU_OSV, "linux-hwe-6.5", "CVE-2", "6.5.0-15.15~22.04.1"),
    ]
    answer = assessed(machine, (UBUNTU_OSV, feed), release="ubuntu:22.04")
    assert [finding.source for finding in answer.findings] == ["linux", "linux-hwe-6.5"]


def test_a_signed_boot_loader_is_matched_as_the_source_that_was_signed() -> None:
    grub = package(
        "grub-efi-amd64-signed",
        "1+2.06-13+deb12u1",
        source="grub-efi-amd64-signed",
        source_version="1+2.06+13+deb12u1",
    )
    feed = [
        statement(TRACKER, "grub2", "CVE-1", "2.06-13+deb12u2"),
        statement(TRACKER, "grub2", "CVE-2", "2.06-13+deb12u1"),
    ]
    assert [finding.vulnerability for finding in assessed(inventory(grub), (TRACKER, feed)).findings] == [
        "CVE-1"
    ]
