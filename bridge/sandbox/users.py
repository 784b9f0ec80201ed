"""Who calls: the user a token belongs to. Which users there are is in seeds.py."""

import msgspec


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a token belongs to: who sends or records what is created with it, in one account."""

    name: str
    email: str
    account_id: int
    may_edit_invoices: bool
