"""Loads the settings of a service, and reports all invalid settings at once."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from shortcore.errors import ConfigurationError
from shortcore.settings.catalog import ALL
from shortcore.settings.sources import CONFIG_FILE, PREFIX, Settings, config_file_source

# Kubernetes sets variables with the addresses of all Services of the namespace in every container.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT(_\d+_(TCP|UDP)(_|$)|$)")

S = TypeVar("S", bound=Settings)


def load(kind: type[S], environ: Mapping[str, str] | None = None, **given: Any) -> S:
    """Load the settings of one service; `given` settings take precedence over all sources.

    Raises ConfigurationError, whose text has one line for each unknown or invalid setting.
    """
    environ = os.environ if environ is None else environ
    faults = _unknown(environ)
    try:
        settings = kind(**given)
    except ValidationError as error:
        faults += [_line(dict(fault)) for fault in error.errors(include_url=False)]
    except (OSError, ValueError) as error:
        faults.append(f"{environ.get(CONFIG_FILE)}: {error}")
    else:
        if not faults:
            return settings
    raise ConfigurationError("\n".join(faults))


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = {name for settings in ALL for name in settings.model_fields}
    faults = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == CONFIG_FILE:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in known or name.removesuffix("_file") in known or _SERVICE_LINK.search(variable):
            continue
        faults.append(f"{variable}: unknown setting; see docs/configuration.md")
    path = environ.get(CONFIG_FILE)
    if path:
        faults += [
            f"{path}: {name}: unknown setting; see docs/configuration.md"
            for name in sorted(_config_names(Path(path)) - known)
        ]
    return faults


def _config_names(path: Path) -> set[str]:
    if not path.is_file():
        raise ConfigurationError(f"{CONFIG_FILE}: the file {path} does not exist")
    try:
        return set(config_file_source(Settings, path)())
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())}") from error


def _line(fault: Mapping[str, Any]) -> str:
    name = PREFIX + "_".join(str(part) for part in fault["loc"]).upper()
    if fault["type"] == "missing":
        return f"{name}: required; set {name} or {name}_FILE"
    return f"{name}: {fault['msg'].removeprefix('Value error, ')}"
