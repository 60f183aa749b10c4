"""Of a host's filter, what stands around its table.

Nobody has looked there before; the host's agent does, once it has proven its table.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring hosts along; a row that is damaged stays so, and is told when it is read."""
    table = sa.table("filter_state", sa.column("host"), sa.column("body"))
    update = sa.update(table).where(table.c.host == sa.bindparam("_host")).values(body=sa.bindparam("_body"))
    changed = []
    for host, body in op.get_bind().execute(sa.select(table)).all():
        try:
            value = {**json.loads(body), "around_at": None, "findings": 0, "voided": False}
        except (ValueError, TypeError, RecursionError):
            continue
        changed.append({"_host": host, "_body": json.dumps(value, sort_keys=True, separators=(",", ":"))})
    if changed:
        op.get_bind().execute(update, changed)
