"""A password may be separate from its URL, in its own file, and contain any character."""

from pathlib import Path

import asyncpg.connect_utils
import pytest

from shortcore.settings.loader import load
from shortcore.settings.storage import PostgresSettings, RedisSettings
from shortcore.storage.redis import open_redis

HOSTILE = "p@ss/w:rd?#[]% ü'\"\\"


@pytest.fixture
def password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "password"
    file.write_text(HOSTILE + "\n", "utf-8")
    monkeypatch.setenv("SHORTLINKS_POSTGRES_PASSWORD_FILE", str(file))
    monkeypatch.setenv("SHORTLINKS_REDIS_PASSWORD_FILE", str(file))
    monkeypatch.setenv("SHORTLINKS_POSTGRES_URL", "postgresql://app@db:5432/links?sslmode=disable")
    monkeypatch.setenv("SHORTLINKS_REDIS_URL", "redis://cache:6379/0")
    return file


def read_by_asyncpg(url: str) -> tuple[object, ...]:
    addresses, given = asyncpg.connect_utils._parse_connect_dsn_and_args(
        dsn=url,
        host=None,
        port=None,
        user=None,
        password=None,
        passfile=None,
        database=None,
        ssl=None,
        service=None,
        servicefile=None,
        direct_tls=None,
        server_settings=None,
        target_session_attrs=None,
        krbsrvname=None,
        gsslib=None,
    )
    return addresses, given.user, given.password, given.database


@pytest.mark.usefixtures("password")
def test_a_password_from_a_file_reaches_postgres_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTLINKS_POSTGRES_READ_URL", "postgresql://app@replica/links")
    settings = load(PostgresSettings)
    url = settings.postgres_url.get_secret_value()
    assert read_by_asyncpg(url) == ([("db", 5432)], "app", HOSTILE, "links")
    assert url.endswith("?sslmode=disable")
    assert settings.postgres_read_url is not None
    replica = settings.postgres_read_url.get_secret_value()
    assert read_by_asyncpg(replica) == ([("replica", 5432)], "app", HOSTILE, "links")


@pytest.mark.usefixtures("password")
@pytest.mark.parametrize(
    ("url", "user"),
    [("redis://cache:6379/0", None), ("redis://app@cache:6379/0", "app")],
)
def test_a_password_from_a_file_reaches_redis_unchanged(
    monkeypatch: pytest.MonkeyPatch, url: str, user: str | None
) -> None:
    monkeypatch.setenv("SHORTLINKS_REDIS_URL", url)
    given = load(RedisSettings).redis_url.get_secret_value()
    client = open_redis(given, timeout_ms=50, pool_size=1, application="test")
    kwargs = client.get_connection_kwargs()
    assert (kwargs["username"], kwargs["password"]) == (user, HOSTILE)


@pytest.mark.usefixtures("password")
def test_the_addresses_of_sentinels_are_preserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTLINKS_REDIS_URL", "redis+sentinel://a:1,b:2/links/3")
    url = load(RedisSettings).redis_url.get_secret_value()
    assert url.endswith("@a:1,b:2/links/3")


@pytest.mark.usefixtures("password")
def test_a_password_in_the_url_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTLINKS_POSTGRES_URL", "postgresql://app:own@db/links")
    assert load(PostgresSettings).postgres_url.get_secret_value() == "postgresql://app:own@db/links"


@pytest.mark.usefixtures("password")
def test_the_representation_of_settings_shows_no_password(password: Path) -> None:
    assert HOSTILE not in repr(load(PostgresSettings))
    assert password.read_text("utf-8").strip() not in repr(load(RedisSettings))
