"""A whole system as `tally up` runs it, with a history of orders in its log and in its read models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from bench.histories import in_blocks
from bus.servers.connection import close, connect
from domains.orders.order import orders
from gateway import compose
from gateway.http.tokens import Tokens
from gateway.runtime.up import broker_alone, started
from gateway.settings import Settings, jwt_secret

TIMEOUT_S = 30.0
READY_TIMEOUT_S = 300.0
LOOK_EVERY_S = 0.2


class Shop(NamedTuple):
    """`http` is a member of the staff who may do everything."""

    url: str
    token: str
    settings: Settings
    http: httpx.AsyncClient


@asynccontextmanager
async def shop_with_orders(folder: Path, n: int) -> AsyncIterator[Shop]:
    """Started on `n` events of `bench/lives.py`, and shown by every read model of the orders."""
    settings = Settings(data_dir=folder / "data", http_port=0, log_level="WARNING")
    async with broker_alone(settings) as broker:
        client = await connect(broker.nats_url, "bench")
        try:
            log = await compose.open_log(client, settings, orders.name)
            await in_blocks(client, log, n)
            head = await log.head()
        finally:
            await close(client)
    async with started(settings, lambda line: None) as (_, where):
        token = Tokens(jwt_secret(settings)).issue("admin", "bench")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=where.http_url, headers=headers, timeout=TIMEOUT_S) as http:
            await _shows_all(http, head)
            yield Shop(where.http_url, token, settings, http)


async def _shows_all(http: httpx.AsyncClient, head: int) -> None:
    async with asyncio.timeout(READY_TIMEOUT_S):
        while True:
            shown = (await http.get("/v1/projections")).raise_for_status().json()["items"]
            if all(one["position"] >= head for one in shown if one["stream"] == orders.name):
                return
            await asyncio.sleep(LOOK_EVERY_S)
