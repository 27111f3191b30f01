"""Fixtures for the whole repository: real servers a worker, a fresh database a test.

`SHORTLINKS_TEST_SERVERS=embedded|docker` forces the kind of servers, and
`SHORTLINKS_TEST_SEED=N` repeats a run's random choices.
"""

import os
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from harness import servers
from harness.databases import Databases
from harness.stack import Stack

SERVERS = "SHORTLINKS_TEST_SERVERS"
SEED = "SHORTLINKS_TEST_SEED"


pytest_plugins = ["harness.ledger"]
chosen = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    # A worker of xdist gets the choices of the process that controls it. They leave the
    # environment, as services under test refuse a SHORTLINKS_ variable that is no setting.
    config.stash[chosen] = getattr(config, "workerinput", {}).get("chosen") or {
        SERVERS: servers.choose(os.environ.pop(SERVERS, None)),
        SEED: os.environ.pop(SEED, None) or str(random.SystemRandom().randrange(2**32)),
    }
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = config.stash[chosen][SEED]
    hypothesis.settings.register_profile(
        "shortlinks", deadline=None, print_blob=True, derandomize=False
    )
    hypothesis.settings.load_profile("shortlinks")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["chosen"] = node.config.stash[chosen]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs its own time or machinery by its folder: `make test` leaves it out."""
    marks = {"faults": "fault", "consistency": "fault", "images": "images", "cluster": "cluster"}
    for item in items:
        folder = item.path.relative_to(config.rootpath).parts
        if folder[0] == "tests" and folder[1] in marks:
            item.add_marker(marks[folder[1]])


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run where xdist has not seen its groups: they keep tests of one thing apart."""
    if not hasattr(session.config, "workerinput") or not session.config.getvalue("loadgroup"):
        return
    for item in session.items:
        if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} is in a group, but xdist does not see it")


def pytest_report_header(config: pytest.Config) -> list[str]:
    # xdist shows the header of the process that controls the workers, and only that.
    return [f"{name}={value}" for name, value in config.stash[chosen].items()]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        report.sections.append(("repeat with", f"{SEED}={item.config.stash[chosen][SEED]}"))
    return report


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Random choices of a test depend on the session's seed and the test's name alone."""
    random.seed(f"{request.config.stash[chosen][SEED]}:{request.node.nodeid}")


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """A PostgreSQL, one a worker; `.url` is a superuser's. Never stop or pause this one."""
    with servers.postgres(request.config.stash[chosen][SERVERS]) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """A Valkey, one a worker. Never stop or pause this one."""
    with servers.valkey(request.config.stash[chosen][SERVERS]) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres_server: servers.Server) -> Iterator[Databases]:
    from writer.migrations import upgrade  # noqa: PLC0415  # tests without a database need none

    made = Databases(postgres_server.url, upgrade)
    yield made
    made.close()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """The URL of a migrated, empty database that is this test's alone."""
    with databases.fresh() as url:
        yield url


@pytest.fixture
def blank_database_url(databases: Databases) -> Iterator[str]:
    """The URL of a database without any schema, for tests of migrations."""
    with databases.fresh(migrated=False) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: servers.Server) -> str:
    """The URL of a Valkey that this test finds empty."""
    servers.flush(redis_server.url)
    return redis_server.url


@pytest.fixture
def redis_prefix() -> str:
    """A key prefix that no other test has."""
    return f"test-{uuid.uuid4().hex[:12]}:"


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder for servers of the test's own: `EmbeddedPostgres(server_folder / "postgres")`."""
    with servers.open_folder() as folder:
        yield folder


@pytest.fixture
def stack(server_folder: Path, database_url: str, redis_url: str) -> Iterator[Stack]:
    """Real services as processes, none started yet, over a database of the test's own."""
    with Stack(server_folder, database_url, redis_url) as stack:
        yield stack


@pytest.fixture(scope="module")
def module_stack(databases: Databases, redis_server: servers.Server) -> Iterator[Stack]:
    """Real services as processes for all tests of a module; `.postgres_url` is their database."""
    with (
        servers.open_folder() as folder,
        databases.fresh() as url,
        Stack(folder, url, redis_server.url) as stack,
    ):
        yield stack
