"""An invoice's lists in SQLite: a table each, its statements, rows in and out.

Invoices, and the transactions that all of this happens in, are in state.py; pages, in paging.py.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import aiosqlite
import msgspec

from bridge.sandbox.errors import NotFoundError
from bridge.sandbox.messages import Message
from bridge.sandbox.paging import ABOVE_ALL, Collection, Direction, Page, Position, Window
from bridge.sandbox.payments import Payment

_Item = TypeVar("_Item", Message, Payment)

# AUTOINCREMENT, because the id of a deleted item must not come back as another's. The columns are
# what lists are found by; the whole item is one JSON text, since a column a field makes opening a
# sandbox and reading a long list several times slower. A decimal is text in it, and so exact.
_SCHEMA = (
    """
    CREATE TABLE {table} (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        invoice_id INTEGER NOT NULL REFERENCES invoices (id),
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        item TEXT NOT NULL
    )
    """,
    "CREATE INDEX {table}_by_age ON {table} (invoice_id, created_at, id)",
)
_INSERT = "INSERT INTO {table} VALUES (?, ?, ?, ?, ?)"
_LAST_ID_GIVEN = "UPDATE sqlite_sequence SET seq = ? WHERE name = '{table}'"
_SELECT_ONE = "SELECT id, item FROM {table} WHERE invoice_id = ? AND id = ?"
_DELETE = "DELETE FROM {table} WHERE invoice_id = ? AND id = ?"
_COUNT = """
    SELECT count(*) FROM {table}
    WHERE invoice_id = :invoice_id AND updated_at >= :updated_since
"""
_SELECT: Mapping[Direction, str] = {
    Direction.OLDER: """
        SELECT id, item FROM {table}
        WHERE invoice_id = :invoice_id AND updated_at >= :updated_since
            AND (created_at, id) < (:start_created_at, :start_id)
        ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset
    """,
    Direction.NEWER: """
        SELECT id, item FROM {table}
        WHERE invoice_id = :invoice_id AND updated_at >= :updated_since
            AND (created_at, id) > (:start_created_at, :start_id)
        ORDER BY created_at ASC, id ASC LIMIT :limit OFFSET :offset
    """,
}

# To SQLite, a limit below 0 is none.
_ALL = Window(Direction.OLDER, ABOVE_ALL, offset=0, limit=-1, updated_since="")

_Row = tuple[int | None, int, str, str, str]


class Table(Generic[_Item]):
    """The table of a collection."""

    def __init__(self, collection: Collection, kind: type[_Item]) -> None:
        """Keep items of `kind`."""
        self._name = str(collection)
        self._decoder: msgspec.json.Decoder[_Item] = msgspec.json.Decoder(kind)

    def create(
        self,
        connection: sqlite3.Connection,
        items: Iterable[tuple[int, _Item]],
        *,
        next_id: int,
    ) -> None:
        """Make the table, with each item on its invoice; the next to be created gets `next_id`."""
        for statement in _SCHEMA:
            connection.execute(self._sql(statement))
        connection.executemany(
            self._sql(_INSERT), (_row(item.id, invoice_id, item) for invoice_id, item in items)
        )
        connection.execute(self._sql(_LAST_ID_GIVEN), (next_id - 1,))

    async def page(
        self, connection: aiosqlite.Connection, invoice_id: int, window: Window
    ) -> Page[_Item]:
        """Return the items in `window`, newest first."""
        total = list(
            await connection.execute_fetchall(
                self._sql(_COUNT),
                {"invoice_id": invoice_id, "updated_since": window.updated_since},
            )
        )
        items = await self._found(connection, invoice_id, window)
        if window.direction is Direction.NEWER:
            items.reverse()

        async def any_beyond(item: _Item, direction: Direction) -> bool:
            place = Position.of(item)
            beyond = window._replace(direction=direction, start=place, offset=0, limit=1)
            return bool(await self._found(connection, invoice_id, beyond))

        return Page(
            items=items,
            total_entries=total[0][0],
            has_newer=bool(items) and await any_beyond(items[0], Direction.NEWER),
            has_older=bool(items) and await any_beyond(items[-1], Direction.OLDER),
        )

    async def one(self, connection: aiosqlite.Connection, invoice_id: int, item_id: int) -> _Item:
        """Return an item.

        Raises:
            NotFoundError: the invoice has none with this id.
        """
        rows = await connection.execute_fetchall(self._sql(_SELECT_ONE), (invoice_id, item_id))
        for item in self._read(rows):
            return item
        raise self._missing(invoice_id, item_id)

    async def all(self, connection: aiosqlite.Connection, invoice_id: int) -> list[_Item]:
        """Return every item of an invoice, newest first."""
        return await self._found(connection, invoice_id, _ALL)

    async def insert(self, connection: aiosqlite.Connection, invoice_id: int, item: _Item) -> _Item:
        """Add an item, and return it with the id it got."""
        inserted = await connection.execute(self._sql(_INSERT), _row(None, invoice_id, item))
        return msgspec.structs.replace(item, id=inserted.lastrowid)

    async def delete(self, connection: aiosqlite.Connection, invoice_id: int, item_id: int) -> None:
        """Delete an item.

        Raises:
            NotFoundError: the invoice has none with this id.
        """
        deleted = await connection.execute(self._sql(_DELETE), (invoice_id, item_id))
        if deleted.rowcount == 0:
            raise self._missing(invoice_id, item_id)

    async def _found(
        self, connection: aiosqlite.Connection, invoice_id: int, window: Window
    ) -> list[_Item]:
        parameters: dict[str, Any] = {
            "invoice_id": invoice_id,
            "updated_since": window.updated_since,
            "start_created_at": window.start.created_at,
            "start_id": window.start.id,
            "limit": window.limit,
            "offset": window.offset,
        }
        rows = await connection.execute_fetchall(self._sql(_SELECT[window.direction]), parameters)
        return self._read(rows)

    def _read(self, rows: Iterable[sqlite3.Row]) -> list[_Item]:
        return [
            msgspec.structs.replace(self._decoder.decode(row["item"]), id=row["id"]) for row in rows
        ]

    def _missing(self, invoice_id: int, item_id: int) -> NotFoundError:
        called = self._name.removesuffix("s")
        return NotFoundError(f"Invoice {invoice_id} has no {called} {item_id}")

    def _sql(self, statement: str) -> str:
        return statement.replace("{table}", self._name)


MESSAGES = Table(Collection.MESSAGES, Message)
PAYMENTS = Table(Collection.PAYMENTS, Payment)


def _row(item_id: int | None, invoice_id: int, item: Message | Payment) -> _Row:
    text = msgspec.json.encode(item).decode()
    return (item_id, invoice_id, item.created_at, item.updated_at, text)
