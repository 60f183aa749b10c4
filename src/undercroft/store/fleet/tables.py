"""The tables of the record, as the program reads and writes them; `migrations` makes them.

A value stands whole, as canonical JSON, in `body`; other columns are what queries look for. Times are
microseconds since the epoch. Texts that a guest, an image or an XML may have brought are escaped to ASCII:
lone surrogates and NUL, which no database takes, then come back as they were.
"""

import hashlib
from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Column, Dialect, Index, Integer, MetaData, Table, Text
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KEY_CHARS = 800
"""Of an indexed text: PostgreSQL's index entries hold 2,700 bytes, and one may have three texts."""


def micros(at: datetime) -> int:
    """Return a time with a zone as a number that sorts and compares."""
    return (at - _EPOCH) // _MICROSECOND


def moment(micros_since_epoch: int) -> datetime:
    """Return the time, in UTC."""
    return _EPOCH + timedelta(microseconds=micros_since_epoch)


def key_text(text: str) -> str:
    """Return an ASCII text that stands for `text` alone; a long one is cut and ends in its digest."""
    escaped = text.encode("unicode_escape")
    if len(escaped) > _KEY_CHARS:
        return f"{escaped[:_KEY_CHARS].decode('ascii')}\\#{hashlib.sha256(escaped).hexdigest()}"
    return escaped.decode("ascii")


class Escaped(TypeDecorator[str]):
    """A text that may hold anything, and comes back as it was."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the ASCII form."""
        del dialect
        return None if value is None else value.encode("unicode_escape").decode("ascii")

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the text from its ASCII form."""
        del dialect
        return None if value is None else value.encode("ascii").decode("unicode_escape")


class Key(TypeDecorator[str]):
    """A text that is only looked for; `body` has it as it is."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the form that is compared."""
        del dialect
        return None if value is None else key_text(value)


Number = BigInteger().with_variant(Integer, "sqlite")
"""64 bits in both; SQLite numbers rows by itself only where the type is called INTEGER."""

metadata = MetaData()


def _key(name: str) -> Column[str]:
    return Column(name, Key, primary_key=True)


def _body() -> Column[str]:
    return Column("body", Text, nullable=False)


log_head = Table(
    "log_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("log", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
)
log_entry = Table(
    "log_entry",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Escaped, nullable=False),
    Column("about", Key, nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Index("log_entry_about", "about", "number"),
)
machine = Table(
    "machine",
    metadata,
    Column("host", Escaped, primary_key=True),
    _key("uuid"),
    Column("name", Key, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Column("gone_at", BigInteger),
    _body(),
    Column("network", Text, nullable=False),
    Index("machine_uuid", "uuid"),
    Index("machine_name", "name"),
)
"""`network` is JSON too, of what the filter needs of it."""
claim = Table(
    "claim",
    metadata,
    _key("claim"),
    Column("host", Escaped, primary_key=True),
    _key("uuid"),
    Index("claim_machine", "host", "uuid"),
)
"""By what other machines a machine may be in dispute with: `model.filter.things_of`."""
volumes = Table("volumes", metadata, Column("host", Escaped, primary_key=True), _body())
subject = Table(
    "subject",
    metadata,
    _key("key"),
    Column("machine", Key, nullable=False),
    _body(),
    Index("subject_machine", "machine"),
)
inventory = Table(
    "inventory",
    metadata,
    _key("digest"),
    Column("software", Text, nullable=False),
    _body(),
    Index("inventory_software", "software"),
)
read_set = Table(
    "read_set",
    metadata,
    Column("number", Number, primary_key=True),
    Column("inventory", Text, nullable=False),
    Column("digest", Text, nullable=False),
    _body(),
    Index("read_set_inventory", "inventory", "digest", unique=True),
)
credentials = Table("credentials", metadata, _key("digest"), _body())
scan = Table(
    "scan",
    metadata,
    _key("subject"),
    Column("inventory", Text, nullable=False),
    Column("credentials", Text, nullable=False),
    Column("lineage", Key, nullable=False),
    _body(),
    Index("scan_inventory", "inventory"),
    Index("scan_credentials", "credentials"),
    Index("scan_lineage", "lineage"),
)
answer = Table(
    "answer",
    metadata,
    Column("place", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("inventory", Text, primary_key=True),
    Column("scanned_at", BigInteger, nullable=False),
    Index("answer_inventory", "inventory"),
)
assessment = Table(
    "assessment",
    metadata,
    _key("software"),
    Column("advisories", Key, nullable=False),
    Column("digest", Text, nullable=False),
    _body(),
    Index("assessment_advisories", "advisories"),
    Index("assessment_digest", "digest"),
)
judgement = Table(
    "judgement",
    metadata,
    _key("subject"),
    Column("verdict", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("judged_at", BigInteger, nullable=False),
    _body(),
)
decision = Table(
    "decision",
    metadata,
    Column("number", Number, primary_key=True),
    Column("ident", Key, nullable=False),
    Column("machine", Key, nullable=False),
    Column("at", BigInteger, nullable=False),
    _body(),
    Index("decision_ident", "ident", unique=True),
    Index("decision_machine", "machine", "at"),
    Index("decision_at", "at"),
)
hold = Table("hold", metadata, _key("machine"), _body())
floor = Table("floor", metadata, _key("machine"), _body())
intent = Table(
    "intent",
    metadata,
    Column("number", Number, primary_key=True),
    Column("machine", Key, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    _body(),
    Index("intent_machine", "machine", "kind"),
)
fix = Table(
    "fix",
    metadata,
    _key("release"),
    _key("source"),
    _key("vulnerability"),
    Column("seen_at", BigInteger, nullable=False),
)
event = Table(
    "event",
    metadata,
    _key("ident"),
    Column("at_ns", BigInteger, nullable=False),
    Column("machine", Key, nullable=False),
    _body(),
    Index("event_machine", "machine", "at_ns"),
)
execution = Table(
    "execution",
    metadata,
    _key("eid"),
    Column("machine", Key, nullable=False),
    Column("parent", Key, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    _body(),
    Column("number", BigInteger, nullable=False),
    Index("execution_machine", "machine"),
    Index("execution_live", "machine", "ended_at"),
    Index("execution_parent", "parent"),
    Index("execution_ended", "ended_at"),
)
state = Table(
    "state",
    metadata,
    _key("key"),
    Column("machine", Key, nullable=False),
    Column("fingerprint", Key, nullable=False),
    Column("sample", Key, nullable=False),
    Column("taken_at", BigInteger, nullable=False),
    _body(),
    Index("state_machine", "machine"),
    Index("state_fingerprint", "fingerprint"),
    Index("state_sample", "sample"),
)
applied_policy = Table(
    "applied_policy",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("by", Escaped, nullable=False),
    Column("reason", Escaped, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("body", Escaped, nullable=False),
)
"""`body` is the policy's own text, which may be longer than a text in a value's JSON."""
filter_state = Table("filter_state", metadata, _key("host"), _body())
reseed = Table("reseed", metadata, _key("eid"), Column("machine", Key, nullable=False), _body())
channel = Table("channel", metadata, _key("machine"), _body())
vault_home = Table("vault_home", metadata, _key("machine"), _body())
quiesced = Table(
    "quiesced",
    metadata,
    _key("key"),
    Column("machine", Key, nullable=False),
    _body(),
    Index("quiesced_machine", "machine"),
)
moved_flows = Table("moved_flows", metadata, _key("machine"), _body())
