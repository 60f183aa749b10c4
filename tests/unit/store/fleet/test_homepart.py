"""Which host keeps a machine's vault, whatever holds the record: the fake, SQLite and PostgreSQL."""

import json
from dataclasses import replace

from recordvalues import NOW, later, uuid

from undercroft.model.vaulthome import VaultHome
from undercroft.ports.records import Records

HOME = VaultHome(uuid(1), "host1", 3, 0, NOW)


def test_a_vault_has_one_home_and_the_log_has_each_host_that_became_it(records: Records):
    moved = VaultHome(uuid(1), "host2", 0, 4, later(2))
    with records.transaction() as record:
        assert record.vault_home(uuid(1)) is None
        record.put_vault_home(HOME, "host1", "first")
    with records.transaction() as record:
        record.put_vault_home(replace(HOME, epoch=4), "host1", "")
        record.put_vault_home(moved, "alice", "host1 burned")
    with records.reading() as record:
        assert record.vault_home(uuid(1)) == moved
        assert record.vault_homes() == {uuid(1): moved}
        assert record.vault_home(uuid(2)) is None
        told = [(one.kind, one.subject, json.loads(one.body)) for one in record.log_entries()]
    assert [(kind, subject) for kind, subject, _ in told] == [("vault", uuid(1))] * 2
    assert told[1][2] == {
        "outcome": "adopted",
        "home": "host2",
        "before": "host1",
        "above": 4,
        "by": "alice",
        "reason": "host1 burned",
    }
