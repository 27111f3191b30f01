"""The command `shortctl docs`: generates docs/configuration.md from the settings in the code."""

import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from shortcore.runtime.dynamic_settings import EVERY_S
from shortcore.settings import ALL, CONFIG_FILE, DYNAMIC, PREFIX
from shortctl.terminal import fail, print_result

PAGE = Path("docs/configuration.md")

_SERVICES = {
    "WriterSettings": "writer",
    "RelaySettings": "relay",
    "RedirectorSettings": "redirector",
}
_UNITS = {"_ms": "ms", "_s": "s", "_bytes": "bytes", "_length": "", "_rate": "1/s"}
_HEAD = f"""# Configuration

Generated from [`shortcore.settings`](../libs/shortcore/src/shortcore/settings.py) by
`make docs`; edit it there.

A setting comes from, in this order:

1. the environment variable named below;
2. the file that `<variable>_FILE` names (for secrets: its text without the last line break);
3. the TOML or YAML file that `{CONFIG_FILE}` names, under the name in lower case without
   `{PREFIX}`.

An unknown or invalid setting stops the start with one line for each. Variables that Kubernetes
adds for Services beside the pod (`…_SERVICE_HOST`, `…_PORT_…_TCP`) are let pass.

A setting marked **dynamic** may also stand in the YAML file that `{PREFIX}DYNAMIC_FILE` names,
under its name in lower case without `{PREFIX}`. There it goes before all of the above and
takes effect within {EVERY_S:g} s, without a restart. A fault anywhere in that file is logged, a
line each, counted (`shortlinks_config_errors_total`), and changes nothing; what is in force shows
in `shortlinks_config_generation`, which is equal wherever the same content is.

"""


def docs(
    check: Annotated[
        bool, typer.Option("--check", help="Fail if the page is out of date; do not write it.")
    ] = False,
) -> None:
    """Generate docs/configuration.md from the settings in the code."""
    page = configuration()
    if not check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page, "utf-8")
        print_result(f"{PAGE} written")
    elif not PAGE.is_file() or PAGE.read_text("utf-8") != page:
        fail(f"{PAGE} is out of date: run `make docs` and commit it.")


def configuration() -> str:
    """Return the page: one table per group of settings, in the order of the code."""
    services: dict[str, list[str]] = {}
    fields: dict[str, FieldInfo] = {}
    groups: dict[str, list[str]] = {}
    for settings in ALL:
        for name, info in settings.model_fields.items():
            if name not in fields:
                groups.setdefault(_group(settings, name), []).append(name)
                fields[name] = info
            services.setdefault(name, []).append(_SERVICES[settings.__name__])
    parts = [_HEAD]
    for title, names in groups.items():
        parts.append(f"## {title}\n\n")
        parts.append("| variable | type | unit | default | meaning | services |\n")
        parts.append("| --- | --- | --- | --- | --- | --- |\n")
        parts.extend(_row(name, fields[name], services[name]) for name in names)
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def _group(settings: type, name: str) -> str:
    # The docstring of the class that declares the setting.
    owner = next(
        each for each in reversed(settings.__mro__) if name in getattr(each, "__annotations__", {})
    )
    return (owner.__doc__ or owner.__name__).splitlines()[0].rstrip(".")


def _row(name: str, info: FieldInfo, services: list[str]) -> str:
    used = "all" if len(services) == len(ALL) else ", ".join(services)
    cells = (
        f"`{PREFIX}{name.upper()}`",
        _kind(info),
        _unit(name),
        _default(info),
        (info.description or "") + (" (**dynamic**)" if name in DYNAMIC else ""),
        used,
    )
    return f"| {' | '.join(_cell(cell) for cell in cells)} |\n"


def _kind(info: FieldInfo) -> str:
    kind = _type_name(info.annotation)
    bounds = []
    for rule in info.metadata:
        bounds += [
            f"{sign} {getattr(rule, attribute)}"
            for attribute, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
            if getattr(rule, attribute, None) is not None
        ]
        for attribute, sign in (("min_length", "at least"), ("max_length", "at most")):
            if getattr(rule, attribute, None) is not None:
                bounds.append(f"{sign} {getattr(rule, attribute)} characters")
    if "> 0" in bounds and "≥ 0" in bounds:
        bounds.remove("≥ 0")
    return ", ".join((kind, *bounds))


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return _type_name(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(kind))
    if get_origin(kind) in (typing.Union, types.UnionType):
        return _type_name(next(each for each in get_args(kind) if each is not type(None)))
    if get_origin(kind) is frozenset:
        return "words"
    names = {SecretStr: "secret", str: "text", int: "integer", float: "number", bool: "boolean"}
    names[Path] = "path"
    return names[kind]


def _unit(name: str) -> str:
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return unit
    return ""


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "unset"
    if isinstance(value, SecretStr):
        return "secret"
    if value == frozenset():
        return "none"
    if isinstance(value, frozenset):
        return " ".join(f"`{word}`" for word in sorted(value))
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("|", "\\|"))
