"""How a database of the translation log gets the tables of `tables`, by Alembic's revisions.

Whether it needs them is known without this module, which takes long to import: see `database`.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

_MIGRATIONS = Path(__file__).parent / "migrations"


def is_known(revision: str | None) -> bool:
    """Tell whether a database of this revision (None: an empty one) can be upgraded from here."""
    script = ScriptDirectory(str(_MIGRATIONS))
    return revision in {None, *(each.revision for each in script.walk_revisions())}


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Make the tables those of a revision, within the transaction of the connection."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, revision)
