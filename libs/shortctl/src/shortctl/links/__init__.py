"""The commands `shortctl links`, which use the API."""

import typer

from shortctl.links import crud
from shortctl.links.exporting import export
from shortctl.links.importing.command import import_
from shortctl.links.listing import list_

app = typer.Typer(
    help="Create, show, list, edit, delete, import and export links.", no_args_is_help=True
)
app.command("create")(crud.create)
app.command("get")(crud.get)
app.command("list")(list_)
app.command("put")(crud.put)
app.command("edit")(crud.edit)
app.command("delete")(crud.delete)
app.command("restore")(crud.restore)
app.command("import")(import_)
app.command("export")(export)
