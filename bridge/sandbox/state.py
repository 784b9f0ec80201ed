"""The sandbox's state in SQLite: invoices and their lists, in a file that outlives it or in memory.

Each call is one transaction. The lists' tables are in tables.py, the rules in invoices.py,
messages.py and payments.py.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from functools import cache
from typing import Any

import aiosqlite
import msgspec

from bridge.sandbox.clients import Client
from bridge.sandbox.errors import NotFoundError, SandboxStateError
from bridge.sandbox.invoices import (
    Invoice,
    InvoiceState,
    after_message,
    after_payment,
    after_payment_deleted,
    due_amount,
    thank,
)
from bridge.sandbox.messages import Message, NewMessage, Recipient, compose
from bridge.sandbox.paging import Page, Window
from bridge.sandbox.payments import NewPayment, Payment, record
from bridge.sandbox.seeds import (
    CLIENTS,
    FIRST_NEW_CLIENT_ID,
    FIRST_NEW_MESSAGE_ID,
    FIRST_NEW_PAYMENT_ID,
    INVOICES,
    owner,
    seed_messages,
    seed_payments,
)
from bridge.sandbox.tables import MESSAGES, PAYMENTS
from bridge.sandbox.users import User

_MEMORY = ":memory:"

# Written into the file's header, so that no other program's database is taken for a sandbox's.
_APPLICATION_ID = int.from_bytes(b"HBsb", "big")
_SCHEMA_VERSION = 3

_CREATE_INVOICES = """
    CREATE TABLE invoices (
        id INTEGER PRIMARY KEY,
        state TEXT NOT NULL,
        payment_options TEXT NOT NULL,
        number TEXT NOT NULL,
        client TEXT NOT NULL,
        currency TEXT NOT NULL,
        amount TEXT NOT NULL,
        issued TEXT NOT NULL,
        due TEXT NOT NULL,
        days_past_due INTEGER NOT NULL
    )
"""
_INSERT_INVOICE = """
    INSERT INTO invoices VALUES (
        :id, :state, :payment_options, :number, :client, :currency, :amount, :issued, :due,
        :days_past_due
    )
