"""The `shortctl` command: each group of commands is a module, added here by one line."""

import typer

from shortctl import dev

app = typer.Typer(
    help="Run, administer and inspect Shortlinks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback of ours is for a bug report: plain text
)


@app.callback()
def main() -> None:
    """Run, administer and inspect Shortlinks."""


app.command("dev")(dev.dev)
