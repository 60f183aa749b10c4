"""What a revert gives back of accounts, keys, certificates and secrets."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.lineage.credentialdiff import coming_back
from undercroft.model.comeback import CredentialKind, CredentialReturning, CredentialsBack
from undercroft.model.credentials import Account, Certificate, Credentials, Key, Secret

ALICE = Account("alice", 1000, "/bin/bash", "set", 19_000)
ROOT = Account("root", 0, "/bin/bash", "set", 19_000)
LAPTOP = Key("authorized", "alice", "ssh-ed25519", "SHA256:laptop", "/home/alice/.ssh/authorized_keys", "lap")
HOST = Key("host", "", "ssh-ed25519", "SHA256:old", "/etc/ssh/ssh_host_ed25519_key.pub", "root@web01")


def back(now: Credentials, then: Credentials) -> list[tuple[CredentialKind, str, str]]:
    return [(item.kind, item.name, item.change) for item in coming_back(now, then).returning]


def accounts(*found: Account) -> Credentials:
    return Credentials(accounts=found)


def test_an_account_that_was_removed_would_exist_again() -> None:
    assert back(accounts(ROOT), accounts(ALICE, ROOT)) == [(CredentialKind.ACCOUNT, "alice", "was removed")]


@pytest.mark.parametrize(
    ("now", "kind", "change"),
    [
        (replace(ALICE, password="locked"), CredentialKind.ACCOUNT, "was locked"),
        (replace(ALICE, password="none"), CredentialKind.ACCOUNT, "was locked"),
        (replace(ALICE, changed_on_day=19_500), CredentialKind.PASSWORD, "was changed"),
        (replace(ALICE, shell="/usr/sbin/nologin"), CredentialKind.ACCOUNT, "had lost its shell"),
    ],
)
def test_an_account_that_was_narrowed_would_be_as_wide_as_before(now, kind, change) -> None:
    assert back(accounts(now), accounts(ALICE)) == [(kind, "alice", change)]


def test_an_account_that_lost_root_would_have_it_again() -> None:
    assert back(accounts(ALICE), accounts(replace(ALICE, uid=0))) == [
        (CredentialKind.ACCOUNT, "alice", "was root")
    ]


def test_an_empty_password_that_was_set_would_be_empty_again() -> None:
    (item,) = coming_back(accounts(ALICE), accounts(replace(ALICE, password="empty"))).returning
    assert (item.kind, item.detail) == (CredentialKind.PASSWORD, "empty")


def test_a_password_is_told_by_the_day_that_would_count_again_whatever_the_guest_wrote() -> None:
    (item,) = coming_back(accounts(replace(ALICE, changed_on_day=19_500)), accounts(ALICE)).returning
    assert item.detail == "of 2022-01-08"
    (item,) = coming_back(accounts(ALICE), accounts(replace(ALICE, changed_on_day=1 << 60))).returning
    assert item.detail == ""


def test_an_account_that_was_opened_since_brings_nothing_back() -> None:
    assert back(accounts(ALICE), accounts(replace(ALICE, password="locked"))) == []


def test_a_key_that_was_taken_out_would_let_in_again_and_one_that_moved_would_not() -> None:
    authority = replace(LAPTOP, role="ca", fingerprint="SHA256:ca")
    moved = replace(LAPTOP, path="/etc/ssh/keys/alice", comment="new name")
    assert back(Credentials(), Credentials(keys=(LAPTOP, authority))) == [
        (CredentialKind.AUTHORIZED_KEY, "SHA256:laptop", "was removed"),
        (CredentialKind.AUTHORITY, "SHA256:ca", "was removed"),
    ]
    assert back(Credentials(keys=(moved,)), Credentials(keys=(LAPTOP,))) == []


def test_the_same_key_of_another_account_is_another_way_in() -> None:
    assert back(Credentials(keys=(replace(LAPTOP, owner="root"),)), Credentials(keys=(LAPTOP,)))


def test_host_keys_and_certificates_that_were_replaced_would_prove_again() -> None:
    now = Credentials(keys=(replace(HOST, fingerprint="SHA256:new"),), certificates=(Certificate("/a", "2"),))
    then = Credentials(keys=(HOST,), certificates=(Certificate("/a", "1"), Certificate("/b", "3")))
    assert back(now, then) == [
        (CredentialKind.HOST_KEY, "SHA256:old", "was replaced"),
        (CredentialKind.CERTIFICATE, "/a", "was replaced"),
        (CredentialKind.CERTIFICATE, "/b", "was removed"),
    ]


def test_a_secret_that_was_deleted_would_lie_there_again() -> None:
    then = Credentials(secrets=(Secret("/root/.aws/credentials", "AWS credentials"),))
    assert coming_back(Credentials(), then).returning == (
        CredentialReturning(
            CredentialKind.SECRET, "", "/root/.aws/credentials", "was deleted", "AWS credentials"
        ),
    )


def test_what_was_added_since_is_counted() -> None:
    now = Credentials((ALICE,), (LAPTOP, HOST), (Certificate("/a", "1"),), (Secret("/s", "key"),))
    assert coming_back(now, Credentials()) == CredentialsBack((), 5, ())


def test_credentials_that_are_not_whole_say_so_on_their_side() -> None:
    found = coming_back(Credentials(problems=("/etc/shadow: unread",)), Credentials(problems=("limit",)))
    assert found.problems == ("now: /etc/shadow: unread", "then: limit")


names = st.sampled_from("abcd")
somebody = st.builds(
    Account,
    names,
    st.integers(0, 2),
    st.sampled_from(["/bin/sh", "/usr/sbin/nologin"]),
    st.sampled_from(["none", "locked", "empty", "set"]),
    st.integers(-1, 3),
)
credentials = st.builds(
    Credentials,
    st.lists(somebody, max_size=4, unique_by=lambda account: account.name).map(tuple),
    st.lists(
        st.builds(
            Key, st.sampled_from(["authorized", "host", "ca", "user"]), names, names, names, names, names
        )
    ).map(tuple),
    st.lists(st.builds(Certificate, names, names)).map(tuple),
    st.lists(st.builds(Secret, names, names)).map(tuple),
)


@given(credentials)
def test_a_state_brings_nothing_back_into_itself(state: Credentials) -> None:
    assert coming_back(state, state) == CredentialsBack()


@given(credentials, credentials)
def test_no_account_key_or_certificate_that_only_the_past_has_is_passed_over(now, then) -> None:
    told = {(item.kind, item.owner, item.name) for item in coming_back(now, then).returning}
    for account in then.accounts:
        if account.name not in {other.name for other in now.accounts}:
            assert (CredentialKind.ACCOUNT, account.name, account.name) in told
    for key in then.keys:
        if (key.role, key.owner, key.fingerprint) not in {(k.role, k.owner, k.fingerprint) for k in now.keys}:
            assert {owner for _, owner, name in told if name == key.fingerprint} >= {key.owner}
    for certificate in then.certificates:
        if certificate.fingerprint not in {other.fingerprint for other in now.certificates}:
            assert (CredentialKind.CERTIFICATE, "", certificate.path) in told
