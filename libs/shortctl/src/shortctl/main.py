"""The `shortctl` command: a table of commands, each imported only when it is run."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "dev": "shortctl.dev.command:dev",
    "migrate": "shortctl.admin.migrate:migrate",
    "keys": "shortctl.admin.keys:app",
    "links": "shortctl.links:app",
    "stats": "shortctl.stats.command:stats",
    "cache": "shortctl.admin.cache:app",
    "clicks": "shortctl.admin.clicks:app",
    "doctor": "shortctl.admin.doctor:doctor",
    "docs": "shortctl.docs:docs",
}


class _Commands(TyperGroup):
    """Imports the module of a command when the command is run, and with it only its libraries."""

    # Typer does not export the types of these arguments.
    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command `cmd_name`, or None if it does not exist."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(module), name)
        group = typer.Typer()
        if isinstance(found, typer.Typer):
            group.add_typer(found, name=cmd_name)
        else:
            group.command(cmd_name)(found)
        return typer.main.get_group(group).commands[cmd_name]


app = typer.Typer(
    cls=_Commands,
    help="Run, administer and inspect Shortlinks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # plain tracebacks, for bug reports
)


@app.callback()
def main() -> None:
    """Run, administer and inspect Shortlinks."""
