"""The sandbox's invoices and messages in SQLite: a file that outlives a restart, or memory.

Rows in and out, each call one transaction. The rules are in invoices.py and messages.py.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from functools import cache
from typing import Any

import aiosqlite
import msgspec

from bridge.sandbox.errors import NotFoundError, SandboxStateError
from bridge.sandbox.invoices import Invoice, InvoiceState, after_message
from bridge.sandbox.messages import Message, NewMessage, User, compose
from bridge.sandbox.paging import Direction, Page, Position, Window
from bridge.sandbox.seeds import FIRST_NEW_MESSAGE_ID, INVOICES, seed_messages

_MEMORY = ":memory:"

# Written into the file's header, so that no other program's database is taken for a sandbox's.
_APPLICATION_ID = int.from_bytes(b"HBsb", "big")
_SCHEMA_VERSION = 1

_SCHEMA = (
    """
    CREATE TABLE invoices (
        id INTEGER PRIMARY KEY,
        state TEXT NOT NULL,
        payment_options TEXT NOT NULL,
        number TEXT NOT NULL,
        client TEXT NOT NULL,
        amount TEXT NOT NULL,
        issued TEXT NOT NULL,
        due TEXT NOT NULL,
        days_past_due INTEGER NOT NULL
    )
    """,
    # AUTOINCREMENT, because the id of a deleted message must not come back as another's. The
    # columns are what lists are found by; the whole message is one JSON text, since a column a
    # field makes opening a sandbox and reading a long list several times slower.
    """
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        invoice_id INTEGER NOT NULL REFERENCES invoices (id),
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        message TEXT NOT NULL
    )
    """,
    "CREATE INDEX messages_by_age ON messages (invoice_id, created_at, id)",
)

_INSERT_INVOICE = """
    INSERT INTO invoices VALUES (
        :id, :state, :payment_options, :number, :client, :amount, :issued, :due, :days_past_due
    )
"""
_INSERT_MESSAGE = "INSERT INTO messages VALUES (?, ?, ?, ?, ?)"
_LAST_ID_GIVEN = "UPDATE sqlite_sequence SET seq = ? WHERE name = 'messages'"

_SELECT_INVOICE = "SELECT * FROM invoices WHERE id = ?"
_UPDATE_INVOICE = "UPDATE invoices SET state = ?, payment_options = ? WHERE id = ?"
_DELETE_MESSAGE = "DELETE FROM messages WHERE invoice_id = ? AND id = ?"
_COUNT_MESSAGES = """
    SELECT count(*) FROM messages
    WHERE invoice_id = :invoice_id AND updated_at >= :updated_since
