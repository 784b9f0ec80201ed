"""`harvest-bridge sandbox`, a v2 API to try things on, and `demo`, which has a bridge to it."""

import shlex
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from aiohttp import web

from bridge.cli.loop import run
from bridge.cli.terminal import Given, fail, failing_at, with_settings
from bridge.identity.callers import Way
from bridge.sandbox.app import SANDBOX_ACCOUNT_ID, SANDBOX_TOKEN, create_sandbox
from bridge.sandbox.errors import SandboxStateError, WrongFaultError
from bridge.sandbox.faults import read_rules
from bridge.sandbox.messages import is_address
from bridge.sandbox.seeds import COMPANIES, USERS, V1_PASSWORDS
from bridge.sandbox.v1.app import create_v1
from bridge.server import logs
from bridge.server.service import running
from bridge.server.serving import Signals, listening
from bridge.settings import LogSettings, Settings

app = typer.Typer(rich_markup_mode=None)

LOOPBACK = "127.0.0.1"


@app.command()
@with_settings("log_format", "log_level")
def sandbox(
    given: Given,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: a free one.")] = 8081,
    v1_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The port of v1 over the same state; 0: a free one."),
    ] = None,
    database: Annotated[
        str, typer.Option(help="The SQLite file that keeps what is written.")
    ] = ":memory:",
    throttle: Annotated[
        bool, typer.Option("--throttle", help="Refuse more than 100 calls in 15 seconds.")
    ] = False,
    standing_copy: Annotated[
        str | None, typer.Option(help="An address that every mail goes to, too.")
    ] = None,
    company_for_admins: Annotated[
        bool, typer.Option("--company-for-admins", help="Show the company to administrators only.")
    ] = False,
    faults: Annotated[
        Path | None,
        typer.Option(help="A JSON file: the rules by which calls go wrong.", readable=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="What rules with a probability depend on.")] = 0,
) -> None:
    """Serve an embedded v2 API to try things on."""
    try:
        rules = [] if faults is None else read_rules(faults.read_bytes())
    except OSError as error:
        fail(f"Cannot read {faults}: {error.strerror}")
    except WrongFaultError as error:
        fail(f"{faults}: {error}")
    if standing_copy is not None and not is_address(standing_copy):
        fail("--standing-copy: must be an address such as archive@example.com")
    _configure_log(given)
    v2 = create_sandbox(
        database=database,
        throttle=throttle,
        standing_copy=standing_copy,
        company_for_admins=company_for_admins,
        faults=rules,
        seed=seed,
    )
    with failing_at(SandboxStateError):
        run(_sandbox(host, port, v2, v1_port, create_v1(v2, throttle=throttle, seed=seed)))


def _configure_log(given: Given) -> None:
    settings = given.load(LogSettings)
    logs.configure(form=settings.log_format, level=settings.log_level)


REHEARSAL = """\
A sandbox of v2 is running, at {url}/v2. It knows:
{users}
A bridge to it, for v1 clients that send such a token as their password:

  harvest-bridge serve --upstream {url}/v2 --account-id {account_id} \\
      --auth token-as-password --contact you@example.com
"""


def _users() -> str:
    may = {True: "may do everything", False: "may see who she is, nothing else"}
    return "".join(
        f"  account {user.account_id}, token {token}: {user.name}, {may[user.may_edit_invoices]}\n"
        for token, user in USERS.items()
    )


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


V1 = """\
Its v1 is at {url}. It knows these hosts, logins and passwords:
{logins}
A bridge before it, that passes all calls through and records who makes them:

  harvest-bridge serve --mode observe --legacy-origin {url} \\
      --upstream {v2}/v2 --contact you@example.com
"""


def _logins() -> str:
    return "".join(
        f"  {COMPANIES[USERS[token].account_id].full_domain}, {USERS[token].email}, {password}\n"
        for token, password in V1_PASSWORDS.items()
    )


async def _sandbox(
    host: str, port: int, v2: web.Application, v1_port: int | None, v1: web.Application
) -> None:
    signals = Signals()
    async with AsyncExitStack() as listeners:

        async def listen(what: web.Application, at: int, name: str) -> int:
            runner = web.AppRunner(what, access_log=None)
            return await listeners.enter_async_context(listening(runner, host, at, name))

        taken = await listen(v2, port, "port")
        v1_taken = None if v1_port is None else await listen(v1, v1_port, "v1_port")
        logs.started("sandbox", host, taken)
        told = {"url": _url(host, taken), "users": _users(), "account_id": SANDBOX_ACCOUNT_ID}
        typer.echo(REHEARSAL.format_map(told))
        if v1_taken is not None:
            of_v1 = {"url": _url(host, v1_taken), "logins": _logins(), "v2": told["url"]}
            typer.echo(V1.format_map(of_v1))
        await signals.until_stop()


@app.command()
@with_settings("log_format", "log_level")
def demo(
    given: Given,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The bridge's; 0: free.")] = 8080,
    sandbox_port: Annotated[int, typer.Option(min=0, max=65535, help="Its v2's; 0: free.")] = 8081,
    admin_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Its admin side's; 0: free.")
    ] = 8090,
) -> None:
    """Serve the sandbox and a bridge to it, and print calls to try."""
    _configure_log(given)
    run(_demo(port, sandbox_port, admin_port))


DEMONSTRATION = """\
A bridge to a sandbox is running. Try, in another terminal:

  curl -u any@example.com:{token} {base}/invoice/1420/messages
  curl -u any@example.com:{token} {base}/invoices/1420/messages/409
  curl -u any@example.com:{token} -X DELETE -i {base}/invoice/1420/messages/403
  curl -u any@example.com:{token} {base}/clients

The dashboard, which shows who calls, is at {admin}/, the sandbox's v2 at {v2}.
As a command, that is

  harvest-bridge integrations --database {database}

Ctrl-C stops it. Each call's log line follows.
"""


async def _demo(port: int, sandbox_port: int, admin_port: int) -> None:
    signals = Signals()
    v2 = web.AppRunner(create_sandbox(), access_log=None)
    with TemporaryDirectory() as directory:
        async with listening(v2, LOOPBACK, sandbox_port, "sandbox_port") as v2_port:
            settings = Settings(
                account_id=SANDBOX_ACCOUNT_ID,
                auth=frozenset({Way.TOKEN_AS_PASSWORD, Way.BEARER}),
                contact="demo@example.com",
                upstream=f"{_url(LOOPBACK, v2_port)}/v2",
                port=port,
                admin_port=admin_port,
                journal=Path(directory) / "journal.sqlite",
                database=str(Path(directory) / "log.sqlite"),
            )
            async with running(settings) as service:
                told = {
                    "token": SANDBOX_TOKEN,
                    "base": _url(LOOPBACK, service.port),
                    "admin": _url(LOOPBACK, service.admin_port),
                    "v2": settings.upstream,
                    "database": shlex.quote(settings.database),
                }
                typer.echo(DEMONSTRATION.format_map(told))
                await signals.until_stop()
