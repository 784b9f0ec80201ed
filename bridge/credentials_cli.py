"""The commands `harvest-bridge credentials …`: editing, showing and trying the credential book.

What a book may say, and how it is written, is in `bridge.identity.book`.
"""

import asyncio
import getpass
import os
import re
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from bridge.identity import book, book_editing
from bridge.identity.book import BookError, Entry, Row, TokenReference, WrongField
from bridge.identity.passwords import hash_password
from bridge.secret import Secret
from bridge.settings import PREFIX, WrongSetting, load_upstream
from bridge.terminal import fail, print_table
from bridge.v2.client import Upstream, V2Client
from bridge.v2.errors import UpstreamError, UpstreamFault
from bridge.v2.wire import V2Request, V2Response

app = typer.Typer(
    help="The credential book: which v2 token and account answer for a v1 login.",
    no_args_is_help=True,
)

BookFile = Annotated[
    Path | None,
    typer.Option("--book", help="The credential book, a TOML file.", envvar=f"{PREFIX}BOOK"),
]
Subdomain = Annotated[
    str | None, typer.Option(help="Whose clients these are: acme for acme.harvestapp.com.")
]
Login = Annotated[str | None, typer.Option(help="What the client logs in with: an e-mail address.")]


def _fail_at(field: str, message: str) -> NoReturn:
    fail(f"--{field.replace('_', '-')}: {message}")


def _path(book_file: Path | None) -> Path:
    return book_file or _fail_at("book", f"must be given, or be in {PREFIX}BOOK")


@app.command()
def add(  # noqa: PLR0913, PLR0917 - one parameter a flag
    book_file: BookFile = None,
    subdomain: Subdomain = None,
    login: Login = None,
    account_id: Annotated[str | None, typer.Option(help="The Harvest account's id.")] = None,
    token: Annotated[
        str | None, typer.Option(help="Where the v2 token is: env:NAME or file:/absolute/path.")
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(help="The dialect to answer in, whatever the path says.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="What this is for, in your words.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the credential of this login.")
    ] = False,
) -> None:
    """Write a credential into the book; makes a book that does not exist.

    The password is asked for twice. Where standard input is no terminal, its first line is the
    password.
    """
    path = _path(book_file)
    given = {
        "subdomain": subdomain,
        "login": login,
        "account_id": _number(account_id),
        "token": token,
        "dialect": dialect,
        "label": label,
    }
    # What is wrong with the rest is said before anybody types a password.
    row = _row(given, _SOME_HASH)
    try:
        if not replace and path.exists() and row.pair in {each.pair for each in _rows(path)}:
            fail(f"{path}: {row.login} at {row.subdomain} is in it already; --replace replaces it")
        row = _row(given, hash_password(_password()))
        replaced = book_editing.add(path, row, replace=replace)
    except BookError as error:
        fail(str(error))
    typer.echo(f"{'Replaced' if replaced else 'Added'} {row.login} at {row.subdomain}.")


_SOME_HASH = "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA"
"""Nobody's, and never written."""


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,19}", text):
        _fail_at("account_id", "must be a positive whole number")
    return int(text)


def _row(given: Mapping[str, object], password_hash: str) -> Row:
    fields = {name: value for name, value in given.items() if value is not None}
    try:
        return book.read_row({**fields, "password": password_hash})
    except WrongField as error:
        _fail_at(error.name, error.message)


def _rows(path: Path) -> tuple[Row, ...]:
    try:
        return book.read_rows(path)
    except BookError as error:
        fail(str(error))


def _password() -> Secret:
    password = _typed_password() if sys.stdin.isatty() else _piped_password()
    if not password:
        fail("the password must not be empty")
    if any(unicodedata.category(character) == "Cc" for character in password):
        fail("the password must have no control characters: Basic cannot carry them (RFC 7617)")
    return Secret(password)


def _typed_password() -> str:
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Once more: ")
    except EOFError:
        fail("no password was typed")
    if password != again:
        fail("the two passwords are not the same")
    return password


def _piped_password() -> str:
    try:
        line = sys.stdin.buffer.readline().decode("utf-8")
    except UnicodeDecodeError:
        fail("the password on standard input is not UTF-8")
    return line.removesuffix("\n").removesuffix("\r")


