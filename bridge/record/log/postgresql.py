"""How PostgreSQL is connected to: the driver, its patience, and how it reads numbers.

Imported only where a database is a server's; the SQLite file's counterpart is in `database`.
"""

from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from sqlalchemy import URL, Engine, create_engine, event

# A server that has died without a word is noticed within some 15 seconds, and no statement holds
# the writer for ever. libpq's names and units; what the URL says of these counts more.
DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": "-c statement_timeout=60000 -c lock_timeout=10000 -c timezone=UTC",
    "application_name": "harvest-bridge",
}


def server_engine(url: URL) -> Engine:
    """Return the connections to a server's database."""
    defaults = {name: value for name, value in DEFAULTS.items() if name not in url.query}
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        hide_parameters=True,
        connect_args=defaults,
        pool_pre_ping=True,
    )
    event.listen(engine, "connect", _read_numbers)
    return engine


class _Number(Loader):
    """Reads a sum of whole numbers as one, as SQLite does; to PostgreSQL, it is a `numeric`."""

    def load(self, data: Buffer) -> int | float:
        number = bytes(data)
        return float(number) if b"." in number else int(number)


def _read_numbers(connection: psycopg.Connection[Any], _record: object) -> None:
    connection.adapters.register_loader("numeric", _Number)
