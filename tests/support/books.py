"""Credential books for tests, with hashes that cost next to nothing."""

from pathlib import Path

from bridge.identity.book import Cost, read_row
from bridge.identity.book_editing import add
from bridge.identity.passwords import hash_password
from bridge.secret import Secret

CHEAP = Cost(memory=8, passes=1, lanes=1, salt_length=16, tag_length=16)


def write_token(directory: Path, name: str, token: str) -> str:
    """Keep `token` in a file that only its owner may read, and return the reference to it."""
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(f"{token}\n")
    return f"file:{path}"


def enter(
    book: Path, subdomain: str, login: str, password: str, account_id: int, token: str, **more: str
) -> None:
    """Put a credential in the book; `token` is the reference, `more` what is optional."""
    row = read_row(
        {
            "subdomain": subdomain,
            "login": login,
            "password": hash_password(Secret(password), CHEAP),
            "account_id": account_id,
            "token": token,
            **more,
        }
    )
    add(book, row, replace=True)
