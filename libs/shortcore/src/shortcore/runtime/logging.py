"""Logs: JSON lines on servers, readable lines on a terminal, with the request's id on each."""

import io
import logging
import re
import sys
from typing import Final, TextIO

import structlog

from shortcore.settings.shared import LogFormat

MAX_VALUE: Final = 512
"""Characters of one value in a log line. A longer value is cut: clients choose paths and headers."""

MAX_TRACEBACK: Final = 16_384
"""Characters of a traceback in a log line."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def bounded(text: str) -> str:
    """Return `text` on one line, without control characters, cut after `MAX_VALUE` characters.

    A cut value ends with the number of characters that are missing.
    """
    clean = _CONTROL.sub("\ufffd", text[:MAX_VALUE])
    missing = len(text) - MAX_VALUE
    return f"{clean}… ({missing} more characters)" if missing > 0 else clean


def configure(level: str, log_format: LogFormat, service: str) -> None:
    """Send the standard library's and structlog's records to standard error in one form.

    Context variables (`request_id`) bound with structlog.contextvars appear on every line.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())

    def add_service(
        _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_service,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _without_colour,
        _bound_values,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    last: list[structlog.typing.Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # The default one, of rich, prints local variables: URLs with their passwords.
                exception_formatter=_plain_traceback,
            )
        ]
        if console
        else [
            structlog.processors.format_exc_info,
            _bound_traceback,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(sort_keys=True),
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn.access").disabled = True


def _without_colour(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event.pop("color_message", None)  # uvicorn's message once more, with escape codes
    return event


def _bound_values(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    for name, value in event.items():
        if name in _OWN:
            continue
        if isinstance(value, str):
            event[name] = bounded(value)
        elif not isinstance(value, _SHORT):
            event[name] = _bounded_object(value)
    return event


_SHORT = (int, float, type(None), BaseException)
_OWN = frozenset({"exc_info", "stack", "_record", "_from_structlog"})
"""What the logging libraries themselves put into an event; a traceback has its own bound."""


def _bounded_object(value: object) -> object:
    text = value.decode("latin-1") if isinstance(value, (bytes, bytearray)) else repr(value)
    # A short list stays a list in JSON.
    return value if len(text) <= MAX_VALUE and not isinstance(value, bytes) else bounded(text)


def _bound_traceback(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if isinstance(trace := event.get("exception"), str):
        event["exception"] = _bounded_traceback(trace)
    return event


def _plain_traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    whole = io.StringIO()
    structlog.dev.plain_traceback(whole, exc_info)
    out.write(_bounded_traceback(whole.getvalue()))


def _bounded_traceback(trace: str) -> str:
    if len(trace) <= MAX_TRACEBACK:
        return trace
    half = MAX_TRACEBACK // 2  # the error stands at the end, or begins there
    return f"{trace[:half]}\n… (cut)\n{trace[-half:]}"
