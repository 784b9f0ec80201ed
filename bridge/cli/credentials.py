"""The commands `harvest-bridge credentials …`: editing, showing and trying the credential book.

What a book may say, and how it is written, is in `bridge.identity.book`.
"""

import asyncio
import re
import sys
import unicodedata
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from bridge.cli.terminal import Given, fail, failing_at, print_table, with_settings
from bridge.identity import book_editing
from bridge.identity.book import BookError, Row, WrongField, read_row, read_rows
from bridge.identity.passwords import PASSWORD_LIMIT, hash_password
from bridge.secret import Secret
from bridge.settings import FileSettings, UpstreamSettings, where

app = typer.Typer(
    help="The credential book: which v2 token answers for a v1 login.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Subdomain = Annotated[
    str | None, typer.Option(help="Whose clients these are: acme for acme.harvestapp.com.")
]
Login = Annotated[str | None, typer.Option(help="What the client logs in with: an e-mail address.")]


def _path(given: Given) -> Path:
    return given.load(FileSettings).book or fail(f"book: must be set {where('book')}")


@app.command()
@with_settings("book")
def add(
    given: Given,
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
    path = _path(given)
    if account_id is not None and not re.fullmatch("[0-9]{1,19}", account_id):
        fail("account_id: must be a positive whole number")
    fields = {
        "subdomain": subdomain,
        "login": login,
        "password": _SOME_HASH,
        "account_id": None if account_id is None else int(account_id),
        "token": token,
        "dialect": dialect,
        "label": label,
    }
    with failing_at(WrongField, BookError):
        # What is wrong with the rest is said before anybody types a password.
        row = read_row({name: value for name, value in fields.items() if value is not None})
        if not replace and path.exists() and row.pair in {each.pair for each in read_rows(path)}:
            fail(f"{path}: {row.login} at {row.subdomain} is in it already; --replace replaces it")
        password_hash = Secret(hash_password(_password()))
        row = msgspec.structs.replace(row, password_hash=password_hash)
        replaced = book_editing.add(path, row, replace=replace)
    typer.echo(f"{'Replaced' if replaced else 'Added'} {row.login} at {row.subdomain}.")


_SOME_HASH = "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA"
"""Nobody's, and never written."""


def _password() -> Secret:
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt="Once more")
    else:
        try:
            password = sys.stdin.buffer.readline().decode("utf-8")
        except UnicodeDecodeError:
            fail("the password on standard input is not UTF-8")
        password = password.removesuffix("\n").removesuffix("\r")
    if not password:
        fail("the password must not be empty")
    if len(password) > PASSWORD_LIMIT:
        fail(f"the password must have at most {PASSWORD_LIMIT} characters")
    if any(unicodedata.category(character) == "Cc" for character in password):
        fail("the password must have no control characters: Basic cannot carry them (RFC 7617)")
    return Secret(password)


@app.command("list")
@with_settings("book")
def show(given: Given) -> None:
    """List the credentials, in the book's order; no password and no token is shown."""
    with failing_at(BookError):
        rows = read_rows(_path(given))
    print_table(
        ("subdomain", "login", "account", "token", "dialect", "label"),
        ((*_facts(row), row.dialect or "", row.label or "") for row in rows),
    )


def _facts(row: Row) -> tuple[str, str, str, str]:
    return row.subdomain, row.login, str(row.account_id), str(row.reference)


@app.command()
@with_settings("book")
def remove(given: Given, subdomain: Subdomain = None, login: Login = None) -> None:
    """Take a credential out of the book."""
    path = _path(given)
    if subdomain is None or login is None:
        fail(f"{'login' if subdomain else 'subdomain'}: must be given")
    with failing_at(BookError):
        book_editing.remove(path, subdomain, login)
    typer.echo(f"Removed {login} at {subdomain}.")


@app.command()
@with_settings("book", "upstream", "contact")
def check(given: Given) -> None:
    """Try every credential's token on v2, and say which ones work.

    The exit status is 1 unless all of them do.
    """
    path, v2 = _path(given), given.load(UpstreamSettings)
    with failing_at(BookError):
        rows = read_rows(path)
    from bridge.checking.upstream import try_all  # noqa: PLC0415 - large
    from bridge.server.admin.health import OK  # noqa: PLC0415

    results = asyncio.run(try_all(rows, v2.upstream_client()))
    print_table(
        ("subdomain", "login", "account", "token", "result"),
        ((*_facts(row), result) for row, result in zip(rows, results, strict=True)),
    )
    if set(results) - {OK}:
        raise typer.Exit(1)
