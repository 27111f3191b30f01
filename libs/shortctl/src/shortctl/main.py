"""The `shortctl` command: each command, or group of them, is a module, named here by one line."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "dev": "shortctl.dev.stack:dev",
    "migrate": "shortctl.admin.migrate:migrate",
    "keys": "shortctl.admin.keys:app",
    "links": "shortctl.links:app",
    "cache": "shortctl.admin.cache:app",
    "doctor": "shortctl.admin.doctor:doctor",
    "docs": "shortctl.docs:docs",
}


class _Commands(TyperGroup):
    """Imports a command when it is asked for: each loads its own libraries, and no others."""

    # Typer keeps the types of these arguments and answers to itself.
    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, as the help shows them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command `cmd_name`, or None when there is none."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(module), name)
        alone = typer.Typer()
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=cmd_name)
        else:
            alone.command(cmd_name)(found)
        return typer.main.get_group(alone).commands[cmd_name]


app = typer.Typer(
    cls=_Commands,
    help="Run, administer and inspect Shortlinks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback of ours is for a bug report: plain text
)


@app.callback()
def main() -> None:
    """Run, administer and inspect Shortlinks."""
