"""Names the undocumented attribute or method of uvicorn that a new version has changed."""

import ast
import asyncio
import inspect
import logging
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from shortcore.http.uvicorn_adapter import ATTRIBUTES, METHODS

ROOT = Path(__file__).parents[3]
SUBCLASSES = [
    *ROOT.glob("libs/shortcore/src/shortcore/http/*.py"),
    *ROOT.glob("services/redirector/src/redirector/http/*.py"),
]
HOLDERS = {
    "self": "HttpToolsProtocol",
    "self.cycle": "RequestResponseCycle",
    "cycle": "RequestResponseCycle",
    "running": "RequestResponseCycle",
    "self.flow": "FlowControl",
    "self.server_state": "ServerState",
}
"""What an expression in a subclass refers to."""


async def no_application(scope: object, receive: object, send: object) -> None:
    """Stand for an application that is never called."""


def objects() -> dict[str, object]:
    """Return one object of each class of uvicorn that the adapter uses, as in a running server."""
    config = uvicorn.Config(no_application, log_config=None, lifespan="off", ws="none")
    state = ServerState()
    protocol = HttpToolsProtocol(config, state, {})
    protocol.connection_made(asyncio.Transport())
    protocol.on_message_begin()
    cycle = RequestResponseCycle(
        scope=protocol.scope,
        transport=protocol.transport,
        flow=protocol.flow,
        logger=logging.getLogger(),
        access_logger=logging.getLogger(),
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
    return {
        "HttpToolsProtocol": protocol,
        "RequestResponseCycle": cycle,
        "FlowControl": FlowControl(asyncio.Transport()),
        "ServerState": state,
    }


@pytest.mark.parametrize(
    ("owner", "name"), sorted((owner, name) for owner in ATTRIBUTES for name in ATTRIBUTES[owner])
)
async def test_uvicorn_has_each_attribute_that_the_adapter_uses(owner: str, name: str) -> None:
    assert hasattr(objects()[owner], name), (
        f"uvicorn {uvicorn.__version__}: {owner} has no attribute `{name}`, which"
        " shortcore.http.uvicorn_adapter uses. Adapt it there, or lower the bound in pyproject.toml."
    )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_uvicorn_has_each_method_that_the_adapter_uses(name: str) -> None:
    method = getattr(HttpToolsProtocol, name, None)
    parameters = () if method is None else tuple(inspect.signature(method).parameters)[1:]
    assert (method is not None, parameters) == (True, METHODS[name]), (
        f"uvicorn {uvicorn.__version__}: HttpToolsProtocol.{name} takes {parameters}, where"
        f" shortcore.http.uvicorn_adapter expects {METHODS[name]}. Adapt it there, or lower the bound"
        " in pyproject.toml."
    )


def test_a_status_line_is_a_whole_line() -> None:
    assert STATUS_LINE[431] == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"


async def test_a_connection_without_a_request_has_no_cycle() -> None:
    protocol = objects()["HttpToolsProtocol"]
    assert isinstance(protocol, HttpToolsProtocol)
    assert protocol.cycle is None
    assert not protocol.pipeline


async def test_subclasses_use_no_attribute_of_uvicorn_that_the_adapter_does_not_name() -> None:
    having = objects()
    unnamed = {
        f"{path.name} uses `{attribute}` of {owner}"
        for path in SUBCLASSES
        for owner, attribute in attributes_used(path)
        if hasattr(having[owner], attribute)
        and not hasattr(asyncio.Protocol, attribute)
        and attribute not in ATTRIBUTES[owner]
        and not (owner == "HttpToolsProtocol" and attribute in METHODS)
    }
    assert not unnamed, f"Name it in shortcore.http.uvicorn_adapter, or do without it: {unnamed}"


def test_only_the_adapter_imports_the_protocol_of_uvicorn() -> None:
    importing = {
        path.name
        for path in ROOT.glob("*/*/src/**/*.py")
        if "uvicorn.protocols" in path.read_text(encoding="utf-8")
    }
    assert importing == {"uvicorn_adapter.py"}


def attributes_used(path: Path) -> set[tuple[str, str]]:
    """Return the class of uvicorn and the name of each attribute that a module may use of it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for definition in ast.walk(tree):
        if not isinstance(definition, ast.ClassDef) or not is_protocol(definition):
            continue
        for node in ast.walk(definition):
            if isinstance(node, ast.Attribute):
                owner = HOLDERS.get(ast.unparse(node.value))
                if owner is not None:
                    found.add((owner, node.attr))
    return found


def is_protocol(definition: ast.ClassDef) -> bool:
    """Return whether a class is a subclass of uvicorn's protocol, by the name of its base."""
    return any(ast.unparse(base).endswith("Protocol") for base in definition.bases)
