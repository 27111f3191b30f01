"""PostgreSQL and Valkey servers from wheels, as child processes, for development and tests."""

from shortctl.embedded.account import Account
from shortctl.embedded.child import Child, ServerError, stop_all
from shortctl.embedded.postgres import EmbeddedPostgres
from shortctl.embedded.valkey import EmbeddedValkey

__all__ = ["Account", "Child", "EmbeddedPostgres", "EmbeddedValkey", "ServerError", "stop_all"]
