"""Packages of many managers, and volumes that are made of volumes.

Inventories that were kept before name no module of rpm's and no members of a volume. They stay under the
digests that they have: the same machine, read again, is another inventory and is judged anew.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_BATCH = 100


def upgrade() -> None:
    """Bring inventories along, some at a time; one that is damaged stays so, and is told when it is read."""
    table = sa.table("inventory", sa.column("digest"), sa.column("body"))
    update = sa.update(table).where(table.c.digest == sa.bindparam("_digest"))
    update = update.values(body=sa.bindparam("_body"))
    bind = op.get_bind()
    digests = [row[0] for row in bind.execute(sa.select(table.c.digest).order_by(table.c.digest)).all()]
    for start in range(0, len(digests), _BATCH):
        some = digests[start : start + _BATCH]
        changed = []
        for digest, body in bind.execute(sa.select(table).where(table.c.digest.in_(some))).all():
            try:
                value = json.loads(body)
                for package in value["packages"]:
                    package["module"] = ""
                for volume in value["coverage"]["volumes"]:
                    volume["members"] = []
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            text = json.dumps(value, sort_keys=True, separators=(",", ":"))
            changed.append({"_digest": digest, "_body": text})
        if changed:
            bind.execute(update, changed)
