"""Who has what is found by what he has; executions have the order in which the record learned of them.

Machines have their UUID since any host has first had one of it: which of several hosts had it by right,
nobody can tell any more.
"""

import json
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BATCH = 500
_KEY_BYTES = 800


def upgrade() -> None:
    """Make the table and the column, and bring machines and executions along."""
    op.create_table(
        "claim",
        sa.Column("claim", sa.Text(), primary_key=True),
        sa.Column("host", sa.Text(), primary_key=True),
        sa.Column("uuid", sa.Text(), primary_key=True),
    )
    op.create_index("claim_machine", "claim", ["host", "uuid"])
    op.add_column("execution", sa.Column("number", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("execution_live", "execution", ["machine", "ended_at"])
    _number()
    _machines()


def _number() -> None:
    """Number executions by their hosts' clocks, from below: what comes has the number of a log's entry."""
    table = sa.table("execution", *map(sa.column, ("eid", "started_at", "number")))
    rows = sa.select(table.c.eid).order_by(table.c.started_at, table.c.eid)
    found = [row[0] for row in op.get_bind().execute(rows)]
    update = sa.update(table).where(table.c.eid == sa.bindparam("_eid"))
    _in_batches(
        update.values(number=sa.bindparam("_number")),
        [{"_eid": eid, "_number": number - len(found)} for number, eid in enumerate(found)],
    )


def _machines() -> None:
    table = sa.table("machine", *map(sa.column, ("host", "uuid", "first_seen", "gone_at", "network")))
    rows = op.get_bind().execute(sa.select(table)).all()
    since: dict[str, int] = {}
    for row in rows:
        if row.gone_at is None:
            since[row.uuid] = min(row.first_seen, since.get(row.uuid, row.first_seen))
    changed: list[dict[str, object]] = []
    claims: list[dict[str, object]] = []
    for host, uuid, first_seen, _, network in rows:
        try:
            value = json.loads(network)
            own = {"claim": value["uuid"], "since": since.get(uuid, first_seen)}
            value["claims"] = sorted([*value["claims"], own], key=lambda claim: claim["claim"])
            keys = sorted({_key(thing) for thing in _things(_unescaped(host), value)})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # damaged; it stays so, and is told when it is read
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        changed.append({"_host": host, "_uuid": uuid, "_network": text})
        claims += [{"claim": key, "host": host, "uuid": uuid} for key in keys]
    this = (table.c.host == sa.bindparam("_host"), table.c.uuid == sa.bindparam("_uuid"))
    _in_batches(sa.update(table).where(*this).values(network=sa.bindparam("_network")), changed)
    _in_batches(sa.insert(sa.table("claim", *map(sa.column, ("claim", "host", "uuid")))), claims)


def _things(host: str, network: dict[str, Any]) -> Iterator[str]:
    texts = [text.partition("@")[0] for text in network["ownership"]["addresses"]]
    for interface in network["interfaces"]:
        texts += interface["addresses"]
        if interface["mac"]:
            yield interface["mac"].lower()
        if interface["tap"]:
            yield f"tap {interface['tap']} of {host}"
    for text in texts:
        try:
            yield str(ip_address(text))
        except ValueError:
            continue


def _unescaped(text: str) -> str:
    return text.encode("ascii").decode("unicode_escape")


def _key(text: str) -> str:
    """Return a text as it is compared; nothing that is longer was ever let by."""
    return text.encode("unicode_escape")[:_KEY_BYTES].decode("ascii")


def _in_batches(statement: sa.Update | sa.Insert, rows: list[dict[str, object]]) -> None:
    for start in range(0, len(rows), _BATCH):
        op.get_bind().execute(statement, rows[start : start + _BATCH])
