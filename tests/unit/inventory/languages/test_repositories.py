"""dnf's repositories of a guest: those that are enabled, told as the guest tells them."""

import json

import pytest
from memorymachines import Files, tree_of

from undercroft.inventory.languages import read_languages
from undercroft.inventory.languages.repositories import MAX_REPOSITORIES

REDHAT = b"""# Red Hat's
[rhel-9-for-x86_64-baseos-eus-rpms]
name = Red Hat Enterprise Linux 9 - BaseOS - EUS
baseurl = https://cdn.redhat.com/content/eus/rhel9/9.2/x86_64/baseos/os
enabled = 1

[rhel-9-for-x86_64-appstream-rpms]
enabled = 0
[main]
gpgcheck=1
[epel]
name=no word on it
"""


def listed(files: Files) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    found = read_languages(tree_of(files))
    return [(one.name, one.version) for one in found.packages if one.manager == "repository"], found.notes


def test_the_enabled_repositories_are_listed() -> None:
    packages, notes = listed(
        {"etc/yum.repos.d/redhat.repo": REDHAT, "etc/yum.repos.d/a.repo.rpmsave": REDHAT}
    )
    assert packages == [("epel", "enabled"), ("rhel-9-for-x86_64-baseos-eus-rpms", "enabled")]
    assert notes == ()


def test_content_sets_of_an_image_are_listed() -> None:
    manifest = {"metadata": {}, "content_sets": ["rhel-9-for-x86_64-baseos-rpms"], "image_contents": []}
    for folder in ("root/buildinfo/content_manifests", "usr/share/buildinfo"):
        packages, _ = listed({f"{folder}/ubi9.json": json.dumps(manifest).encode()})
        assert packages == [("rhel-9-for-x86_64-baseos-rpms", "content set")]


@pytest.mark.parametrize(
    "content",
    [
        b"[../../etc]\nenabled=1\n",
        b"[a b]\n",
        b"[\xff]\n",
        b"x" * (2 << 20),
    ],
    ids=["path", "space", "bytes", "large"],
)
def test_what_is_no_repository_is_a_note_and_no_failure(content: bytes) -> None:
    packages, notes = listed({"etc/yum.repos.d/a.repo": content, "etc/yum.repos.d/b.repo": b"[b]\n"})
    assert packages == [("b", "enabled")]
    assert any("/etc/yum.repos.d/a.repo could not be read" in note for note in notes)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"content_sets": 1}', b'{"content_sets": [1]}', b"[" * 9999]
)
def test_a_malformed_manifest_is_a_note_and_no_failure(content: bytes) -> None:
    packages, notes = listed({"usr/share/buildinfo/a.json": content})
    assert packages == []
    assert any("could not be read" in note for note in notes)


def test_many_small_files_name_no_more_repositories_than_the_limit_for_all() -> None:
    packages, notes = listed(
        {
            f"etc/yum.repos.d/{file}.repo": b"".join(
                b"[a%d-%d]\n" % (file, number) for number in range(MAX_REPOSITORIES // 2)
            )
            for file in range(4)
        }
    )
    assert len(packages) <= MAX_REPOSITORIES
    assert any("more than 10000 repositories in all files" in note for note in notes)
