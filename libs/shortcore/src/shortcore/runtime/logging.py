"""Log output: JSON or lines for people, with bounded values and the id of the request."""

import io
import logging
import re
import sys
from typing import Final, TextIO

import structlog

from shortcore.settings.shared import LogFormat

MAX_VALUE: Final = 512
"""Maximum length of a value in characters. Longer values are cut, because clients choose some of them,
such as paths and headers."""

MAX_TRACEBACK: Final = 16_384
"""Maximum length of a traceback in characters."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def bounded(text: str) -> str:
    """Return `text` without control characters or line breaks, cut after `MAX_VALUE` characters.

    A cut value ends with the number of missing characters.
    """
    clean = _CONTROL.sub("\ufffd", text[:MAX_VALUE])
    missing = len(text) - MAX_VALUE
    return f"{clean}… ({missing} more characters)" if missing > 0 else clean


def configure(level: str, log_format: LogFormat, service: str) -> None:
    """Write the messages of structlog and of the standard library to standard error in one format.

    Each message has the context variables of structlog, such as `request_id`.
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
                # The default formatter (rich) prints local variables, such as URLs with passwords.
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
    event.pop("color_message", None)  # the message again, with escape codes, from uvicorn
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
"""Keys that the logging libraries add themselves. Tracebacks have their own limit."""


def _bounded_object(value: object) -> object:
    text = value.decode("latin-1") if isinstance(value, (bytes, bytearray)) else repr(value)
    # JSON keeps the type of a short value, such as a list.
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
    half = MAX_TRACEBACK // 2  # the end has the error, or the start of a long one
    return f"{trace[:half]}\n… (cut)\n{trace[-half:]}"
