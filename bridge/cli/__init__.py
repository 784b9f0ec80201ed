"""The command `harvest-bridge`. What one of its commands needs is imported when it is run.

Thus `--help` is quick. Each module here has some of the commands, but `loop` and `terminal`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from bridge import __version__

COMMANDS = {
    "serve": ("serve", "Answer legacy calls."),
    "config": (
        "config",
        "Print the settings that a bridge would serve with, and where each comes from.",
    ),
    "check": ("check", "Look at all that a bridge needs, without serving, and say what to mend."),
    "credentials": ("credentials", "The credential book: which v2 token answers for a v1 login."),
    "journal": ("journal", "List the writes to v2 whose outcome is not known, and settle them."),
    "integrations": ("log", "List who still calls v1; or show one, and write down who it is."),
    "calls": ("log", "List legacy calls, the latest first; or follow them."),
    "show": ("log", "Show all that is known of one legacy call."),
    "export": ("log", "Write legacy calls to standard output, as many as there are."),
    "switch": ("switch", "List who answers whose calls; or have v1 or the bridge answer them."),
    "capture": ("capture", "List what is captured; or capture calls for a while, or no more."),
    "shadow": ("shadow", "Say how v1's answers and the bridge's compare; or have more compared."),
    "brownout": ("brownout", "List when calls are turned away on purpose; begin that, or end it."),
    "sunset": ("brownout", "List from which day on whose calls are 410; or say so."),
    "explain": ("explain", "Say what would be asked of v2 for a legacy call, without a server."),
    "plan": ("plan", "Say what an integration has to call instead, as a list of what to do."),
    "verify": ("verify", "Say whether the bridge answers recorded calls as v1 did."),
    "translate": ("translate", "Turn v2 JSON on standard input into XML on standard output."),
    "sandbox": ("sandbox", "Serve an embedded v2 API to try things on."),
    "demo": ("sandbox", "Serve the sandbox and a bridge to it, and print calls to try."),
}
"""Each with the module that it is in, or that is a group of this name, and its purpose."""


_WrongUse: type[Any] = typer.BadParameter.__mro__[1]
"""Click's `UsageError`, which some versions of typer have a copy of."""


@contextmanager
def _one_line() -> Iterator[None]:
    """Have what is wrong with a command line told as all else is, and not in a box."""
    try:
        yield
    except _WrongUse as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # which is the help, and no error
            raise
        message = " ".join(error.format_message().split())
        typer.echo(f"harvest-bridge: {message}", err=True)
        raise typer.Exit(2) from None


class _Commands(TyperGroup):
    """Knows the commands by name and purpose, and the rest of one when it is run."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - the types are private to typer
        with _one_line():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        with _one_line():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 - the types are private to typer
        name, _, rest = super().resolve_command(ctx, args)
        module, _ = COMMANDS[str(name)]
        group = get_group(import_module(f"bridge.cli.{module}").app)
        return name, group.commands.get(str(name), group), rest


app = typer.Typer(
    cls=_Commands,
    help="Harvest v1 XML calls, served by the v2 JSON API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for _name, (_, _purpose) in COMMANDS.items():
    app.command(_name, help=_purpose, short_help=_purpose)(lambda: None)  # which is not cut


def main() -> None:
    """Run the command."""
    _open_standard_streams()
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal may have fewer characters than a log
        sys.stdout.reconfigure(errors="replace")
    app()


def _open_standard_streams() -> None:
    """Have standard input, output and error lead somewhere, if only to nothing.

    Of a stream that was closed, the next file or socket would get the number: what is meant for the
    log would be written to it, and uvloop ends the process when it closes it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
        setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - for as long as the process lives


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
