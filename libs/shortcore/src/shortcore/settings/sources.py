"""Where settings come from: the environment, files of secrets, and a configuration file."""

import os
import re
from pathlib import Path
from typing import Any

from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
    YamlConfigSettingsSource,
)

from shortcore.errors import ConfigurationError

PREFIX = "SHORTLINKS_"
"""The prefix of all environment variables."""

CONFIG_FILE = PREFIX + "CONFIG_FILE"
"""The variable that names a TOML or YAML file of settings."""

# For a Service called shortlinks-writer, Kubernetes sets SHORTLINKS_WRITER_PORT to such an address,
# and that is also the name of a setting.
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://[^/]*:\d+\Z")


class Settings(BaseSettings):
    """The base class of all settings.

    The value of a setting comes from the first of these that has one: an argument of the
    constructor, `SHORTLINKS_<NAME>`, the file named in `SHORTLINKS_<NAME>_FILE`, the file named in
    `SHORTLINKS_CONFIG_FILE`, the default.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, validate_default=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in the order of their precedence."""
        del dotenv_settings, file_secret_settings
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = {
                name: value
                for name, value in env_settings.env_vars.items()
                if not (value is not None and _SERVICE_ADDRESS.match(value))
            }
        sources = [init_settings, env_settings, _SecretFiles(settings_cls)]
        path = os.environ.get(CONFIG_FILE)
        if path:
            sources.append(config_file_source(settings_cls, Path(path)))
        return tuple(sources)


def config_file_source(
    settings: type[BaseSettings], path: Path
) -> TomlConfigSettingsSource | YamlConfigSettingsSource:
    """Return the source that reads a configuration file: YAML by its extension, else TOML."""
    if path.suffix in {".yaml", ".yml"}:
        return YamlConfigSettingsSource(settings, path)
    return TomlConfigSettingsSource(settings, path)


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads each file named in `SHORTLINKS_<NAME>_FILE`, without its last line break."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  # the base class's signature
        variable = f"{PREFIX}{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        if path is None:
            return None, field_name, False
        try:
            return Path(path).read_text("utf-8").rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{variable}: cannot read {path}: {error}") from error

    def __call__(self) -> dict[str, Any]:
        values = {
            name: self.get_field_value(None, name)[0] for name in self.settings_cls.model_fields
        }
        return {name: value for name, value in values.items() if value is not None}
