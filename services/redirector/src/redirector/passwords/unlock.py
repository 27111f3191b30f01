"""Verifies that a visitor knows a link's password, by a posted password or by a cookie."""

from collections.abc import Iterable

from redirector.passwords.check import Passwords, Verdict
from redirector.passwords.cookie import VisitorCookies
from redirector.passwords.form import Unreadable, Unsupported, read_password
from redirector.passwords.rate_limit import WINDOW_S
from redirector.responses.responses import Response, Responses
from redirector.rules.fields import field_value
from shortcore.links.record import LinkKey, LinkRecord
from shortcore.runtime.metrics import FromMemory

Headers = Iterable[tuple[bytes, bytes]]


class Unlock:
    """Checks the cookie (`proves`) and the password (`refusal`), and sets the cookie (`remember`)."""

    def __init__(self, responses: Responses, passwords: Passwords, cookies: VisitorCookies) -> None:
        self.cookies_seen = {"accepted": 0, "refused": 0}
        self._responses = responses
        self._passwords = passwords
        self._cookies = cookies
        self._refusals = {
            Verdict.RIGHT: None,
            Verdict.WRONG: responses.password_wrong,
            Verdict.THROTTLED: responses.throttled(WINDOW_S),
            Verdict.BUSY: responses.passwords_busy,
        }

    def proves(self, key: LinkKey, record: LinkRecord, headers: Headers) -> bool:
        """Return whether a cookie proves that the visitor gave the password of this link."""
        proof = self._cookies.proves(key, record, headers)
        if proof is not None:
            self.cookies_seen["accepted" if proof else "refused"] += 1
        return bool(proof)

    async def refusal(
        self, key: LinkKey, record: LinkRecord, client: str, headers: Headers, body: bytes
    ) -> Response | None:
        """Return the response to a wrong password in `body`; None if the password is right."""
        content_type = field_value(headers, b"content-type")
        try:
            given = read_password(content_type, body)
        except (Unreadable, Unsupported) as error:
            unsupported = isinstance(error, Unsupported)
            return self._responses.unsupported_form if unsupported else self._responses.malformed
        if not given or record.password_hash is None:
            return self._responses.password
        verdict = await self._passwords.check(key, client, record.password_hash, given)
        return self._refusals[verdict]

    def remember(
        self, response: Response, key: LinkKey, record: LinkRecord, path: str, headers: Headers
    ) -> Response:
        """Return `response` with the cookie of a visitor who gave the right password."""
        cookie = self._cookies.make(key, record, path, headers)
        if cookie is None:
            return response
        return self._responses.with_cookie(response, cookie)

    def export(self, memory: FromMemory) -> None:
        """Add the metrics of cookies and password checks."""
        memory.counter(
            "shortlinks_password_cookies",
            "Password cookies that visitors sent, by result",
            lambda: self.cookies_seen,
            "result",
        )
        self._passwords.export(memory)

    def refuse_waiting(self) -> None:
        """Refuse all waiting and future password checks, because the process stops."""
        self._passwords.refuse_waiting()

    async def close(self) -> None:
        """Stop the password checks."""
        await self._passwords.close()
