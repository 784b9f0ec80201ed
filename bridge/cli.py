"""The command `harvest-bridge`. What it starts is written elsewhere."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import msgspec
import typer
from aiohttp import web

from bridge import __version__, credentials_cli, journal_cli
from bridge.identity.book import BookError
from bridge.identity.callers import Way
from bridge.record.store import JournalError
from bridge.resources.invoice_messages import MESSAGE, MESSAGES
from bridge.sandbox.app import SANDBOX_ACCOUNT_ID, SANDBOX_TOKEN, create_sandbox
from bridge.sandbox.errors import SandboxStateError, WrongFaultError
from bridge.sandbox.faults import NewRule, read_rules
from bridge.server import logs
from bridge.server.service import running
from bridge.server.serving import Signals, listening
from bridge.server.tls import UnusableCertificate
from bridge.settings import PREFIX, Settings, WrongSetting, load
from bridge.terminal import fail
from bridge.v1.dialects import Dialect
from bridge.v1.errors import InvalidAnswer
from bridge.v1.wire import V1Request
from bridge.v2.decoding import decode
from bridge.v2.errors import UpstreamFault

LOOPBACK = "127.0.0.1"

app = typer.Typer(
    help="Harvest v1 XML calls, served by the v2 JSON API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.add_typer(credentials_cli.app, name="credentials")
app.command()(journal_cli.journal)


def main() -> None:
    """Run the command."""
    app()


def _run(task: Coroutine[Any, Any, None]) -> None:
    """Run `task` on uvloop where that is installed."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(task)
    except (BookError, JournalError, UnusableCertificate) as error:
        fail(str(error), 2)
    except (OSError, SandboxStateError) as error:
        fail(str(error), 1)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    return new_event_loop


def _setting(name: str) -> Any:  # noqa: ANN401 - typer reads it as the parameter's default
    flag = "--" + name.replace("_", "-")
    return typer.Option(
        None, flag, help=f"{Settings.model_fields[name].description} [{PREFIX}{name.upper()}]"
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"harvest-bridge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: Annotated[
        Path | None,
        typer.Option(help="A TOML file with settings.", envvar=f"{PREFIX}CONFIG"),
    ] = None,
    auth: str | None = _setting("auth"),
    contact: str | None = _setting("contact"),
    account_id: str | None = _setting("account_id"),
    book: str | None = _setting("book"),
    domains: str | None = _setting("domains"),
    subdomain: str | None = _setting("subdomain"),
    trusted_proxies: str | None = _setting("trusted_proxies"),
    upstream: str | None = _setting("upstream"),
    host: str | None = _setting("host"),
    port: str | None = _setting("port"),
    tls_certificate: str | None = _setting("tls_certificate"),
    tls_key: str | None = _setting("tls_key"),
    admin_host: str | None = _setting("admin_host"),
    admin_port: str | None = _setting("admin_port"),
    dialect: str | None = _setting("dialect"),
    sunset: str | None = _setting("sunset"),
    body_limit: str | None = _setting("body_limit"),
    bodies_limit: str | None = _setting("bodies_limit"),
    body_timeout: str | None = _setting("body_timeout"),
    head_timeout: str | None = _setting("head_timeout"),
    idle_timeout: str | None = _setting("idle_timeout"),
    connections: str | None = _setting("connections"),
    calls: str | None = _setting("calls"),
    calls_per_login: str | None = _setting("calls_per_login"),
    calls_per_address: str | None = _setting("calls_per_address"),
    calls_per_account: str | None = _setting("calls_per_account"),
    call_timeout: str | None = _setting("call_timeout"),
    throttle_wait: str | None = _setting("throttle_wait"),
    upstream_calls_per_account: str | None = _setting("upstream_calls_per_account"),
    journal: str | None = _setting("journal"),
    repeat_window: str | None = _setting("repeat_window"),
    stop_timeout: str | None = _setting("stop_timeout"),
    connect_timeout: str | None = _setting("connect_timeout"),
    page_limit: str | None = _setting("page_limit"),
    upstream_body_limit: str | None = _setting("upstream_body_limit"),
    upstream_connections: str | None = _setting("upstream_connections"),
) -> None:
    """Answer legacy calls."""
    flags = {name: value for name, value in locals().items() if name != "config"}
    try:
        settings = load(flags, config)
    except WrongSetting as error:
        fail(str(error), 2)
    logs.configure()
    _run(_serve(settings))


