"""Beneath the guest: confirmed seeds, channels, quiesced snapshots; holds that wait for a seed.

Of machines that were surveyed before nobody knows whether they have a channel; the next survey tells.
"""

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_BATCH = 500


def upgrade() -> None:
    """Make the tables, and bring machines and holds along."""
    for name, key in (("reseed", "eid"), ("channel", "machine"), ("quiesced", "key")):
        of = [] if key == "machine" else [sa.Column("machine", sa.Text(), nullable=False)]
        op.create_table(
            name,
            sa.Column(key, sa.Text(), primary_key=True),
            *of,
            sa.Column("body", sa.Text(), nullable=False),
        )
    op.create_index("quiesced_machine", "quiesced", ["machine"])
    _bring_along("machine", ("host", "uuid"), _with_channel)
    _bring_along("hold", ("machine",), _which_waits_for_no_seed)


def _with_channel(domain: dict[str, Any]) -> None:
    domain["channel"], domain["channel_path"] = False, ""


def _which_waits_for_no_seed(hold: dict[str, Any]) -> None:
    hold["reseed"] = False


def _bring_along(name: str, keys: tuple[str, ...], change: Callable[[dict[str, Any]], None]) -> None:
    """Change the JSON of all rows of a table; a row that is damaged stays so, and is told when it is read."""
    table = sa.table(name, *map(sa.column, (*keys, "body")))
    update = (
        sa.update(table)
        .where(*(table.c[key] == sa.bindparam(f"_{key}") for key in keys))
        .values(body=sa.bindparam("_body"))
    )
    changed = []
    for *found, body in op.get_bind().execute(sa.select(table)).all():
        try:
            value = json.loads(body)
            change(value)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        changed.append({**{f"_{key}": item for key, item in zip(keys, found, strict=True)}, "_body": text})
    for start in range(0, len(changed), _BATCH):
        op.get_bind().execute(update, changed[start : start + _BATCH])
