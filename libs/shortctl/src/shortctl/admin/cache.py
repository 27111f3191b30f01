"""The commands `shortctl cache`: rebuild the link cache in Redis, and verify it."""

from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from shortctl.admin import coherence, rebuild
from shortctl.admin.coherence import Difference
from shortctl.admin.servers import (
    PostgresUrl,
    RedisUrl,
    open_cache,
    open_database,
    run,
    settings,
)
from shortctl.admin.stored_links import every_link, sample_links
from shortctl.terminal import console, print_message, print_result

app = typer.Typer(help="Rebuild or verify the link cache in Redis.", no_args_is_help=True)


@app.command("rebuild")
def rebuild_(
    rate: Annotated[int, typer.Option(min=1, help="Maximum number of links per second.")] = 5000,
    postgres_url: PostgresUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Copy every link from PostgreSQL to Redis.

    This is safe while the services run: a newer record in Redis is never replaced.
    """
    found = settings(postgres_url, redis_url)

    async def work() -> rebuild.Progress:
        done = rebuild.Progress()
        async with (
            open_database(found.postgres_url.get_secret_value()) as postgres,
            open_cache(found) as redis,
        ):
            with Progress(
                TextColumn("{task.completed} links, {task.fields[stored]} stored"),
                TimeElapsedColumn(),
                console=console(err=True),
                transient=True,
            ) as bar:
                task = bar.add_task("", total=None, stored=0)
                async for done in rebuild.rebuild(postgres, redis, rate):
                    bar.update(task, completed=done.links, stored=done.stored)
        return done

    done = run(work())
    print_result(f"{done.links} links read; {done.stored} were missing or older in Redis")


@app.command()
def verify(
    sample: Annotated[int, typer.Option(min=1, help="Number of links to compare.")] = 1000,
    every: Annotated[
        bool, typer.Option("--all", help="Compare all links, and scan all keys of Redis.")
    ] = False,
    postgres_url: PostgresUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Compare Redis with PostgreSQL and print each difference.

    The exit code is 1 if there is a difference. A link that is missing in Redis does not count as a
    difference: redirectors read it from PostgreSQL.
    """
    found = settings(postgres_url, redis_url)

    async def work() -> tuple[int, int]:
        compared = differing = 0
        async with (
            open_database(found.postgres_url.get_secret_value()) as postgres,
            open_cache(found) as redis,
        ):
            if not every:
                records = await sample_links(postgres, sample)
                return len(records), _print(await coherence.differences(postgres, redis, records))
            async for records in every_link(postgres):
                compared += len(records)
                differing += _print(await coherence.differences(postgres, redis, records))
            async for orphan in coherence.orphans(postgres, redis, found.redis_prefix):
                differing += _print([orphan])
        return compared, differing

    compared, differing = run(work())
    print_result(f"{compared} links compared, {differing} differ")
    if differing:
        print_message("`shortctl cache rebuild` replaces older records.", "yellow")
        raise typer.Exit(1)


def _print(found: list[Difference]) -> int:
    for each in found:
        print_result(
            f"{each.key}\n  redis:    {coherence.describe(each.redis)}"
            f"\n  postgres: {coherence.describe(each.postgres)}"
        )
    return len(found)