"""
_SELECT_INVOICE = "SELECT * FROM invoices WHERE id = ?"
_SELECT_INVOICES = "SELECT * FROM invoices ORDER BY id DESC"
_UPDATE_INVOICE = "UPDATE invoices SET state = ?, payment_options = ? WHERE id = ?"

_CREATE_CLIENTS = (
    "CREATE TABLE clients (id INTEGER PRIMARY KEY AUTOINCREMENT, client TEXT NOT NULL)"
)
_INSERT_CLIENT = "INSERT INTO clients VALUES (?, ?)"
_LAST_CLIENT_ID = "UPDATE sqlite_sequence SET seq = ? WHERE name = 'clients'"
_SELECT_CLIENTS = "SELECT id, client FROM clients ORDER BY id DESC"


class SandboxState:
    """An open sandbox database. Calls are served one after another."""

    def __init__(self, connection: aiosqlite.Connection, standing_copy: str | None) -> None:
        """Serve from `connection`, which `open_state` has prepared and closes."""
        self._connection = connection
        self._standing_copy = standing_copy
        self._turn = asyncio.Lock()

    async def invoice(self, invoice_id: int) -> Invoice:
        """Return an invoice.

        Raises:
            NotFoundError: there is none with this id.
        """
        async with self._transaction():
            return await self._invoice(invoice_id)

    async def invoices(self, account_id: int) -> list[tuple[Invoice, Decimal]]:
        """Return an account's invoices, each with what is due on it, the newest first."""
        async with self._transaction() as connection:
            found = map(_read_invoice, await connection.execute_fetchall(_SELECT_INVOICES))
            return [
                (invoice, due_amount(invoice, await self._paid(invoice.id)))
                for invoice in found
                if owner(invoice.id) == account_id
            ]

    async def clients(self, account_id: int) -> list[Client]:
        """Return an account's clients, the newest first."""
        async with self._transaction() as connection:
            rows = await connection.execute_fetchall(_SELECT_CLIENTS)
        found = (
            msgspec.structs.replace(_CLIENT.decode(row["client"]), id=row["id"]) for row in rows
        )
        return [client for client in found if client.account_id == account_id]

    async def create_client(self, client: Client) -> Client:
        """Add a client, and return it with the id it got."""
        async with self._transaction() as connection:
            inserted = await connection.execute(_INSERT_CLIENT, (None, _json(client)))
        return msgspec.structs.replace(client, id=inserted.lastrowid)

    async def message(self, invoice_id: int, message_id: int) -> Message:
        """Return a message.

        Raises:
            NotFoundError: there is no such invoice, or it has no such message.
        """
        async with self._transaction() as connection:
            invoice = await self._invoice(invoice_id)
            return _linked(await MESSAGES.one(connection, invoice_id, message_id), invoice)

    async def payment(self, invoice_id: int, payment_id: int) -> Payment:
        """Return a payment.

        Raises:
            NotFoundError: there is no such invoice, or it has no such payment.
        """
        async with self._transaction() as connection:
            await self._invoice(invoice_id)
            return await PAYMENTS.one(connection, invoice_id, payment_id)

    async def messages(self, invoice_id: int, window: Window) -> Page[Message]:
        """Return the messages in `window`, newest first.

        Raises:
            NotFoundError: there is no such invoice.
        """
        async with self._transaction() as connection:
            invoice = await self._invoice(invoice_id)
            page = await MESSAGES.page(connection, invoice_id, window)
            return page._replace(items=[_linked(message, invoice) for message in page.items])

    async def payments(self, invoice_id: int, window: Window) -> Page[Payment]:
        """Return the payments in `window`, newest first.

        Raises:
            NotFoundError: there is no such invoice.
        """
        async with self._transaction() as connection:
            await self._invoice(invoice_id)
            return await PAYMENTS.page(connection, invoice_id, window)

    async def create_message(
        self, invoice_id: int, new: NewMessage, *, sender: User, now: str
    ) -> Message:
        """Create a message, with its effect on the invoice: both, or neither.

        Raises:
            NotFoundError: there is no such invoice.
            UnprocessableError: the invoice's state does not allow the message's event.
        """
        async with self._transaction() as connection:
            invoice = after_message(await self._invoice(invoice_id), new)
            await self._update(invoice)
            message = compose(new, sender=sender, now=now, standing_copy=self._standing_copy)
            return _linked(await MESSAGES.insert(connection, invoice_id, message), invoice)

    async def delete_message(self, invoice_id: int, message_id: int) -> None:
        """Delete a message.

        Raises:
            NotFoundError: the invoice has no such message.
        """
        async with self._transaction() as connection:
            await MESSAGES.delete(connection, invoice_id, message_id)

    async def create_payment(
        self, invoice_id: int, new: NewPayment, *, recorder: User, now: str
    ) -> Payment:
        """Create a payment, with its effect on the invoice and the mail of thanks: all, or nothing.

        `send_thank_you` "sends an email only if the invoice will be fully paid after creating
        this payment" (v2 documentation). It goes to whom the invoice was sent last.

        Raises:
            NotFoundError: there is no such invoice.
            UnprocessableError: the invoice's state does not allow it.
        """
        async with self._transaction() as connection:
            invoice = await self._invoice(invoice_id)
            payment = record(new, recorder=recorder, now=now)
            payment = await PAYMENTS.insert(connection, invoice_id, payment)
            invoice = after_payment(invoice, await self._paid(invoice_id))
            await self._update(invoice)
            if invoice.state is InvoiceState.PAID and new.send_thank_you:
                thanks = thank(invoice, await self._sent_last_to(invoice_id))
                message = compose(
                    thanks, sender=recorder, now=now, standing_copy=self._standing_copy
                )
                await MESSAGES.insert(connection, invoice_id, message)
            return payment

    async def delete_payment(self, invoice_id: int, payment_id: int) -> None:
        """Delete a payment, with its effect on the invoice: both, or neither.

        Raises:
            NotFoundError: there is no such invoice, or it has no such payment.
        """
        async with self._transaction() as connection:
            invoice = await self._invoice(invoice_id)
            await PAYMENTS.delete(connection, invoice_id, payment_id)
            await self._update(after_payment_deleted(invoice, await self._paid(invoice_id)))

    async def _invoice(self, invoice_id: int) -> Invoice:
        for row in await self._connection.execute_fetchall(_SELECT_INVOICE, (invoice_id,)):
            return _read_invoice(row)
        raise NotFoundError(f"Invoice {invoice_id} does not exist")

    async def _update(self, invoice: Invoice) -> None:
        await self._connection.execute(
            _UPDATE_INVOICE, (invoice.state, _json(invoice.payment_options), invoice.id)
        )

    async def _paid(self, invoice_id: int) -> Decimal:
        payments = await PAYMENTS.all(self._connection, invoice_id)
        return sum((payment.amount for payment in payments), start=Decimal(0))

    async def _sent_last_to(self, invoice_id: int) -> tuple[Recipient, ...]:
        messages = await MESSAGES.all(self._connection, invoice_id)
        return next((message.recipients for message in messages if message.recipients), ())

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        # One connection has one transaction, so without turns calls would share theirs.
        async with self._turn:
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                await self._connection.commit()
            except BaseException:
                # Also when a cancelled call has left its BEGIN with the database's thread.
                await self._connection.rollback()
                raise


