"""The start-up check on real servers: what may lose writes or lets strangers in is refused, or allowed by its name."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import nats.errors
import pytest

from bus.servers.broker import EmbeddedBroker, binary, free_port, listening
from bus.servers.cluster import LocalCluster
from bus.servers.connection import BrokerUnreachable, Client, close, connect
from bus.servers.safety import BrokerUnsafe, check
from tests.system import until


@contextmanager
def server(folder: Path, more: str = "", *, listen: str = "127.0.0.1", store: str = "") -> Iterator[tuple[str, str]]:
    """A server as somebody may have configured it; its URL and its system account's."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    users = 'authorization { users: [{ user: "shop", password: "pass" }] }'
    config = f"""
listen: "{listen}:{port}"
{more or users}
accounts {{ $SYS {{ users: [{{ user: "system", password: "pass" }}] }} }}
jetstream {{ store_dir: "{folder}/store", {store or "sync_interval: always"} }}
"""
    (folder / "server.conf").write_text(config)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([binary(), "-c", folder / "server.conf"], stdout=log, stderr=log)
    try:
        until(lambda: listening(port), "the server", every_s=0.01)
        yield f"nats://shop:pass@127.0.0.1:{port}", f"nats://system:pass@127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def refused(url: str, system_url: str, exception: str, *words: str) -> None:
    """It is refused for one thing, in one line that names the flag; allowed under that name it passes."""
    with pytest.raises(BrokerUnsafe) as told:
        await check(url, system_url)
    (line,) = str(told.value).splitlines()
    for word in (*words, f"--unsafe-{exception}"):
        assert word in line
    await check(url, system_url, {exception})


async def test_the_embedded_broker_is_sound(broker: EmbeddedBroker, caplog: pytest.LogCaptureFixture) -> None:
    await check(broker.url, broker.settings.system_url)
    assert not caplog.records


@pytest.mark.parametrize("interval", ["max_mem: 1GB", 'sync_interval: "2m"', "sync_interval: 0"])
async def test_a_server_that_does_not_sync_every_write_is_refused(tmp_path: Path, interval: str) -> None:
    with server(tmp_path / "nats", store=interval) as (url, system_url):
        await refused(url, system_url, "lazy-sync", "sync_interval: always")


@pytest.mark.parametrize("limit", ["0", "100TB"])
async def test_a_server_without_a_limit_that_its_disk_holds_is_refused(tmp_path: Path, limit: str) -> None:
    with server(tmp_path / "nats", store=f"sync_interval: always, max_file_store: {limit}") as (url, system_url):
        await refused(url, system_url, "no-file-limit", "max_file_store")


async def test_where_no_limit_is_configured_the_servers_own_is_one(tmp_path: Path) -> None:
    """It takes three quarters of what is free when it starts."""
    with server(tmp_path / "nats") as (url, system_url):
        await check(url, system_url)


async def test_a_server_that_listens_beyond_loopback_without_tls_is_refused(tmp_path: Path) -> None:
    with server(tmp_path / "nats", listen="0.0.0.0") as (url, system_url):
        await refused(url, system_url, "no-tls", "listens beyond loopback without TLS:")
        with pytest.raises(BrokerUnsafe, match="beyond loopback without TLS:"):
            await check(url, allowed={"unverified"})


@pytest.mark.parametrize("users", ["", "authorization { users: [{ user: u, password: p }] }, no_auth_user: u"])
async def test_a_server_that_listens_beyond_loopback_and_lets_anybody_in_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users: str
) -> None:
    """Whatever it says of itself: with users for the system account only it claims to want some."""
    certificate(tmp_path, monkeypatch)
    with server(tmp_path / "nats", f"{users}\n{tls(tmp_path)}", listen="0.0.0.0") as (url, system_url):
        await refused(url, system_url, "no-tls", "listens beyond loopback without users:")


async def test_beyond_loopback_tls_and_users_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate(tmp_path, monkeypatch)
    users = 'authorization { users: [{ user: "shop", password: "pass" }] }\n'
    with server(tmp_path / "nats", users + tls(tmp_path), listen="0.0.0.0") as (url, system_url):
        await check(url, system_url)


def tls(folder: Path) -> str:
    return f'tls {{ cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem" }}'


def certificate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for 127.0.0.1 that this process trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tests -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*make.split(), *files], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))


async def test_what_only_the_system_account_is_told_must_be_looked_up(broker: EmbeddedBroker) -> None:
    await refused(broker.url, "", "unverified", "TALLY_NATS_SYSTEM_URL")


async def test_what_is_allowed_is_said_loudly(broker: EmbeddedBroker, caplog: pytest.LogCaptureFixture) -> None:
    await check(broker.url, allowed={"unverified", "no-tls"})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "UNSAFE, allowed by --unsafe-unverified" in caplog.text
    assert broker.settings.password not in caplog.text


async def test_an_account_that_is_no_system_account_is_refused(broker: EmbeddedBroker) -> None:
    with pytest.raises(BrokerUnsafe, match="TALLY_NATS_SYSTEM_URL is not the system account"):
        await check(broker.url, broker.url)


async def test_the_system_account_of_another_broker_is_refused(
    broker: EmbeddedBroker, own_broker: EmbeddedBroker
) -> None:
    with pytest.raises(BrokerUnsafe, match="TALLY_NATS_SYSTEM_URL is not the system account"):
        await check(broker.url, own_broker.settings.system_url)


async def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with server(tmp_path / "nats", store="max_file_store: 100TB") as (url, system_url):
        with pytest.raises(BrokerUnsafe) as told:
            await check(url, system_url)
        assert len(str(told.value).splitlines()) == 2
        with pytest.raises(BrokerUnsafe) as told:
            await check(url, system_url, {"no-tls", "no-file-limit"})
        (line,) = str(told.value).splitlines()
        assert "sync_interval: always" in line


async def test_no_server_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.servers.safety.CONNECT_TIMEOUT_S", 0.2)
    with pytest.raises(BrokerUnreachable, match=r"no NATS server at nats://127\.0\.0\.1"):
        await check(f"nats://user:secret@127.0.0.1:{free_port()}")


async def _all_answer(client: Client, size: int) -> bool:
    """Whether so many servers of a cluster know each other and answer their system account."""
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    await client.publish("$SYS.REQ.SERVER.PING.VARZ", b"", reply=inbox)
    try:
        for _ in range(size):
            await replies.next_msg(timeout=0.5)
    except nats.errors.TimeoutError:
        return False
    return True


async def test_every_server_of_a_cluster_is_looked_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With several copies, too: when all servers lose power at once, all lose what they had not synced."""
    cluster = LocalCluster(tmp_path)
    lazy = cluster.servers[2]
    lazy.settings = msgspec.structs.replace(lazy.settings, sync='"2m"')
    first = cluster.servers[0].settings
    with cluster:
        client = await connect(first.system_url, "test")
        async with asyncio.timeout(30):  # On a busy machine a server that has just started answers late.
            while not await _all_answer(client, 3):
                pass  # It waits for each answer.
        await close(client)
        await refused(first.url, first.system_url, "lazy-sync", "server-2")
        lazy.kill()
        caplog.clear()
        await check(first.url, first.system_url)
        assert "1 of 3 servers are away" in caplog.text
