"""What takes an integration from v1 to v2: policies, brownouts, comparisons; outcomes told apart.

Calls of one status that v1 answered, and that the bridge did, are counted apart.
"""

import sqlalchemy as sa
from alembic import op

from bridge.record.log.migrations.columns import ID, counts, key, key_texts, needed, texts
from bridge.record.log.migrations.versions.first import views

revision = "2"
down_revision = "1"

_REST = (
    "integration, method, route, dialect, status, refusal, outcome, "
    "calls, v2_calls, bytes_in, bytes_out, with_notes, milliseconds, v2_milliseconds"
)


def upgrade() -> None:
    """Make the tables, and the rollups anew with the outcome in their key."""
    made = views(op.get_bind().dialect.name)
    for name, period in (("call_hours", "hour"), ("call_days", "day")):
        op.execute(f"DROP VIEW {name}_readable")
        op.execute(f"ALTER TABLE {name} RENAME TO {name}_before")
        op.create_table(
            name,
            *key(period),
            *key_texts("integration", "method", "route", "dialect"),
            sa.Column("status", sa.Integer, primary_key=True),
            *key_texts("refusal", "outcome"),
            *counts("calls", "v2_calls", "bytes_in", "bytes_out", "with_notes"),
            sa.Column("milliseconds", sa.Float, nullable=False),
            sa.Column("v2_milliseconds", sa.Float, nullable=False),
            sqlite_with_rowid=False,
        )
        columns = f"{period}, {_REST}"
        op.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name}_before")
        op.drop_table(f"{name}_before")
        op.execute(f"CREATE VIEW {name}_readable AS {made[f'{name}_readable']}")
    op.create_table(
        "policies",
        sa.Column("integration", sa.Text, primary_key=True),
        *texts("answered_by"),
        sa.Column("shadow_percent", sa.Integer),
        sa.Column("sunset", sa.BigInteger),
        *counts("changed"),
    )
    op.create_table(
        "brownouts",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        *needed("integration"),
        *texts("schedule", "time_zone"),
        *counts("since"),
        sa.Column("until", sa.BigInteger),
        *needed("calls"),
    )
    op.create_table(
        "comparisons",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        *needed("integration", "result"),
        *texts("differences"),
    )
    op.create_index("comparisons_of_integration", "comparisons", ["integration", "id"])
    op.create_table(
        "comparison_days",
        *key("day"),
        *key_texts("integration", "route", "result", "path"),
        *counts("calls"),
        sqlite_with_rowid=False,
    )