"""
_SELECT_MESSAGES: Mapping[Direction, str] = {
    Direction.OLDER: """
        SELECT id, message FROM messages
        WHERE invoice_id = :invoice_id AND updated_at >= :updated_since
            AND (created_at, id) < (:start_created_at, :start_id)
        ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset
    """,
    Direction.NEWER: """
        SELECT id, message FROM messages
        WHERE invoice_id = :invoice_id AND updated_at >= :updated_since
            AND (created_at, id) > (:start_created_at, :start_id)
        ORDER BY created_at ASC, id ASC LIMIT :limit OFFSET :offset
    """,
}

_MessageRow = tuple[int | None, int, str, str, str]


class SandboxState:
    """An open sandbox database. Calls are served one after another."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        """Serve from `connection`, which `open_state` has prepared and closes."""
        self._connection = connection
        self._turn = asyncio.Lock()

    async def invoice(self, invoice_id: int) -> Invoice:
        """Return an invoice.

        Raises:
            NotFoundError: there is none with this id.
        """
        async with self._transaction():
            return await self._invoice(invoice_id)

    async def page(self, invoice_id: int, window: Window) -> Page:
        """Return the messages in `window`, newest first.

        Raises:
            NotFoundError: there is no such invoice.
        """
        async with self._transaction():
            invoice = await self._invoice(invoice_id)
            total = await self._rows(
                _COUNT_MESSAGES,
                {"invoice_id": invoice_id, "updated_since": window.updated_since},
            )
            messages = await self._messages(invoice, window)
            if window.direction is Direction.NEWER:
                messages.reverse()
            return Page(
                messages=messages,
                total_entries=total[0][0],
                has_newer=bool(messages)
                and await self._any_beyond(messages[0], invoice, window, Direction.NEWER),
                has_older=bool(messages)
                and await self._any_beyond(messages[-1], invoice, window, Direction.OLDER),
            )

    async def create_message(
        self, invoice_id: int, new: NewMessage, *, sender: User, now: str
    ) -> Message:
        """Create a message, with its effect on the invoice: both, or neither.

        Raises:
            NotFoundError: there is no such invoice.
            UnprocessableError: the invoice's state does not allow the message's event.
        """
        async with self._transaction():
            invoice = after_message(await self._invoice(invoice_id), new)
            await self._connection.execute(
                _UPDATE_INVOICE,
                (invoice.state, _json(invoice.payment_options), invoice_id),
            )
            message = compose(new, sender=sender, now=now)
            inserted = await self._connection.execute(
                _INSERT_MESSAGE, _message_row(None, invoice_id, message)
            )
            return _complete(message, inserted.lastrowid, invoice)

    async def delete_message(self, invoice_id: int, message_id: int) -> None:
        """Delete a message.

        Raises:
            NotFoundError: the invoice has no such message.
        """
        async with self._transaction():
            deleted = await self._connection.execute(_DELETE_MESSAGE, (invoice_id, message_id))
            if deleted.rowcount == 0:
                raise NotFoundError(f"Invoice {invoice_id} has no message {message_id}")

    async def _invoice(self, invoice_id: int) -> Invoice:
        for row in await self._rows(_SELECT_INVOICE, (invoice_id,)):
            return _read_invoice(row)
        raise NotFoundError(f"Invoice {invoice_id} does not exist")

    async def _messages(self, invoice: Invoice, window: Window) -> list[Message]:
        rows = await self._rows(
            _SELECT_MESSAGES[window.direction],
            {
                "invoice_id": invoice.id,
                "updated_since": window.updated_since,
                "start_created_at": window.start.created_at,
                "start_id": window.start.id,
                "limit": window.limit,
                "offset": window.offset,
            },
        )
        return [_read_message(row, invoice) for row in rows]

    async def _any_beyond(
        self, message: Message, invoice: Invoice, window: Window, direction: Direction
    ) -> bool:
        beyond = window._replace(direction=direction, start=Position.of(message), offset=0, limit=1)
        return bool(await self._messages(invoice, beyond))

    async def _rows(
        self, sql: str, parameters: tuple[Any, ...] | dict[str, Any]
    ) -> list[sqlite3.Row]:
        return list(await self._connection.execute_fetchall(sql, parameters))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        # One connection has one transaction, so without turns calls would share theirs.
        async with self._turn:
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                yield
                await self._connection.commit()
            except BaseException:
                # Also when a cancelled call has left its BEGIN with the database's thread.
                await self._connection.rollback()
                raise


@asynccontextmanager
async def open_state(database: str) -> AsyncIterator[SandboxState]:
    """Open a database, and close it at the end; a new or empty one gets the seeds.

    `database` is a file's path, or ":memory:".

    Raises:
        SandboxStateError: it cannot be opened, or is not a sandbox's.
    """
    ready = await asyncio.to_thread(_open, database)
    connection = await aiosqlite.Connection(lambda: ready, iter_chunk_size=64)
    try:
        yield SandboxState(connection)
    finally:
        await connection.close()


def _open(database: str) -> sqlite3.Connection:
    try:
        # With isolation_level None the module begins no transactions of its own. The thread that
        # opens is not the one that serves; they never use the connection at the same time.
        connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise SandboxStateError(f"Cannot open the sandbox database {database}: {error}") from error
    try:
        if database == _MEMORY:
            connection.deserialize(_seeded_image())
        _prepare(connection, database)
    except sqlite3.Error as error:
        connection.close()
        raise SandboxStateError(f"Cannot use {database} as a sandbox: {error}") from error
    except SandboxStateError:
        connection.close()
        raise
    connection.row_factory = sqlite3.Row
    return connection


def _prepare(connection: sqlite3.Connection, database: str) -> None:
    # Of two processes that open a new file at once, the second waits here and finds it seeded.
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (application, version) == (_APPLICATION_ID, _SCHEMA_VERSION):
            return
        if application == _APPLICATION_ID:
            raise SandboxStateError(
                f"{database} is a sandbox database of version {version}, not {_SCHEMA_VERSION}"
            )
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or tables:
            raise SandboxStateError(f"{database} is a database, but not a sandbox's")
        _seed(connection)


@cache
def _seeded_image() -> bytes:
    # A test run opens many sandboxes in memory, and a copy is ten times faster than inserting.
    with closing(sqlite3.connect(_MEMORY, isolation_level=None)) as connection:
        _prepare(connection, _MEMORY)
        return connection.serialize()


def _seed(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.executemany(_INSERT_INVOICE, [_invoice_row(invoice) for invoice in INVOICES])
    connection.executemany(
        _INSERT_MESSAGE,
        (_message_row(seed.message.id, seed.invoice_id, seed.message) for seed in seed_messages()),
    )
    connection.execute(_LAST_ID_GIVEN, (FIRST_NEW_MESSAGE_ID - 1,))
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def _invoice_row(invoice: Invoice) -> dict[str, Any]:
    row = msgspec.structs.asdict(invoice)
    return row | {"payment_options": _json(invoice.payment_options)}


def _read_invoice(row: sqlite3.Row) -> Invoice:
    fields: dict[str, Any] = dict(row)
    fields["state"] = InvoiceState(fields["state"])
    fields["payment_options"] = _PAYMENT_OPTIONS.decode(fields["payment_options"])
    return Invoice(**fields)


def _message_row(message_id: int | None, invoice_id: int, message: Message) -> _MessageRow:
    return (message_id, invoice_id, message.created_at, message.updated_at, _json(message))


def _read_message(row: sqlite3.Row, invoice: Invoice) -> Message:
    return _complete(_MESSAGE.decode(row["message"]), row["id"], invoice)


def _complete(message: Message, message_id: int | None, invoice: Invoice) -> Message:
    """Fill in what a message's own text does not know: its id, and the invoice's options."""
    return msgspec.structs.replace(
        message,
        id=message_id,
        include_link_to_client_invoice=bool(invoice.payment_options),
    )


_PAYMENT_OPTIONS = msgspec.json.Decoder(tuple[str, ...])
_MESSAGE = msgspec.json.Decoder(Message)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
