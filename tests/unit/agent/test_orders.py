"""What commands did is found in the log: once, also what was done while the agent was away."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

from memoryrecords import MemoryRecords
from recordvalues import domain

from undercroft.agent.host import Host
from undercroft.agent.orders import Orders

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_releases_and_removals_are_taken_up_once_and_refusals_not_at_all() -> None:
    records = MemoryRecords()
    host = cast("Host", SimpleNamespace(records=records, name="alpha"))
    orders = Orders(host, lambda machine: None, lambda: None)
    here, elsewhere = domain(1), domain(2)
    with records.transaction() as record:
        record.put_domain("alpha", here.uuid, here, NOW)
        record.put_domain("beta", elsewhere.uuid, elsewhere, NOW)
        for uuid in (here.uuid, elsewhere.uuid):
            record.log("release", uuid, {"outcome": "refused"}, NOW)
            record.log("release", uuid, {"outcome": "done"}, NOW)
            record.log("release", uuid, {"outcome": "done"}, NOW)
    after, found = orders._since(-1)
    assert found == [(here.uuid, False)]
    assert orders._since(after) == (after, [])

    with records.transaction() as record:
        record.log("retention", here.uuid, {"outcome": "ordered"}, NOW)
        record.log("retention", here.uuid, {"outcome": "removed"}, NOW)
    assert orders._since(after)[1] == [(here.uuid, True)]
