import socket
from contextlib import ExitStack
from functools import partial

from shortctl.embedded import ports
from shortctl.embedded.ports import free_port


def test_a_free_port_is_outside_the_range_of_outgoing_connections():
    chosen = [free_port() for _ in range(50)]
    assert len(set(chosen)) == 50
    assert max(chosen) < ports._first_outgoing()
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server, ExitStack() as stack:
        connect = partial(socket.create_connection, server.getsockname())
        clients = [stack.enter_context(connect()) for _ in range(100)]
        assert not {client.getsockname()[1] for client in clients} & set(chosen)


def test_a_port_in_use_is_not_chosen():
    held = free_port()
    with socket.create_server(("127.0.0.1", held)):
        assert held not in {free_port() for _ in range(2000)}
