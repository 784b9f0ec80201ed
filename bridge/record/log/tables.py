"""The tables of the translation log: one schema for SQLite and PostgreSQL.

Times are milliseconds since 1970, UTC. `calls` has every call until it is too old; what has to
outlive it, or be answered over months in no time, is counted as calls come in, in the others.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

REVISION = "2"
"""The latest revision in `migrations`, which leads to these tables."""

METADATA = MetaData()

_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite's key of a row, if it is so called

INTEGRATIONS = Table(
    "integrations",
    METADATA,
    # Who it is. All of these make up the id.
    Column("id", Text, primary_key=True),
    Column("account_id", BigInteger),
    Column("subdomain", Text),
    Column("login", Text),
    Column("token", Text),
    Column("agent", Text),
    Column("network", Text),
    # What is known of it besides, as of its latest call.
    Column("way", Text),
    Column("is_known", Boolean, nullable=False),
    Column("label", Text),
    Column("user_agent", Text),
    Column("address", Text),
    Column("host", Text),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
    # What the operator says of it.
    Column("name", Text),
    Column("owner", Text),
    Column("state", Text, nullable=False, server_default="unknown"),
    Column("remark", Text),
)

CALLS = Table(
    "calls",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=False),  # its time << 22
    Column("integration", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("route", Text),
    Column("path", Text),
    Column("dialect", Text),
    Column("format", Text),
    Column("status", Integer),
    Column("outcome", Text, nullable=False),
    Column("refusal", Text),
    Column("problem", Text),
    Column("cause", Text),
    Column("v2_says", Text),
    Column("milliseconds", Float, nullable=False),
    Column("v2_milliseconds", Float),
    Column("waiting_milliseconds", Float),
    Column("translation_milliseconds", Float),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("address", Text),
    Column("host", Text),
    Column("user_agent", Text),
    Column("http", Text),
    Column("tls", Text),
    Column("shared_with", Text),
    Column("client_gone", Boolean, nullable=False),
    Column("upstream", Text),  # JSON as in the log line; NULL: none
    Column("notes", Text),  # likewise
)
Index("calls_of_integration", CALLS.c.integration, CALLS.c.id)
Index("calls_of_request", CALLS.c.request_id, CALLS.c.id)
Index(
    "calls_not_served",
    CALLS.c.outcome,
    CALLS.c.id,
    sqlite_where=CALLS.c.outcome != "served",
    postgresql_where=CALLS.c.outcome != "served",
)

_COUNTED = ("calls", "v2_calls", "bytes_in", "bytes_out", "with_notes")


def _rollup(name: str, period: str) -> Table:
    """Return the table of what happened in each period, alike calls counted together.

    '' stands for what is not known, so that it can be part of a key.
    """
    return Table(
        name,
        METADATA,
        Column(period, BigInteger, primary_key=True, autoincrement=False),
        Column("integration", Text, primary_key=True),
        Column("method", Text, primary_key=True),
        Column("route", Text, primary_key=True),  # or the path, where there is no route
        Column("dialect", Text, primary_key=True),
        Column("status", Integer, primary_key=True),  # 0: no answer
        Column("refusal", Text, primary_key=True),
        Column("outcome", Text, primary_key=True),
        *(Column(each, BigInteger, nullable=False) for each in _COUNTED),
        Column("milliseconds", Float, nullable=False),  # their sum
        Column("v2_milliseconds", Float, nullable=False),
        sqlite_with_rowid=False,
    )


HOURS = _rollup("call_hours", "hour")
"""By hours since 1970."""

DAYS = _rollup("call_days", "day")
"""By days since 1970."""

NOTES = Table(
    "note_days",
    METADATA,
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("integration", Text, primary_key=True),
    Column("method", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

CONNECTIONS = Table(
    "failed_connections",
    METADATA,
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("network", Text, primary_key=True),
    Column("event", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("detail", Text),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

GAPS = Table(
    "unrecorded",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=False),  # its time << 22
    Column("calls", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)
"""Calls that were served and not kept, because the database was not to be written to in time."""

CAPTURES = Table(
    "captures",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=False),  # that of the call
    Column("exchange", LargeBinary, nullable=False),
)

CAPTURE_RULES = Table(
    "capture_rules",
    METADATA,
    Column("integration", Text, primary_key=True),  # '': all
    Column("mode", Text, nullable=False),  # off, errors, all
    Column("raw", Boolean, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
)

POLICIES = Table(
    "policies",
    METADATA,
    Column("integration", Text, primary_key=True),  # '': all that have none of their own
    Column("answered_by", Text),  # v1, bridge; NULL: as for all, or as the settings say
    Column("shadow_percent", Integer),  # likewise
    Column("sunset", BigInteger),  # likewise
    Column("changed", BigInteger, nullable=False),
)

BROWNOUTS = Table(
    "brownouts",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=False),  # its time << 22
    Column("integration", Text, nullable=False),  # '': all
    Column("schedule", Text),  # such as Tue 10:00-10:15; NULL: once
    Column("time_zone", Text),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger),  # NULL: until it is ended
    Column("calls", Text, nullable=False),  # which: all, reads, writes, or routes
)

COMPARISONS = Table(
    "comparisons",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=False),  # that of the call
    Column("integration", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("differences", Text),  # JSON; NULL: none
)
Index("comparisons_of_integration", COMPARISONS.c.integration, COMPARISONS.c.id)

COMPARISON_DAYS = Table(
    "comparison_days",
    METADATA,
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("integration", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("result", Text, primary_key=True),
    Column("path", Text, primary_key=True),  # that differs; '': the comparisons themselves
    Column("calls", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

INSTALLATION = Table(
    "installation",
    METADATA,
    Column("key_check", Text, primary_key=True),
)
"""A digest of the key of all digests: who has another key must not write here."""
