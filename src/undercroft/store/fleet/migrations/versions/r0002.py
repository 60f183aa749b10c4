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
    _bring_along("machine", ("host", "uuid"), _with_addresses)
    _bring_along("hold", ("machine",), _with_filter)


def _with_addresses(domain: dict[str, Any]) -> None:
    domain["ownership"]["addresses"] = []
    for interface in domain["interfaces"]:
        interface["addresses"] = []


def _with_filter(hold: dict[str, Any]) -> None:
    hold["by_filter"] = False


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
    for start in range(0, len(changed), _BATCH):
        op.get_bind().execute(update, changed[start : start + _BATCH])
