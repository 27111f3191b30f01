"""Lists the settings of all services, and those that can change without a restart."""

from shortcore.settings.redirector import RedirectorSettings
from shortcore.settings.relay import RelaySettings
from shortcore.settings.sources import Settings
from shortcore.settings.worker import WorkerSettings
from shortcore.settings.writer import WriterSettings

ALL: tuple[type[Settings], ...] = (
    WriterSettings,
    RelaySettings,
    WorkerSettings,
    RedirectorSettings,
)
"""The settings of each service. A service ignores the settings of the others, but no unknown ones."""

DYNAMIC = frozenset(
    {
        "cache_ttl_s",
        "default_redirect_status",
        "l1_negative_ttl_s",
        "l1_ttl_s",
        "log_level",
        "reserved_codes",
    }
)
"""The settings that the dynamic file may contain. They take precedence over all other sources."""
