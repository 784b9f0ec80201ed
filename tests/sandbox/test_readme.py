"""bridge/sandbox/README.md is true: its calls give its answers, its tables are the code's."""

import errno
import inspect
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

import bridge.sandbox
from bridge.sandbox.calls import MOST_KEPT
from bridge.sandbox.faults import FAULTS, Fault, Matching
from bridge.sandbox.invoices import due_amount
from bridge.sandbox.seeds import (
    COMPANIES,
    INVOICES,
    OTHER_OWNERS,
    SANDBOX_ACCOUNT_ID,
    USERS,
    V1_PASSWORDS,
    seed_messages,
    seed_payments,
)
from bridge.sandbox.v1.faults import V1_FAULTS
from bridge.sandbox.v1.planting import MOST_KEPT as MOST_DIFFERENCES_KEPT
from tests.sandbox.conftest import Client, Start

README = (Path(bridge.sandbox.__file__).parent / "README.md").read_text()
CURL_SAYS: Mapping[int | None, str] = {
    errno.ECONNRESET: "curl: (56) Recv failure: Connection reset by peer"
}
TRANSCRIPTS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)


async def told(clients: Mapping[int | None, Client], command: str) -> str:
    """Make the call that a line of `curl` would, and return what curl would print.

    `clients` are those of the ports that are printed.
    """
    arguments = shlex.split(command)
    assert arguments.pop(0) == "curl"
    method, data, headers = "GET", None, {"Authorization": "", "Harvest-Account-Id": ""}
    while len(arguments) > 1:
        match arguments.pop(0):
            case "-sS":
                pass
            case "-X":
                method = arguments.pop(0)
            case "-d":
                method, data = "POST", arguments.pop(0).encode()
            case "-H":
                name, _, value = arguments.pop(0).partition(": ")
                headers[name] = value
            case "-u":
                headers["Authorization"] = aiohttp.encode_basic_auth(*arguments.pop(0).split(":"))
            case other:
                raise AssertionError(other)
    url = URL(arguments[0])
    assert url.host == "127.0.0.1"
    try:
        async with clients[url.port].request(
            method, url.path, data=data, headers=headers
        ) as answer:
            return await answer.text()
    except aiohttp.ClientOSError as error:
        return CURL_SAYS[error.errno]


@pytest.mark.parametrize("transcript", TRANSCRIPTS)
async def test_calls_give_the_answers_that_are_printed(
    client: Client, v1_of: Start, transcript: str
) -> None:
    clients: dict[int | None, Client] = {8081: client, 8082: await v1_of(client)}
    said = ""
    for line in transcript.splitlines():
        if line.startswith("$ "):
            answer = (await told(clients, line.removeprefix("$ "))).rstrip()
            said += f"{line}\n{answer}\n" if answer else f"{line}\n"
    assert said == transcript


def rows(*headings: str) -> list[list[str]]:
    """Return the cells of the table with these column headings."""
    lines = README.splitlines()
    table = []
    for line in lines[lines.index(f"| {' | '.join(headings)} |") + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def parameter(field: msgspec.structs.FieldInfo) -> str:
    """How the table writes a parameter and its default."""
    if field.required:
        return f"`{field.name}`"
    default = "–" if field.default is None else f"`{msgspec.json.encode(field.default).decode()}`"
    return f"`{field.name}` = {default}"


def told_of(name: str, kind: type[Fault]) -> list[str]:
    """How the table tells of a fault."""
    return [
        f"`{name}`",
        ", ".join(map(parameter, msgspec.structs.fields(kind))) or "–",
        " ".join((inspect.getdoc(kind) or "").split()),
    ]


def test_the_table_of_faults() -> None:
    assert rows("fault", "parameters", "what happens") == [
        told_of(name, kind) for name, kind in FAULTS.items()
    ]


def test_the_table_of_v1s_faults() -> None:
    shared, *own = rows("v1's fault", "parameters", "what happens")
    as_of_v2 = [name for name, kind in V1_FAULTS.items() if FAULTS.get(name) is kind]
    assert shared[0] == ", ".join(f"`{name}`" for name in as_of_v2)
    assert own == [told_of(name, V1_FAULTS[name]) for name in V1_FAULTS if name not in as_of_v2]


def test_the_table_of_what_a_rule_is_for() -> None:
    absent = {None: {"any", "unlimited"}}
    table = rows("member", "default", "meaning")
    assert [name for name, _, _ in table] == [f"`{name}`" for name in Matching.__struct_fields__]
    for field, (_, default, _) in zip(msgspec.structs.fields(Matching), table, strict=True):
        allowed: Any = absent.get(field.default, {f"`{field.default}`"})
        assert default in allowed


def test_the_tables_of_what_is_in_it() -> None:
    assert [tuple(row[:3]) for row in rows("account", "token", "user", "may")] == [
        (str(user.account_id), f"`{token}`", user.name) for token, user in USERS.items()
    ]
    assert rows("host", "login", "password") == [
        [f"`{COMPANIES[user.account_id].full_domain}`", f"`{user.email}`", f"`{password}`"]
        for user, password in ((USERS[token], password) for token, password in V1_PASSWORDS.items())
    ]
    messages = Counter(seed.invoice_id for seed in seed_messages())
    payments = Counter(seed.invoice_id for seed in seed_payments())
    table = rows("invoice", "account", "state", "amount", "messages", "payments")
    assert [
        (int(number), int(account), state, amount, count(messages), count(payments))
        for number, account, state, amount, messages, payments in table
    ] == [
        (
            invoice.id,
            OTHER_OWNERS.get(invoice.id, SANDBOX_ACCOUNT_ID),
            invoice.state,
            f"{invoice.amount:,}",
            messages[invoice.id],
            payments[invoice.id],
        )
        for invoice in INVOICES
    ]


def count(cell: str) -> int:
    """The number that a cell begins with."""
    return int(re.split(r"[,:]? ", cell)[0].replace(",", ""))


def test_what_is_due_on_invoices_with_payments() -> None:
    paid: defaultdict[int, Decimal] = defaultdict(Decimal)
    for seed in seed_payments():
        paid[seed.invoice_id] += seed.payment.amount
    due = {
        int(row[0]): said[1]
        for row in rows("invoice", "account", "state", "amount", "messages", "payments")
        if (said := re.search(r"([\d,.]+) is due", row[5]))
    }
    assert due == {
        invoice.id: f"{due_amount(invoice, paid[invoice.id]):,.2f}"
        for invoice in INVOICES
        if invoice.id in paid
    }


def test_how_many_calls_are_kept() -> None:
    assert f"the last {MOST_KEPT:,}" in README
    assert f"the last {MOST_DIFFERENCES_KEPT:,}" in README
