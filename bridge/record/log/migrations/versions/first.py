"""The first tables and views of the translation log."""

import sqlalchemy as sa
from alembic import op

from bridge.record.log.migrations.columns import ID, counts, key, key_texts, needed, texts

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make the tables, and the views on them for whoever opens the database as it is."""
    op.create_table(
        "integrations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("account_id", sa.BigInteger),
        *texts("subdomain", "login", "token", "agent", "network", "way"),
        sa.Column("is_known", sa.Boolean, nullable=False),
        *texts("label", "user_agent", "address", "host"),
        *counts("first_seen", "last_seen", "calls"),
        *texts("name", "owner"),
        sa.Column("state", sa.Text, nullable=False, server_default="unknown"),
        *texts("remark"),
    )
    op.create_table(
        "calls",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        *needed("integration", "request_id", "method"),
        *texts("route", "path", "dialect", "format"),
        sa.Column("status", sa.Integer),
        *needed("outcome"),
        *texts("refusal", "problem", "cause", "v2_says"),
        sa.Column("milliseconds", sa.Float, nullable=False),
        sa.Column("v2_milliseconds", sa.Float),
        sa.Column("waiting_milliseconds", sa.Float),
        sa.Column("translation_milliseconds", sa.Float),
        *counts("bytes_in", "bytes_out"),
        *texts("address", "host", "user_agent", "http", "tls", "shared_with"),
        sa.Column("client_gone", sa.Boolean, nullable=False),
        *texts("upstream", "notes"),
    )
    op.create_index("calls_of_integration", "calls", ["integration", "id"])
    op.create_index("calls_of_request", "calls", ["request_id", "id"])
    not_served = sa.text("outcome <> 'served'")
    op.create_index(
        "calls_not_served",
        "calls",
        ["outcome", "id"],
        sqlite_where=not_served,
        postgresql_where=not_served,
    )
    for name, period in (("call_hours", "hour"), ("call_days", "day")):
        op.create_table(
            name,
            *key(period),
            *key_texts("integration", "method", "route", "dialect"),
            sa.Column("status", sa.Integer, primary_key=True),
            *key_texts("refusal"),
            *needed("outcome"),
            *counts("calls", "v2_calls", "bytes_in", "bytes_out", "with_notes"),
            sa.Column("milliseconds", sa.Float, nullable=False),
            sa.Column("v2_milliseconds", sa.Float, nullable=False),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "note_days",
        *key("day"),
        *key_texts("integration", "method", "route", "code", "subject"),
        *counts("calls", "count"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "failed_connections",
        *key("day"),
        *key_texts("network", "event", "reason"),
        *counts("count"),
        *texts("detail"),
        *counts("first_seen", "last_seen"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "unrecorded",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        *counts("calls", "since"),
        *needed("reason"),
    )
    op.create_table(
        "captures",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("exchange", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "capture_rules",
        *key_texts("integration"),
        *needed("mode"),
        sa.Column("raw", sa.Boolean, nullable=False),
        *counts("since", "until"),
    )
    op.create_table("installation", *key_texts("key_check"))
    for name, query in views(op.get_bind().dialect.name).items():
        op.execute(f"CREATE VIEW {name} AS {query}")


# How each database says what the views need: a time that can be read, the present, the elements
# of a JSON list, and a field of such an element.
_WORDS = {
    "sqlite": {
        "time": "strftime('%Y-%m-%dT%H:%M:%fZ', {} / 1000.0, 'unixepoch')",
        "now": "(strftime('%s', 'now') * 1000)",
        "each": "json_each({})",
        "text": "json_extract(element.value, '$.{}')",
        "integer": "json_extract(element.value, '$.{}')",
        "float": "json_extract(element.value, '$.{}')",
    },
    "postgresql": {
        "time": "to_timestamp({} / 1000.0)",
        "now": "(extract(epoch FROM now()) * 1000)",
        "each": "json_array_elements(({})::json)",
        "text": "(element.value ->> '{}')",
        "integer": "(element.value ->> '{}')::bigint",
        "float": "(element.value ->> '{}')::double precision",
    },
}


def views(dialect: str) -> dict[str, str]:
    """Return the query of each view, by its name."""
    words = _WORDS[dialect]

    def field(word: str, name: str, shown: str | None = None) -> str:
        return f"{words[word].format(name)} AS {shown or name}"

    def time(milliseconds: str) -> str:
        return words["time"].format(milliseconds)

    title = "coalesce(i.name, i.label, i.subdomain, i.agent, i.network, c.integration) AS title"
    joined = "LEFT JOIN integrations AS i ON i.id = c.integration"
    call = f"SELECT c.id, {time('(c.id >> 22)')} AS time, c.integration, {title}, c.method, c.route"
    counts = "c.calls, c.v2_calls, c.bytes_in, c.bytes_out, c.with_notes"
    means = (
        "c.milliseconds / c.calls AS milliseconds, c.v2_milliseconds / c.calls AS v2_milliseconds"
    )
    views = {
        "calls_readable": f"""
            {call}, c.path, c.dialect, c.format, c.status, c.outcome, c.refusal, c.problem,
                c.cause, c.v2_says, c.milliseconds, c.v2_milliseconds, c.waiting_milliseconds,
                c.translation_milliseconds, c.bytes_in, c.bytes_out, c.address, c.host,
                c.user_agent, c.http, c.tls, c.request_id, c.shared_with, c.client_gone
            FROM calls AS c {joined}
        """,
        "v2_calls_readable": f"""
            {call}, {field("text", "method", "v2_method")}, {field("text", "path", "v2_path")},
                {field("text", "route", "v2_route")}, {field("integer", "status", "v2_status")},
                {field("float", "milliseconds", "v2_milliseconds")}, {field("text", "error")},
                {field("text", "event")}, {field("integer", "page")}
            FROM calls AS c CROSS JOIN {words["each"].format("c.upstream")} AS element {joined}
        """,
        "notes_readable": f"""
            {call}, {field("text", "code")}, {field("text", "subject")}, {field("integer", "count")}
            FROM calls AS c CROSS JOIN {words["each"].format("c.notes")} AS element {joined}
        """,
        "integrations_readable": f"""
            SELECT i.id, coalesce(i.name, i.label, i.subdomain, i.agent, i.network, i.id) AS title,
                {time("i.first_seen")} AS first_seen, {time("i.last_seen")} AS last_seen,
                round(({words["now"]} - i.last_seen) / 86400000.0, 1) AS days_since,
                i.calls, i.state, i.owner, i.remark, i.account_id, i.subdomain, i.label, i.way,
                i.is_known, i.agent, i.user_agent, i.address, i.network, i.host
            FROM integrations AS i
        """,
        "failed_connections_readable": f"""
            SELECT network, event, reason, count, detail, {time("first_seen")} AS first_seen,
                {time("last_seen")} AS last_seen
            FROM failed_connections
        """,
    }
    for table, period, length in (
        ("call_hours", "hour", 3_600_000),
        ("call_days", "day", 86_400_000),
    ):
        views[f"{table}_readable"] = f"""
            SELECT {time(f"(c.{period} * {length})")} AS time, c.integration, {title}, c.method,
                c.route, c.dialect, c.status, c.refusal, c.outcome, {counts}, {means}
            FROM {table} AS c {joined}
        """
    return views
