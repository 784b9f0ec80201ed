"""The commands as the program knows them, for pages that show how they are called."""

from collections.abc import Iterable
from importlib import import_module

from typer.core import TyperGroup
from typer.main import get_group

from bridge.cli import COMMANDS


def options_of(name: str, arguments: Iterable[str]) -> set[str]:
    """Return the options of a command, or of the one in its group that `arguments` begin with."""
    group = get_group(import_module(f"bridge.cli.{COMMANDS[name][0]}").app)
    command = group.commands.get(name, group)
    if isinstance(command, TyperGroup):
        command = command.commands[next(iter(arguments))]
    return {option for parameter in command.params for option in parameter.opts}
