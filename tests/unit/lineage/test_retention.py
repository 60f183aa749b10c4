"""How old snapshots are, and what they keep that ought to be gone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from undercroft.lineage.retention import Keeping, doors, review
from undercroft.model.credentials import Credentials, Key, Secret
from undercroft.model.domain import Domain, DomainSnapshot, Power
from undercroft.model.execution import Execution, Origin
from undercroft.model.fleet import MachineRecord
from undercroft.model.retention import KeptKey, KeptSecret

NOW = datetime(2026, 3, 7, 12, tzinfo=UTC)
OLD = DomainSnapshot("old", "", int((NOW - timedelta(days=100)).timestamp()), "shutoff")
YOUNG = DomainSnapshot("young", "old", int((NOW - timedelta(days=1)).timestamp()), "shutoff")
MACHINE = MachineRecord("host1", Domain("uuid", "web01", Power.OFF, snapshots=(YOUNG, OLD)), NOW, NOW)
DEPLOY = Key("user", "deploy", "ssh-ed25519", "SHA256:deploy", "/home/deploy/.ssh/id_ed25519.pub", "")
TOKEN = Secret("/root/.aws/credentials", "AWS credentials")
STAYS = Secret("/etc/ssl/private/web.key", "private key")
QUARTER = timedelta(days=90)


def kept(now: Credentials | None = None, then: Credentials | None = None, **changes):
    keeping = Keeping(MACHINE, now, {"old": then} if then else {}, QUARTER)
    old, young = review(replace(keeping, **changes), doors([("db01", OPEN)]), NOW)
    assert (old.name, young.name) == ("old", "young"), "oldest first"
    return old, young


OPEN = Credentials(keys=(replace(DEPLOY, role="authorized", owner="root"),))


def test_a_snapshot_past_the_limit_is_told_from_one_that_is_not() -> None:
    old, young = kept()
    assert (old.past, young.past) == (True, False)
    assert (old.age_s, old.limit_s) == (100 * 86400, 90 * 86400)


def test_without_a_limit_none_is_past_it() -> None:
    assert not any(one.past for one in kept(limit=None))


def test_secrets_that_only_the_snapshot_has_come_first() -> None:
    old, _ = kept(Credentials(secrets=(STAYS,)), Credentials(secrets=(STAYS, TOKEN)))
    assert old.secrets == (
        KeptSecret(TOKEN.path, TOKEN.kind, only_here=True),
        KeptSecret(STAYS.path, STAYS.kind, only_here=False),
    )


def test_a_key_that_still_opens_another_machine_says_where() -> None:
    old, _ = kept(Credentials(), Credentials(keys=(DEPLOY,)))
    assert old.keys == (KeptKey("deploy", "SHA256:deploy", only_here=True, opens=("root on db01",)),)


def test_what_was_not_read_says_so_and_is_not_empty_in_silence() -> None:
    old, young = kept(None, Credentials(secrets=(TOKEN,), problems=("limit reached",)))
    assert old.problems[0] == "limit reached"
    assert "present state was not read" in old.problems[1]
    assert not old.secrets[0].only_here
    assert young.problems == ("its accounts, keys and secrets were not read",)


def test_children_and_living_executions_hang_on_a_snapshot() -> None:
    state = f"snapshot:uuid:old:{OLD.created_at_s}"
    execution = Execution("ab" * 16, "uuid", "web01", "host1", Origin.REVERT, "", state, NOW)
    other = replace(execution, eid="cd" * 16, state="snapshot:uuid:old:1")
    old, young = kept(live=(execution, other))
    assert (old.children, old.lives) == (("young",), ("ab" * 16,))
    assert (young.children, young.lives) == ((), ())


def test_a_snapshot_from_the_future_has_no_age() -> None:
    ahead = replace(OLD, created_at_s=int((NOW + timedelta(days=1)).timestamp()))
    machine = replace(MACHINE, domain=replace(MACHINE.domain, snapshots=(ahead,)))
    (one,) = review(Keeping(machine, None, {}, QUARTER), {}, NOW)
    assert (one.age_s, one.past) == (0, False)
