"""The `shortctl` command: each group of commands is a module, added here by one line."""

import typer

from shortctl import cache, dev, docs, doctor, keys, links, migrate

app = typer.Typer(
    help="Run, administer and inspect Shortlinks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback of ours is for a bug report: plain text
)


@app.callback()
def main() -> None:
    """Run, administer and inspect Shortlinks."""


app.command("dev")(dev.dev)
app.command("migrate")(migrate.migrate)
app.add_typer(keys.app, name="keys")
app.add_typer(links.app, name="links")
app.add_typer(cache.app, name="cache")
app.command("doctor")(doctor.doctor)
app.command("docs")(docs.docs)
