"""What a revert gives back of accounts, keys, certificates and secrets.

An administrator who locks an account, takes a key out of authorized_keys or replaces a host key does so for a
reason, and a snapshot from before undoes it. Nothing here is weighed against a policy: what comes back is
shown, what was added since is counted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import TypeVar

from undercroft.model.comeback import CredentialKind, CredentialReturning, CredentialsBack
from undercroft.model.credentials import Account, Credentials, Key

_CLOSED = frozenset({"locked", "none"})
_ROLES = {
    "authorized": CredentialKind.AUTHORIZED_KEY,
    "ca": CredentialKind.AUTHORITY,
    "host": CredentialKind.HOST_KEY,
    "user": CredentialKind.USER_KEY,
}
_URGENCY = {kind: rank for rank, kind in enumerate(CredentialKind)}
_EPOCH = date(1970, 1, 1).toordinal()
_REMOVED, _REPLACED = "was removed", "was replaced"

Item = TypeVar("Item")
Place = TypeVar("Place")


def coming_back(now: Credentials, then: Credentials) -> CredentialsBack:
    """Return what `then` holds that `now` holds no more, and how much only `now` holds.

    Args:
        now: of the present state; its texts are untrusted.
        then: of the state that would come back.
    """
    found = [*_accounts(now, then), *_keys(now, then), *_certificates(now, then), *_secrets(now, then)]
    problems = [
        *(f"now: {problem}" for problem in now.problems),
        *(f"then: {problem}" for problem in then.problems),
    ]
    return CredentialsBack(
        returning=tuple(sorted(found, key=lambda item: (_URGENCY[item.kind], item.owner, item.name))),
        lost=len(_places(now) - _places(then)),
        problems=tuple(problems),
    )


def _accounts(now: Credentials, then: Credentials) -> Iterator[CredentialReturning]:
    """Yield accounts that would exist or open again, and passwords that would be older ones."""
    present = _by(now.accounts, lambda account: account.name)
    for old in then.accounts:
        new = present.get(old.name)
        if new is None:
            yield CredentialReturning(CredentialKind.ACCOUNT, old.name, old.name, _REMOVED, old.shell)
        else:
            yield from _account(new, old)


def _account(new: Account, old: Account) -> Iterator[CredentialReturning]:
    """Yield in what an account was narrower than it would be again."""
    undone = {
        "was locked": new.password in _CLOSED and old.password not in _CLOSED,
        "was root": old.uid == 0 and new.uid != 0,
        "had lost its shell": _is_closed_shell(new.shell) and not _is_closed_shell(old.shell),
    }
    for change, is_so in undone.items():
        if is_so:
            yield CredentialReturning(CredentialKind.ACCOUNT, old.name, old.name, change, old.shell)
    if _password_differs(new, old):
        yield CredentialReturning(CredentialKind.PASSWORD, old.name, old.name, "was changed", _password(old))


def _password_differs(new: Account, old: Account) -> bool:
    """Tell whether a password that lets in would be another one: set instead of empty, or changed since."""
    if old.password in _CLOSED or new.password in _CLOSED:
        return False
    return (new.password, new.changed_on_day) != (old.password, old.changed_on_day)


def _password(old: Account) -> str:
    if old.password == "empty":  # noqa: S105 - a word
        return "empty"
    if old.changed_on_day < 0:
        return ""
    try:
        return f"of {date.fromordinal(_EPOCH + old.changed_on_day)}"
    except (ValueError, OverflowError):  # the guest may have written any number
        return ""


def _is_closed_shell(shell: str) -> bool:
    return shell.endswith(("/nologin", "/false"))


def _keys(now: Credentials, then: Credentials) -> Iterator[CredentialReturning]:
    """Yield keys that count no more; one that only moved to another file still counts."""
    present = {(key.role, key.owner, key.fingerprint) for key in now.keys}
    kinds = {(key.role, key.owner, key.kind) for key in now.keys}
    for (role, owner, fingerprint), key in _by(then.keys, _key_place).items():
        if (role, owner, fingerprint) not in present:
            replaced = role in {"host", "user"} and (role, owner, key.kind) in kinds
            change = _REPLACED if replaced else _REMOVED
            kind = _ROLES.get(role, CredentialKind.USER_KEY)
            yield CredentialReturning(kind, owner, fingerprint, change, key.comment)


def _key_place(key: Key) -> tuple[str, str, str]:
    return key.role, key.owner, key.fingerprint


def _certificates(now: Credentials, then: Credentials) -> Iterator[CredentialReturning]:
    """Yield certificates that were taken away or replaced; one that only moved is the same."""
    present = {certificate.fingerprint for certificate in now.certificates}
    paths = {certificate.path for certificate in now.certificates}
    for certificate in then.certificates:
        if certificate.fingerprint not in present:
            change = _REPLACED if certificate.path in paths else _REMOVED
            yield CredentialReturning(CredentialKind.CERTIFICATE, "", certificate.path, change)


def _secrets(now: Credentials, then: Credentials) -> Iterator[CredentialReturning]:
    """Yield secrets that were deleted; whether one was replaced cannot be told, since none is ever kept."""
    present = {secret.path for secret in now.secrets}
    for secret in then.secrets:
        if secret.path not in present:
            yield CredentialReturning(CredentialKind.SECRET, "", secret.path, "was deleted", secret.kind)


def _places(credentials: Credentials) -> set[tuple[str, ...]]:
    """Return what stands for each thing that can be gained or lost."""
    places: set[tuple[str, ...]] = {("account", account.name) for account in credentials.accounts}
    places |= {("key", *_key_place(key)) for key in credentials.keys}
    places |= {("certificate", certificate.fingerprint) for certificate in credentials.certificates}
    return places | {("secret", secret.path) for secret in credentials.secrets}


def _by(items: Iterable[Item], place: Callable[[Item], Place]) -> Mapping[Place, Item]:
    """Return the items by what tells them apart, the first of equal ones."""
    found: dict[Place, Item] = {}
    for item in items:
        found.setdefault(place(item), item)
    return found
