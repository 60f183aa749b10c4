"""The first schema of the record."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make all tables, and the log's identity."""
    _log()
    _machines()
    _reads()
    _judged()
    _lineage()


def _log() -> None:
    op.create_table(
        "log_head",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
    )
    op.create_table(
        "log_entry",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
    )
    op.create_index("log_entry_about", "log_entry", ["about", "number"])
    head = sa.table("log_head", sa.column("id"), sa.column("log"), sa.column("number"), sa.column("digest"))
    row = {"id": 1, "log": secrets.token_hex(16), "number": 0, "digest": "0" * 64}
    op.execute(sa.insert(head).values(row))


def _machines() -> None:
    op.create_table(
        "machine",
        sa.Column("host", sa.Text(), primary_key=True),
        sa.Column("uuid", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("gone_at", sa.BigInteger()),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("machine_name", "machine", ["name"])
    op.create_index("machine_uuid", "machine", ["uuid"])
    op.create_table(
        "volumes",
        sa.Column("host", sa.Text(), primary_key=True),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_table(
        "subject",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("subject_machine", "subject", ["machine"])


def _reads() -> None:
    op.create_table(
        "inventory",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("software", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("inventory_software", "inventory", ["software"])
    op.create_table(
        "read_set",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("inventory", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("read_set_inventory", "read_set", ["inventory", "digest"], unique=True)
    op.create_table(
        "credentials",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_table(
        "scan",
        sa.Column("subject", sa.Text(), primary_key=True),
        sa.Column("inventory", sa.Text(), nullable=False),
        sa.Column("credentials", sa.Text(), nullable=False),
        sa.Column("lineage", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("scan_credentials", "scan", ["credentials"])
    op.create_index("scan_inventory", "scan", ["inventory"])
    op.create_index("scan_lineage", "scan", ["lineage"])
    op.create_table(
        "answer",
        sa.Column("place", sa.Text(), primary_key=True),
        sa.Column("state", sa.Text(), primary_key=True),
        sa.Column("inventory", sa.Text(), primary_key=True),
        sa.Column("scanned_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("answer_inventory", "answer", ["inventory"])


def _judged() -> None:
    op.create_table(
        "assessment",
        sa.Column("software", sa.Text(), primary_key=True),
        sa.Column("advisories", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("assessment_advisories", "assessment", ["advisories"])
    op.create_index("assessment_digest", "assessment", ["digest"])
    op.create_table(
        "judgement",
        sa.Column("subject", sa.Text(), primary_key=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("judged_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_table(
        "decision",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("ident", sa.Text(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("decision_at", "decision", ["at"])
    op.create_index("decision_ident", "decision", ["ident"], unique=True)
    op.create_index("decision_machine", "decision", ["machine", "at"])
    op.create_table(
        "hold",
        sa.Column("machine", sa.Text(), primary_key=True),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_table(
        "floor",
        sa.Column("machine", sa.Text(), primary_key=True),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_table(
        "intent",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("intent_machine", "intent", ["machine", "kind"])
    op.create_table(
        "fix",
        sa.Column("release", sa.Text(), primary_key=True),
        sa.Column("source", sa.Text(), primary_key=True),
        sa.Column("vulnerability", sa.Text(), primary_key=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
    )


def _lineage() -> None:
    op.create_table(
        "event",
        sa.Column("ident", sa.Text(), primary_key=True),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("event_machine", "event", ["machine", "at_ns"])
    op.create_table(
        "execution",
        sa.Column("eid", sa.Text(), primary_key=True),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("execution_ended", "execution", ["ended_at"])
    op.create_index("execution_machine", "execution", ["machine"])
    op.create_index("execution_parent", "execution", ["parent"])
    op.create_table(
        "state",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("sample", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("state_fingerprint", "state", ["fingerprint"])
    op.create_index("state_machine", "state", ["machine"])
    op.create_index("state_sample", "state", ["sample"])