@asynccontextmanager
async def open_state(
    database: str, *, standing_copy: str | None = None
) -> AsyncIterator[SandboxState]:
    """Open a database, and close it at the end; a new or empty one gets the seeds.

    `database` is a file's path, or ":memory:"; `standing_copy` an address that every mail goes to.

    Raises:
        SandboxStateError: it cannot be opened, or is not a sandbox's.
    """
    ready = await asyncio.to_thread(_open, database)
    connection = await aiosqlite.Connection(lambda: ready, iter_chunk_size=64)
    try:
        yield SandboxState(connection, standing_copy)
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
    connection.execute(_CREATE_INVOICES)
    connection.executemany(_INSERT_INVOICE, [_invoice_row(invoice) for invoice in INVOICES])
    connection.execute(_CREATE_CLIENTS)
    connection.executemany(_INSERT_CLIENT, [(client.id, _json(client)) for client in CLIENTS])
    connection.execute(_LAST_CLIENT_ID, (FIRST_NEW_CLIENT_ID - 1,))
    MESSAGES.create(connection, seed_messages(), next_id=FIRST_NEW_MESSAGE_ID)
    PAYMENTS.create(connection, seed_payments(), next_id=FIRST_NEW_PAYMENT_ID)
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def _invoice_row(invoice: Invoice) -> dict[str, Any]:
    row = msgspec.structs.asdict(invoice)
    return row | {
        "payment_options": _json(invoice.payment_options),
        "amount": str(invoice.amount),
    }


def _read_invoice(row: sqlite3.Row) -> Invoice:
    fields: dict[str, Any] = dict(row)
    fields["state"] = InvoiceState(fields["state"])
    fields["amount"] = Decimal(fields["amount"])
    fields["payment_options"] = _PAYMENT_OPTIONS.decode(fields["payment_options"])
    return Invoice(**fields)


def _linked(message: Message, invoice: Invoice) -> Message:
    """Fill in what a message's own text does not know: whether the invoice has payment options."""
    return msgspec.structs.replace(
        message, include_link_to_client_invoice=bool(invoice.payment_options)
    )


_CLIENT = msgspec.json.Decoder(Client)
_PAYMENT_OPTIONS = msgspec.json.Decoder(tuple[str, ...])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
