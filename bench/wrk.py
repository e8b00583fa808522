"""The load over HTTP: wrk, with a fresh body a request, counting every answer that was not a success."""

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
SCRIPT = """
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


def installed() -> bool:
    return which("wrk") is not None


async def post(target: Target, tag: str, connections: int, seconds: float, folder: Path) -> Round:
    """Raises `NotAllAnswered` unless every answer was below 400; the ids of the bodies begin with `tag`."""
    script = folder / "load.lua"
    script.write_text(SCRIPT)
    whole_s = max(1, round(seconds))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole_s}s", f"--timeout={ANSWER_TIMEOUT_S}s", "-s", str(script)]
    arguments = [tag, target.path, target.body, *([target.token] if target.token else [])]
    ran = await asyncio.to_thread(
        subprocess.run, [*command, target.url, "--", *arguments], capture_output=True, text=True, check=True
    )
    summary = msgspec.json.decode(ran.stdout[ran.stdout.index('{"requests"') :], type=_Summary)
    if summary.failed or not summary.requests:
        raise NotAllAnswered(f"{summary.failed} of {summary.requests} requests to {target.path} failed")
    times_s = array("d", (value / 1e6 for value, count in summary.latency_us for _ in range(count)))
    return Round(summary.duration_us / 1e6, times_s, summary.requests)
