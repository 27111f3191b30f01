"""Webhooks go to public addresses only, whatever names resolve to."""

import ssl
from datetime import UTC, datetime

import httpcore
import pytest
from harness.receiver import Receiver
from harness.waiting import until_async

from shortcore.errors import ConfigurationError
from writer.worker.webhooks.addresses import AddressPolicy
from writer.worker.webhooks.connecting import AddressRefused, CheckedBackend, Resolver
from writer.worker.webhooks.sender import Sender

PUBLIC = ("8.8.8.8", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::200e")
REFUSED = (
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.8.8.8", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.0.1",
    "198.18.0.1", "203.0.113.7", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::8.8.8.8",
    "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::1",
    "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "", "localhost",
)  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_permitted(address):
    assert AddressPolicy(()).permits(address)


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address):
    assert not AddressPolicy(()).permits(address)


def test_the_operator_may_allow_networks_and_only_those():
    policy = AddressPolicy({"10.0.0.0/8", "fd00::/8", "127.0.0.1"})
    assert all(map(policy.permits, ("10.1.2.3", "fd12::1", "127.0.0.1", "::ffff:10.0.0.1")))
    assert not any(map(policy.permits, ("11.0.0.0.1", "127.0.0.2", "192.168.0.1", "fe80::1")))
    with pytest.raises(ConfigurationError, match="WEBHOOKS_ALLOWED_NETWORKS"):
        AddressPolicy({"10.0.0.0/99"})


async def test_a_host_that_resolves_to_a_private_address_is_refused_and_not_connected():
    with Receiver() as receiver:
        backend = CheckedBackend(AddressPolicy(()), Resolver(2).resolve)
        with pytest.raises(AddressRefused):
            await backend.connect_tcp("localhost", receiver.port, timeout=5)
        assert receiver.connections == 0


async def test_the_connection_goes_to_the_address_that_was_checked():
    """DNS rebinding: the second answer of the name server is never asked for."""
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def rebind(host: str, port: int) -> list[str]:
        assert (host, port) == ("rebind.test", receiver.port)
        return answers.pop(0)

    with Receiver() as receiver:
        backend = CheckedBackend(AddressPolicy({"127.0.0.1"}), rebind)
        stream = await backend.connect_tcp("rebind.test", receiver.port, timeout=5)
        assert stream.get_extra_info("server_addr")[0] == "127.0.0.1"
        await stream.aclose()
        assert answers == [["127.0.0.2"]]
        with pytest.raises(AddressRefused):
            await backend.connect_tcp("rebind.test", receiver.port, timeout=5)


async def test_of_several_addresses_only_the_permitted_ones_are_tried():
    async def mixed(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    with Receiver() as receiver:
        backend = CheckedBackend(AddressPolicy({"127.0.0.1"}), mixed)
        stream = await backend.connect_tcp("two.test", receiver.port, timeout=5)
        assert stream.get_extra_info("server_addr")[0] == "127.0.0.1"
        await stream.aclose()


async def test_a_unix_socket_is_refused():
    backend = CheckedBackend(AddressPolicy(()), Resolver(1).resolve)
    with pytest.raises(AddressRefused):
        await backend.connect_unix_socket("/run/x.sock")


async def test_an_address_in_the_url_is_checked_in_every_spelling():
    sender = Sender(AddressPolicy(()), Resolver(2).resolve, lambda: datetime.now(UTC), timeout_s=5)
    with Receiver() as receiver:
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1", "0"):
            outcome = await sender.send(f"http://{host}:{receiver.port}/", {}, b"{}")
            assert outcome.status is None, host
            assert outcome.error
        assert receiver.connections == 0
    await sender.close()


async def test_tls_verifies_the_name_of_the_host_and_a_timeout_closes_the_connection():
    asked: list[str] = []

    class Spy(ssl.SSLContext):
        def wrap_bio(self, incoming, outgoing, server_side=False, name=None, session=None):
            asked.append(name.decode())
            return super().wrap_bio(incoming, outgoing, server_side, name, session)

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    context = Spy(ssl.PROTOCOL_TLS_CLIENT)
    assert context.check_hostname
    sender = Sender(
        AddressPolicy({"127.0.0.1"}), here, lambda: datetime.now(UTC), timeout_s=1, tls=context
    )
    with Receiver() as receiver:
        outcome = await sender.send(f"https://hooks.test:{receiver.port}/", {}, b"{}")
        assert receiver.connections == 1
        await until_async(
            lambda: not receiver.open, "the cancelled handshake closes its connection"
        )
    assert outcome.status is None
    assert asked == ["hooks.test"]
    assert issubclass(AddressRefused, httpcore.ConnectError)
    await sender.close()
