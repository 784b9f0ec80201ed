"""Clients and their projects, which the sandbox's v1 answers and its v2 does not. Pure."""

import msgspec


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """A client of an account's company. `currency` is v1's text: a name and the ISO code."""

    id: int
    account_id: int
    name: str
    currency: str = "United States Dollar - USD"
    currency_symbol: str = "$"
    active: bool = True
    details: str | None = None
    highrise_id: int | None = None
    created_at: str
    updated_at: str


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project for a client, with what is billed by the hour and no budget."""

    id: int
    client_id: int
    name: str
    code: str | None = None
    active: bool = True
    billable: bool = True
    bill_by: str = "Project"
    hourly_rate: str | None = None
    notes: str | None = None
    created_at: str
    updated_at: str
