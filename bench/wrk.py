"""The load over HTTP: wrk, with a fresh body or path a request, counting every answer that was not a success."""

from __future__ import annotations

import asyncio
import subprocess
from array import array
from pathlib import Path
from shutil import which

import msgspec
from msgspec import Struct

from bench.rounds import BenchmarkFailed, Round

ANSWER_TIMEOUT_S = 10
POST = """
local tag, number = "", 0
local headers = {["Content-Type"] = "application/json"}

function init(arguments)
  tag, path, template = arguments[1], arguments[2], arguments[3]
  if arguments[4] then headers["Authorization"] = "Bearer " .. arguments[4] end
end

function request()
  number = number + 1
  return wrk.format("POST", path, headers, string.format(template, string.format("%s%08x", tag, number)))
end
"""
GET = """
local headers = {}

function init(arguments)
  path, ids, pause_ms = arguments[1], tonumber(arguments[2]), tonumber(arguments[3])
  if arguments[4] then headers["Authorization"] = "Bearer " .. arguments[4] end
end

function request()
  return wrk.format("GET", string.format(path, math.random(0, ids - 1)), headers)
end

function delay()
  return pause_ms
end
"""
DONE = """
function done(summary, latency, requests)
  local buckets = {}
  for index = 1, #latency do
    local value, count = latency(index)
    buckets[index] = string.format("[%d,%d]", value, count)
  end
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"failed":%d,"latency_us":[%s]}',
    summary.requests, summary.duration, failed, table.concat(buckets, ",")))
end
"""


class NotAllAnswered(BenchmarkFailed):
    """Something else came back than a success: the round means nothing."""


class _Summary(Struct, frozen=True):
    """`latency_us`: a time, and how many requests took it. wrk adds what a stalled server kept it from asking."""

    requests: int
    duration_us: int
    failed: int
    latency_us: list[tuple[int, int]]


class Target(Struct, frozen=True):
    """Where requests go. `body` holds one `%s`, for an id that no other request has."""

    url: str
    path: str
    body: str
    token: str = ""


class Page(Struct, frozen=True):
    """What is asked for. `path` may hold one format as C has it, for a number below `ids`: one by chance a request."""

    url: str
    path: str
    ids: int = 1
    token: str = ""


def installed() -> bool:
    return which("wrk") is not None


async def post(target: Target, tag: str, connections: int, seconds: float, folder: Path) -> Round:
    """Raises `NotAllAnswered` unless every answer was below 400; the ids of the bodies begin with `tag`."""
    arguments = [tag, target.path, target.body]
    return await _run(POST, target.url, arguments, target.token, connections, seconds, folder)


async def get(page: Page, connections: int, seconds: float, folder: Path, pause_ms: int = 0) -> Round:
    """The same; each connection pauses so long before each request."""
    script = GET if pause_ms else GET.partition("function delay")[0]  # Even a pause of nothing costs wrk a timer.
    arguments = [page.path, str(page.ids), str(pause_ms)]
    return await _run(script, page.url, arguments, page.token, connections, seconds, folder)


async def _run(
    script: str, url: str, arguments: list[str], token: str, connections: int, seconds: float, folder: Path
) -> Round:
    load = folder / "load.lua"
    load.write_text(script + DONE)
    whole_s = max(1, round(seconds))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole_s}s", f"--timeout={ANSWER_TIMEOUT_S}s", "-s", str(load)]
    ran = await asyncio.to_thread(
        subprocess.run,
        [*command, url, "--", *arguments, *([token] if token else [])],
        capture_output=True,
        text=True,
        check=True,
    )
    summary = msgspec.json.decode(ran.stdout[ran.stdout.index('{"requests"') :], type=_Summary)
    if summary.failed or not summary.requests:
        raise NotAllAnswered(f"{summary.failed} of {summary.requests} requests to {url} failed")
    times_s = array("d", (value / 1e6 for value, count in summary.latency_us for _ in range(count)))
    return Round(summary.duration_us / 1e6, times_s, summary.requests)