@app.command("list")
def show(book_file: BookFile = None) -> None:
    """List the credentials, in the book's order; no password and no token is shown."""
    print_table(
        ("subdomain", "login", "account", "token", "dialect", "label"),
        (
            (
                row.subdomain,
                row.login,
                str(row.account_id),
                str(row.reference),
                row.dialect or "",
                row.label or "",
            )
            for row in _rows(_path(book_file))
        ),
    )


@app.command()
def remove(book_file: BookFile = None, subdomain: Subdomain = None, login: Login = None) -> None:
    """Take a credential out of the book."""
    path = _path(book_file)
    if subdomain is None or login is None:
        _fail_at("subdomain" if subdomain is None else "login", "must be given")
    try:
        book_editing.remove(path, subdomain, login)
    except BookError as error:
        fail(str(error))
    typer.echo(f"Removed {login} at {subdomain}.")


@app.command()
def check(
    book_file: BookFile = None,
    upstream: Annotated[
        str | None, typer.Option(help=f"The base URL of v2. [{PREFIX}UPSTREAM]")
    ] = None,
    contact: Annotated[
        str | None, typer.Option(help=f"Whom Harvest may ask about this. [{PREFIX}CONTACT]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="The bridge's TOML file with settings.", envvar=f"{PREFIX}CONFIG"),
    ] = None,
) -> None:
    """Try every credential's token on v2, and say which ones work.

    The exit status is 1 unless all of them do.
    """
    path = _path(book_file)
    try:
        v2 = load_upstream({"contact": contact, "upstream": upstream}, config)
        entries = book.load(path, os.environ).entries
    except (WrongSetting, BookError) as error:
        fail(str(error))
    outcomes = asyncio.run(_try_all(entries, v2.upstream_client()))
    print_table(
        ("subdomain", "login", "account", "token", "result"),
        (
            (entry.subdomain, entry.login, str(entry.account_id), str(entry.reference), outcome)
            for entry, outcome in zip(entries, outcomes, strict=True)
        ),
    )
    if set(outcomes) - {OK}:
        raise typer.Exit(1)


TRIAL = V2Request("GET", "/invoices", "per_page=1")
"""The call that tries a token: v2's list of invoices, cut to one.

It asks for the permission that a message's calls ask for (v2 documentation, "Required
permissions"), needs no id, and for a token that may make it has one answer, 200. An upstream that
serves nothing but messages, as the sandbox does, says 404 to it, and that after it has judged the
token; it counts if it is JSON, as v2's own is, since a wrong base URL gets 404 as well.
"""

AT_ONCE = 8
"""Trials; v2 takes 100 calls in 15 seconds."""

PATIENCE = 15.0
"""Seconds for one trial."""

OK = "ok"
NOT_V2 = "no answer of v2's"
RESULTS: Mapping[int, str] = {
    401: "refused (401)",
    403: "no permission for invoices (403)",
    429: "throttled (429), try later",
}
"""What a status says of a token; 200 and 404 depend on the body."""


async def _try_all(entries: tuple[Entry, ...], upstream: Upstream) -> list[str]:
    """Return what came of each entry's token; one that several share is tried once an account."""
    pairs = {(entry.account_id, entry.reference): entry.token for entry in entries}
    results: dict[tuple[int, TokenReference], str] = {}
    turns = asyncio.Semaphore(AT_ONCE)
    client = V2Client(upstream)

    async def try_one(pair: tuple[int, TokenReference], token: Secret) -> None:
        async with turns:
            results[pair] = await _result(client, pair[0], token)

    try:
        async with asyncio.TaskGroup() as tasks:
            for pair, token in pairs.items():
                tasks.create_task(try_one(pair, token))
    finally:
        await client.close()
    return [results[entry.account_id, entry.reference] for entry in entries]


async def _result(client: V2Client, account_id: int, token: Secret) -> str:
    try:
        response = await client.send(TRIAL, account_id=account_id, token=token, seconds=PATIENCE)
    except UpstreamFault:
        return NOT_V2
    except UpstreamError as error:
        return f"unreachable ({error})"
    if response.status in {200, 404}:
        return OK if _is_v2s(response) else NOT_V2
    return RESULTS.get(response.status, f"failed ({response.status})")


def _is_v2s(response: V2Response) -> bool:
    try:
        members = msgspec.json.decode(response.body, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return False
    return response.status == 404 or "invoices" in members
