"""`shortctl links`: create, look at, change, import and export links through the API."""

import typer

from shortctl.links import many, one

app = typer.Typer(help="Create, look at, change, import and export links.", no_args_is_help=True)
app.command("create")(one.create)
app.command("get")(one.get)
app.command("list")(many.list_)
app.command("edit")(one.edit)
app.command("delete")(one.delete)
app.command("restore")(one.restore)
app.command("import")(many.import_)
app.command("export")(many.export)
