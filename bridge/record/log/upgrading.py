"""What Alembic does for the translation log: which revision its tables have, and the steps on.

Apart from `database`, for to import it takes longer than to ask a question.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection) -> None:
    """Make the latest tables of an empty database, or of one of an older bridge."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")


def revisions(connection: Connection) -> tuple[str | None, set[str]]:
    """Return the revision that a database has, None if it has none, and those that are known."""
    known = {each.revision for each in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    return MigrationContext.configure(connection).get_current_revision(), known
