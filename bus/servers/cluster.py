"""A cluster of nats-servers on loopback, as children of this process: for tests and benches, not for production.

Each syncs every write, as the embedded one does.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from uuid import uuid4

from nats.aio.client import Client

from bus.servers.broker import BrokerSettings, EmbeddedBroker, Routes, free_port


class LocalCluster:
    """So many servers that know each other; any of them may be killed and started again. A context manager.

    Its streams can be made as soon as the servers have elected a leader, which takes them a second or two.
    """

    def __init__(self, folder: Path, size: int = 3, sync: str = "always") -> None:
        password = uuid4().hex
        ports = tuple(free_port() for _ in range(size))
        self.servers = [
            EmbeddedBroker(
                BrokerSettings(
                    folder / f"server-{number}",
                    free_port(),
                    password,
                    name=f"server-{number}",
                    routes=Routes(port, ports),
                    sync=sync,
                )
            )
            for number, port in enumerate(ports)
        ]

    @property
    def url(self) -> str:
        """All servers', comma-separated."""
        return ",".join(server.settings.url for server in self.servers)

    @property
    def system_url(self) -> str:
        return ",".join(server.settings.system_url for server in self.servers)

    async def leader_of(self, client: Client, stream: str) -> EmbeddedBroker:
        """The server that leads a stream. Raises the client's errors or `LookupError` while there is none."""
        cluster = (await client.jetstream(timeout=1).stream_info(stream)).cluster
        assert cluster is not None
        return {server.settings.name: server for server in self.servers}[cluster.leader or ""]

    def __enter__(self) -> LocalCluster:
        for server in self.servers:
            server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for server in self.servers:
            server.kill()  # They would wait for each other.
