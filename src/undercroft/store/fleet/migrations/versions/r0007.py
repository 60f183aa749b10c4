"""The home of each machine's vault: the host that keeps it.

A machine that was on a guest service before has its vault where its channel was handed over last. In which
epochs is not known: until that host hands it over again, an adoption elsewhere may repeat its values.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_BATCH = 500


def upgrade() -> None:
    """Make the table, with a home for each channel that was handed over."""
    home = op.create_table(
        "vault_home",
        sa.Column("machine", sa.Text(), primary_key=True),
        sa.Column("body", sa.Text(), nullable=False),
    )
    channel = sa.table("channel", sa.column("machine"), sa.column("body"))
    rows = []
    for machine, body in op.get_bind().execute(sa.select(channel)).all():
        try:
            known = json.loads(body)
            value = {name: known[name] for name in ("machine", "host", "at")}
        except (ValueError, TypeError, KeyError, RecursionError):
            continue  # it is damaged, and is told when it is read
        text = json.dumps(value | {"epoch": 0, "above": 0}, sort_keys=True, separators=(",", ":"))
        rows.append({"machine": machine, "body": text})
    for start in range(0, len(rows), _BATCH):
        op.get_bind().execute(sa.insert(home), rows[start : start + _BATCH])