async def _serve(settings: Settings) -> None:
    signals = Signals()
    async with running(settings) as service:
        logs.started("bridge", settings.host, service.port, upstream=settings.upstream)
        logs.started("admin", settings.admin_host, service.admin_port)
        await signals.until_stop(service.reload, service.hurry)


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: a free one.")] = 8081,
    database: Annotated[
        str, typer.Option(help="The SQLite file that keeps what is written.")
    ] = ":memory:",
    throttle: Annotated[
        bool, typer.Option("--throttle", help="Refuse more than 100 calls in 15 seconds.")
    ] = False,
    faults: Annotated[
        Path | None, typer.Option(help="A JSON file: the rules by which calls go wrong.")
    ] = None,
    seed: Annotated[int, typer.Option(help="What rules with a probability depend on.")] = 0,
) -> None:
    """Serve an embedded v2 API to try things on."""
    rules = [] if faults is None else _rules(faults)
    logs.configure()
    application = create_sandbox(database=database, throttle=throttle, faults=rules, seed=seed)
    _run(_sandbox(host, port, application))


def _rules(file: Path) -> list[NewRule]:
    try:
        return read_rules(file.read_bytes())
    except OSError as error:
        fail(f"Cannot read {file}: {error.strerror}", 2)
    except WrongFaultError as error:
        fail(f"{file}: {error}", 2)


async def _sandbox(host: str, port: int, application: web.Application) -> None:
    signals = Signals()
    runner = web.AppRunner(application, access_log=None)
    async with listening(runner, host, port) as taken:
        logs.started("sandbox", host, taken)
        await signals.until_stop()


@app.command()
def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The bridge's; 0: free.")] = 8080,
    sandbox_port: Annotated[
        int, typer.Option(min=0, max=65535, help="The sandbox's; 0: free.")
    ] = 8081,
) -> None:
    """Serve the sandbox and a bridge to it, and print calls to try."""
    logs.configure()
    _run(_demo(port, sandbox_port))


DEMONSTRATION = """\
A bridge to a sandbox is running. Try, in another terminal:

  curl -u any@example.com:{token} {base}/invoice/1420/messages
  curl -u any@example.com:{token} {base}/invoices/1420/messages/409
  curl -u any@example.com:{token} -X DELETE -i {base}/invoice/1420/messages/403

Ctrl-C stops it. Each call's log line follows.
"""


async def _demo(port: int, sandbox_port: int) -> None:
    signals = Signals()
    with TemporaryDirectory() as directory:
        async with listening(
            web.AppRunner(create_sandbox(), access_log=None), LOOPBACK, sandbox_port
        ) as upstream:
            settings = Settings(
                account_id=SANDBOX_ACCOUNT_ID,
                auth=frozenset({Way.TOKEN_AS_PASSWORD, Way.BEARER}),
                contact="demo@example.com",
                upstream=f"http://{LOOPBACK}:{upstream}/v2",
                port=port,
                admin_port=0,
                journal=Path(directory) / "journal.sqlite",
            )
            async with running(settings) as service:
                base = f"http://{LOOPBACK}:{service.port}"
                typer.echo(DEMONSTRATION.format(token=SANDBOX_TOKEN, base=base))
                await signals.until_stop()


@app.command()
def translate(
    invoice_id: Annotated[
        int, typer.Option(min=1, help="The invoice whose messages these are: v2 does not say.")
    ],
    dialect: Annotated[Dialect, typer.Option(help="The dialect to write.")] = Dialect.CLASSIC,
) -> None:
    """Turn a v2 message, or a page of them, on standard input into XML on standard output."""
    call = V1Request(path="", ids={"invoice_id": invoice_id}, dialect=dialect)
    try:
        document = b"".join(_document(sys.stdin.buffer.read(), call))
    except (UpstreamFault, InvalidAnswer) as error:
        fail(str(error), 1)
    sys.stdout.buffer.write(document)
    for note, count in call.notes:
        typer.echo(f"note: {note.code}: {note.subject} ({count})", err=True)


def _document(data: bytes, call: V1Request) -> Sequence[bytes]:
    if MESSAGES.key in decode(data, dict[str, msgspec.Raw]):
        return MESSAGES.document(MESSAGES.translate(data, call).parts, call)
    return (MESSAGE.write(data, call),)
