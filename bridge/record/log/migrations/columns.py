"""Columns as the tables of the translation log have them, for revisions to make tables of."""

import sqlalchemy as sa

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite's key of a row is so called."""


def texts(*names: str) -> list[sa.Column[str]]:
    """Return columns of texts that need not be known."""
    return [sa.Column(name, sa.Text) for name in names]


def needed(*names: str) -> list[sa.Column[str]]:
    """Return columns of texts."""
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def key_texts(*names: str) -> list[sa.Column[str]]:
    """Return columns of texts that are part of the key."""
    return [sa.Column(name, sa.Text, primary_key=True) for name in names]


def key(name: str) -> list[sa.Column[int]]:
    """Return the column of a number that is part of the key."""
    return [sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False)]


def counts(*names: str) -> list[sa.Column[int]]:
    """Return columns of numbers."""
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]
