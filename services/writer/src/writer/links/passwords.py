"""Passwords of links, hashed with Argon2id (RFC 9106) in a thread."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shortcore.links.passwords import normalise_password

MAX_PER_BATCH = 100
"""Links with a password that one batch may have: each hash takes about 20 ms of CPU."""

# OWASP's parameters for Argon2id (19 MiB, 2 passes, 1 lane). The redirector needs the same memory
# for each check.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_at_once = asyncio.Semaphore(2)


async def hash_password(password: str) -> str:
    """Return the hash to store; at most two are computed at once, 19 MiB each."""
    async with _at_once:
        return await asyncio.to_thread(_hasher.hash, normalise_password(password))


async def is_password_of(password: str, stored: str) -> bool:
    """Return whether `stored` is a hash of `password`; this takes as long as `hash_password`."""
    async with _at_once:
        try:
            return await asyncio.to_thread(_hasher.verify, stored, normalise_password(password))
        except (VerificationError, InvalidHashError):
            return False
