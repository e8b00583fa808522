"""Jobs of work queues that failed for good, over HTTP and on the command line: an alert that says nothing."""

from __future__ import annotations

import asyncio
import json

import httpx

from bus.queues.work_queue import WorkQueue
from bus.servers.connection import close, connect
from gateway.effects.alerts import QUEUE
from tests.gateway.asserts import problem
from tests.system import Json, System, tally, unique, until


def put_nonsense(system: System, key: str) -> None:
    """A job that nobody can do."""

    async def put() -> None:
        client = await connect(system.running.nats_url, "test", identity=system.running.operator)
        await WorkQueue(client, QUEUE).put(key, b"nonsense")
        await close(client)

    asyncio.run(put())


def parked_job(http: httpx.Client, key: str, but: str = "") -> Json | None:
    items = http.get("/v1/parked").raise_for_status().json()["items"]
    return next((item for item in items if item["key"] == key and item["id"] != but), None)


def test_a_job_that_fails_for_good_is_kept_and_mended_where_keys_are(
    system: System, admin: httpx.Client, staff: httpx.Client
) -> None:
    key = unique("job")
    put_nonsense(system, key)
    first = until(lambda: parked_job(admin, key), "the parked job")
    told = (first["read_model"], first["stream"], first["commits"], first["offset"])
    assert told == ("jobs", QUEUE, 1, 0)
    assert "DecodeError" in first["error"]
    assert key in tally(system.folder, "parked").stdout
    redrive, discard = (f"/v1/parked/{first['id']}/{verb}" for verb in ("redrive", "discard"))
    problem(staff.post(redrive), 403, "forbidden")
    problem(admin.post(redrive, params={"dry_run": True}), 422, "malformed")
    assert tally(system.folder, "redrive", key, "--in", "jobs").returncode == 0
    again = until(lambda: parked_job(admin, key, but=first["id"]), "the job, parked again")
    problem(admin.post(redrive), 404, "parked_unknown")
    reason = {"sequence": again["sequence"], "offset": 0, "reason": "a test"}
    problem(admin.post(discard, json=reason), 409, "not_parked")
    gone = tally(system.folder, "discard", key, "--reason", "a test", "--json")
    assert (gone.returncode, json.loads(gone.stdout)) == (0, {"jobs": {"redriven": 0, "left": 0, "error": ""}})
    assert parked_job(admin, key) is None
