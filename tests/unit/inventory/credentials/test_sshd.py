"""Where sshd looks for keys is taken from its settings as sshd_config(5) has them, and never too narrowly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memorymachines import tree_of

from undercroft.inventory.credentials.finder import Finder
from undercroft.inventory.credentials.sshd import DEFAULT_KEY_FILES, MAX_PATTERNS, key_file, read_settings


def finder_of(config: bytes) -> Finder:
    return Finder(tree_of({"etc/ssh/sshd_config": config}))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        (b".ssh/authorized_keys", b"/home/alice/.ssh/authorized_keys"),
        (b"/etc/ssh/keys/%u", b"/etc/ssh/keys/alice"),
        (b"%h/keys", b"/home/alice/keys"),
        (b"/srv/%U/%%u", b"/srv/1000/%u"),
        (b"/srv/%k", None),
        (b"/srv/%", None),
    ],
)
def test_tokens_stand_for_the_account(pattern: bytes, path: bytes | None) -> None:
    assert key_file(pattern, b"/home/alice", b"alice", 1000) == path


def test_values_of_all_blocks_are_taken_in_every_spelling() -> None:
    config = (
        b"# AuthorizedKeysFile /comment\nauthorizedkeysfile=/a\nAuthorizedKeysFile \"/b\" /c\n"
        b"AuthorizedKeysFile none\nMatch User x\n\tAuthorizedKeysFile /d\n"
        b"HostKey /etc/k\nTrustedUserCAKeys /ca\n"
    )  # fmt: skip
    settings = read_settings(finder_of(config))
    assert list(settings.key_files) == [*DEFAULT_KEY_FILES, b"/a", b"/b", b"/c", b"/d"]
    assert list(settings.host_keys) == [b"/etc/k"]
    assert list(settings.authorities) == [b"/ca"]


def test_settings_that_name_too_many_files_are_told() -> None:
    finder = finder_of(b"".join(b"AuthorizedKeysFile /k/%d\n" % number for number in range(2 * MAX_PATTERNS)))
    assert len(read_settings(finder).key_files) <= MAX_PATTERNS
    assert any("more than" in problem for problem in finder.problems)


WORDS = st.sampled_from(
    [b"AuthorizedKeysFile", b"Include", b"HostKey", b"=", b'"', b"%h", b"none", b"#", b" ", b"\n"]
)


@given(st.lists(WORDS | st.binary(max_size=8), max_size=30).map(b"".join))
def test_any_settings_give_paths_or_problems(config: bytes) -> None:
    settings = read_settings(finder_of(config))
    for pattern in settings.key_files:
        path = key_file(pattern, b"/home/alice", b"alice", 1000)
        assert path is None or path.startswith(b"/")
