"""`shortctl cache`: give Redis all links again, and see whether it agrees with PostgreSQL."""

from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from shortctl.admin import coherence
from shortctl.admin.coherence import Difference
from shortctl.admin.servers import PostgresUrl, RedisUrl, open_cache, open_database, run, settings
from shortctl.api.client import say, tables, tell

app = typer.Typer(help="Rebuild and verify what Redis holds.", no_args_is_help=True)


@app.command()
def rebuild(
    rate: Annotated[int, typer.Option(min=1, help="Links a second at the most.")] = 5000,
    postgres_url: PostgresUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Put every link into Redis again, from PostgreSQL; safe while serving."""
    found = settings(postgres_url, redis_url)

    async def work() -> coherence.Rebuilt:
        done = coherence.Rebuilt(0, 0)
        async with (
            open_database(found.postgres_url.get_secret_value()) as postgres,
            open_cache(found) as redis,
        ):
            with Progress(
                TextColumn("{task.completed} links, {task.fields[taken]} taken"),
                TimeElapsedColumn(),
                console=tables(err=True),
                transient=True,
            ) as bar:
                task = bar.add_task("", total=None, taken=0)
                async for done in coherence.rebuild(postgres, redis, rate):
                    bar.update(task, completed=done.links, taken=done.taken)
        return done

    done = run(work())
    say(f"{done.links} links offered; Redis lacked or had older ones of {done.taken}")


@app.command()
def verify(
    sample: Annotated[int, typer.Option(min=1, help="How many links to look at.")] = 1000,
    every: Annotated[
        bool, typer.Option("--all", help="Look at all of them, and at all keys of Redis.")
    ] = False,
    postgres_url: PostgresUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Compare Redis with PostgreSQL and print each difference; exit code 1 if there is any.

    A link that Redis does not hold is no difference: it is read from PostgreSQL when needed.
    """
    found = settings(postgres_url, redis_url)

    async def work() -> tuple[int, int]:
        looked = differing = 0
        async with (
            open_database(found.postgres_url.get_secret_value()) as postgres,
            open_cache(found) as redis,
        ):
            if not every:
                records = await coherence.some_links(postgres, sample)
                return len(records), _tell(await coherence.differences(postgres, redis, records))
            async for records in coherence.every_link(postgres):
                looked += len(records)
                differing += _tell(await coherence.differences(postgres, redis, records))
            async for orphan in coherence.orphans(postgres, redis, found.redis_prefix):
                differing += _tell([orphan])
        return looked, differing

    looked, differing = run(work())
    say(f"{looked} links compared, {differing} differ")
    if differing:
        tell("`shortctl cache rebuild` mends older records.", "yellow")
        raise typer.Exit(1)


def _tell(found: list[Difference]) -> int:
    for each in found:
        say(
            f"{each.key}\n  redis:    {coherence.describe(each.redis)}"
            f"\n  postgres: {coherence.describe(each.postgres)}"
        )
    return len(found)
