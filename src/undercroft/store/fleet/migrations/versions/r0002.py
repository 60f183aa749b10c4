"""The firewall: applied policies, hosts' filters, flows on the move; addresses of machines.

Rows that were written before get what their values have had since then, so that they say the same as before.
"""

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BATCH = 500
_NETWORK = ("uuid", "name", "power", "interfaces", "ownership")


def upgrade() -> None:
    """Make the new tables, and bring machines and holds along."""
    op.create_table(
        "applied_policy",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_table(
        "filter_state",
        sa.Column("host", sa.Text(), primary_key=True),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_table(
        "moved_flows",
        sa.Column("machine", sa.Text(), primary_key=True),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.add_column("machine", sa.Column("network", sa.Text(), nullable=False, server_default=""))
    _bring_along("machine", ("host", "uuid"), _with_addresses)
    _network()
    _bring_along("hold", ("machine",), _with_filter)
    _bring_along("decision", ("ident",), _which_leaves_nothing_open)


def _with_addresses(domain: dict[str, Any]) -> None:
    domain["ownership"]["addresses"] = []
    for interface in domain["interfaces"]:
        interface["addresses"] = []


def _network() -> None:
    """Give machines the column `network`; they have their MACs since they were first seen."""
    table = sa.table("machine", *map(sa.column, ("host", "uuid", "first_seen", "body", "network")))
    this = (table.c.host == sa.bindparam("_host"), table.c.uuid == sa.bindparam("_uuid"))
    update = sa.update(table).where(*this).values(network=sa.bindparam("_network"))
    changed = []
    rows = sa.select(table.c.host, table.c.uuid, table.c.first_seen, table.c.body)
    for host, uuid, first_seen, body in op.get_bind().execute(rows):
        try:
            value = json.loads(body)
            network = {name: value[name] for name in _NETWORK}
            macs = sorted({interface["mac"] for interface in network["interfaces"]} - {""})
            network["claims"] = [{"claim": mac, "since": first_seen} for mac in macs]
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        text = json.dumps(network, sort_keys=True, separators=(",", ":"))
        changed.append({"_host": host, "_uuid": uuid, "_network": text})
    _update(update, changed)


def _with_filter(hold: dict[str, Any]) -> None:
    hold["by_filter"] = False


def _which_leaves_nothing_open(decision: dict[str, Any]) -> None:
    decision["leaves_open"] = False


def _bring_along(name: str, keys: tuple[str, ...], change: Callable[[dict[str, Any]], None]) -> None:
    """Change the JSON of all rows of a table; a row that is damaged stays so, and is told when it is read."""
    table = sa.table(name, *(sa.column(key) for key in keys), sa.column("body"))
    rows = op.get_bind().execute(sa.select(table)).all()
    update = (
        sa.update(table)
        .where(*(table.c[key] == sa.bindparam(f"_{key}") for key in keys))
        .values(body=sa.bindparam("_body"))
    )
    changed = []
    for row in rows:
        *found, body = row
        try:
            value = json.loads(body)
            change(value)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        changed.append({**{f"_{key}": item for key, item in zip(keys, found, strict=True)}, "_body": text})
    _update(update, changed)


def _update(update: sa.Update, rows: list[dict[str, object]]) -> None:
    for start in range(0, len(rows), _BATCH):
        op.get_bind().execute(update, rows[start : start + _BATCH])
