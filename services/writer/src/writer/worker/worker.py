"""The worker: counts the clicks of its streams until it stops.

Any number of workers may run. They share the click streams evenly.
"""

import asyncio

from shortcore.runtime.background import Background
from shortcore.runtime.dynamic_settings import INTERVAL_S, DynamicFile
from shortcore.runtime.stopping import Stopping
from shortcore.settings.worker import WorkerSettings
from shortcore.storage.postgres import Postgres
from shortcore.storage.redis import Client
from shortcore.storage.redis_calls import RedisCalls

APPLICATION = "shortlinks-worker"


class Worker:
    """The loops of a worker, between `start` and `stop`."""

    def __init__(
        self, postgres: Postgres, client: Client, redis: RedisCalls, settings: WorkerSettings
    ) -> None:
        self.dynamic = DynamicFile(settings, lambda _: None)  # it sets the log level itself
        self.background = Background()
        self.stopping = Stopping()
        self._postgres = postgres
        self._client = client
        self._redis = redis
        self._settings = settings
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start every loop."""
        loops = {"dynamic settings": self._watch_settings()}
        self._tasks = [self.background.run_forever(name, loop) for name, loop in loops.items()]

    async def stop(self) -> None:
        """Write the clicks in memory, release the streams, then end every loop."""
        self.background.ending = True
        self.stopping.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch_settings(self) -> None:
        while not self.stopping:
            self.dynamic.read()
            await self.stopping.pause(INTERVAL_S)
