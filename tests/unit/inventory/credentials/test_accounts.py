"""Accounts are those of the two files, and their passwords' states never tell more than that."""

from hypothesis import given
from hypothesis import strategies as st
from memorymachines import Broken, tree_of

from undercroft.inventory.credentials.accounts import MAX_ACCOUNTS, parse_accounts, read_accounts
from undercroft.inventory.credentials.finder import Finder

HASH = b"$6$salt$" + b"a" * 86


def states_of(passwd: bytes, shadow: bytes) -> dict[str, tuple[str, int]]:
    files = parse_accounts(passwd, shadow, Finder(tree_of({})))
    return {account.name: (account.password, account.changed_on_day) for account in files.accounts}


def test_passwords_are_told_by_state_and_day_alone() -> None:
    names = [b"set", b"locked", b"bare", b"star", b"empty", b"short", b"absent"]
    passwd = b"".join(b"%s:x:1000:1000::/home/%s:/bin/sh\n" % (name, name) for name in names)
    passwd += b"old:" + HASH + b":1001:1001::/home/old:/bin/sh\n"
    passwd += b"open::1002:1002::/home/open:/bin/sh\n"
    shadow = (
        b"set:" + HASH + b":19700:0:99999:7:::\nlocked:!" + HASH + b":19701::::::\nbare:!:19702::::::\n"
        b"star:*:19703::::::\nempty::19704::::::\nshort:x:19705::::::\n"
    )
    assert states_of(passwd, shadow) == {
        "set": ("set", 19700),
        "locked": ("locked", 19701),
        "bare": ("none", 19702),
        "star": ("none", 19703),
        "empty": ("empty", 19704),
        "short": ("none", 19705),
        "absent": ("none", -1),
        "old": ("set", -1),
        "open": ("empty", -1),
    }


def test_no_hash_leaves_the_reader() -> None:
    found = read_accounts(
        Finder(
            tree_of(
                {"etc/passwd": b"root:x:0:0:root:/root:/bin/bash\n", "etc/shadow": b"root:" + HASH + b":1:\n"}
            )
        )
    )
    assert found.accounts[0].password == "set"
    assert HASH.decode() not in repr(found)


def test_an_unreadable_shadow_file_makes_passwords_unknown_and_a_missing_one_does_not() -> None:
    passwd = b"root:x:0:0:root:/root:/bin/bash\n"
    finder = Finder(tree_of({"etc/passwd": passwd, "etc/shadow": Broken()}))
    assert [account.password for account in read_accounts(finder).accounts] == ["unknown"]
    assert any("/etc/shadow" in problem for problem in finder.problems)
    finder = Finder(tree_of({"etc/passwd": passwd}))
    assert [account.password for account in read_accounts(finder).accounts] == ["none"]


def test_a_missing_account_file_is_a_problem_and_not_a_machine_without_accounts() -> None:
    finder = Finder(tree_of({}))
    assert read_accounts(finder).accounts == ()
    assert any("/etc/passwd" in problem for problem in finder.problems)


def test_lines_that_are_no_entries_are_told_with_their_number() -> None:
    finder = Finder(tree_of({}))
    passwd = b"root:x:0:0:root:/root:/bin/bash\nbroken\nminus:x:-1:0::/:/bin/sh\n+::::::\n"
    files = parse_accounts(passwd, b"", finder)
    assert [account.name for account in files.accounts] == ["root"]
    assert [problem.split(": ")[0] for problem in finder.problems] == [
        "/etc/passwd:2", "/etc/passwd:3", "/etc/passwd:4",
    ]  # fmt: skip


def test_a_name_that_is_no_utf8_keeps_its_bytes() -> None:
    files = parse_accounts(b"caf\xe9:x:1:1::/home/caf\xe9:/bin/sh\n", b"", Finder(tree_of({})))
    assert files.accounts[0].name == "caf\udce9"
    assert files.homes[0].path == b"/home/caf\xe9"


def test_too_many_accounts_are_told() -> None:
    finder = Finder(tree_of({}))
    passwd = b"".join(b"u%d:x:1:1::/h:/s\n" % number for number in range(MAX_ACCOUNTS + 1))
    assert len(parse_accounts(passwd, b"", finder).accounts) == MAX_ACCOUNTS
    assert any("more than" in problem for problem in finder.problems)


LINES = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.binary(max_size=12), min_size=7, max_size=7).map(b":".join),
    )
).map(b"\n".join)


@given(LINES, LINES)
def test_any_bytes_give_accounts_or_problems(passwd: bytes, shadow: bytes) -> None:
    files = parse_accounts(passwd, shadow, Finder(tree_of({})))
    assert all(account.uid >= 0 for account in files.accounts)
    assert list(files.accounts) == sorted(files.accounts, key=lambda each: (each.name, each.uid))
