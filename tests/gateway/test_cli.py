"""The command line: one clear line for each trouble, a clean end at any moment, and verbs that look at what runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from bus.logs.streams import StreamMisconfigured, log_stream
from bus.servers.broker import BrokerSettings, EmbeddedBroker, free_port
from bus.servers.connection import close, connect
from bus.servers.safety import BrokerUnsafe
from gateway.cli.endings import EXIT_CANNOT_START
from gateway.cli.main import VERBS
from gateway.cli.main import tally as group
from gateway.compose import LOGS, PROJECTIONS
from gateway.http.tokens import Role, Tokens
from gateway.runtime.running import CannotStart
from gateway.settings import MARKER, SettingsError, jwt_secret
from tests.gateway.asserts import problem
from tests.system import REPOSITORY, Shop, System, environment_of, tally, until


def run(system: System, *arguments: str) -> Result:
    """A verb in this process: what it prints and how it ends, without the cost of a start."""
    return CliRunner().invoke(group, list(arguments), env=system.environment)


def one_clear_line(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    """It failed, said why in one line, and printed nothing else."""
    assert ended.returncode not in (0, 130), ended
    assert "Traceback" not in ended.stderr
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("tally: ")
    for word in words:
        assert word in line
    assert ended.stdout == ""


def refused(kind: type[Exception], folder: Path, *arguments: str, words: tuple[str, ...], **environment: str) -> None:
    """The same in this process: the error that `main` prints as its one line."""
    result = CliRunner().invoke(group, list(arguments), env=environment_of(folder, **environment))
    assert isinstance(result.exception, kind)
    (line,) = str(result.exception).splitlines()
    for word in words:
        assert word in line


# -- what cannot start says why ---------------------------------------------------------------------------------------


def test_every_verb_explains_itself(capfd: pytest.CaptureFixture[str]) -> None:
    top = CliRunner().invoke(group, ["--help"])
    assert top.exit_code == 0
    for name, verb in VERBS.items():
        assert f"  {name} " in top.output
        assert verb.summary.split()[0] in top.output
        shown = CliRunner().invoke(group, [name, "--help"])
        said = shown.output + capfd.readouterr().out  # Some hand on to a process of their own.
        assert (shown.exit_code, "Usage:" in said) == (0, True)


def test_the_installed_command_runs() -> None:
    shown = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "tally", "--version"], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "tally" in shown.stdout


def test_a_verb_that_is_none_is_wrong_usage() -> None:
    assert CliRunner().invoke(group, ["dance"]).exit_code == 2


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        one_clear_line(tally(tmp_path / "data", "up", TALLY_HTTP_PORT=port), port, "TALLY_HTTP_PORT")
    assert not (tmp_path / "data" / "run.json").exists()


def test_a_foreign_data_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    one_clear_line(tally(tmp_path, "up"), str(tmp_path), "TALLY_DATA_DIR")
    refused(SettingsError, tmp_path, "token", "--role", "admin", words=(str(tmp_path), "TALLY_DATA_DIR"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("")
    refused(CannotStart, file, "up", words=("not a folder", "TALLY_DATA_DIR"))


def test_a_data_folder_in_use_is_refused(system: System) -> None:
    refused(CannotStart, system.folder, "up", words=(str(system.folder), "in use"))
    assert httpx.get(f"{system.running.http_url}/livez").status_code == 200
    assert (system.folder / "run.json").exists()


def test_a_missing_broker_binary_is_named(tmp_path: Path) -> None:
    """In an environment that lacks it: a Python of its own, with this one's packages but not its scripts."""
    scripts = tmp_path / "venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "python").symlink_to(Path(sys.executable).resolve())
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    packages = os.pathsep.join([sysconfig.get_path("purelib"), str(REPOSITORY)])
    ended = subprocess.run(
        [scripts / "python", "-m", "gateway.cli.main", "up"],
        env=environment_of(tmp_path / "data", PYTHONPATH=packages, PATH=str(scripts)),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    one_clear_line(ended, "nats-server", "just setup")
    assert not (tmp_path / "data" / "run.json").exists()


@pytest.mark.parametrize("port", ["", "http", "-1", "65536", "80.5"])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: str) -> None:
    refused(SettingsError, tmp_path / "data", "up", words=("TALLY_HTTP_PORT", repr(port)), TALLY_HTTP_PORT=port)
    assert not (tmp_path / "data").exists()


def test_a_setting_that_makes_no_sense_is_one_line(tmp_path: Path) -> None:
    one_clear_line(tally(tmp_path / "data", "up", TALLY_HTTP_PORT="http"), "TALLY_HTTP_PORT", "http")


# -- the start-up check of the broker ---------------------------------------------------------------------------------


@pytest.fixture
def lazy(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of a broker that does not sync every write."""
    settings = BrokerSettings(tmp_path / "broker", free_port(), "password", sync='"2m"')
    with EmbeddedBroker(settings):
        yield {"TALLY_NATS_URL": settings.url, "TALLY_NATS_SYSTEM_URL": settings.system_url}


@pytest.mark.parametrize("verb", ["up", "work", "serve"])
def test_a_broker_that_may_lose_writes_is_refused(tmp_path: Path, lazy: dict[str, str], verb: str) -> None:
    refused(BrokerUnsafe, tmp_path / "data", verb, words=("sync_interval: always", "--unsafe-lazy-sync"), **lazy)
    assert not (tmp_path / "data" / "run.json").exists()


def test_a_refused_broker_is_one_line_and_a_code_of_its_own(tmp_path: Path, lazy: dict[str, str]) -> None:
    ended = tally(tmp_path / "data", "work", **lazy)
    one_clear_line(ended, "tallystream", "sync_interval: always", "--unsafe-lazy-sync")
    assert ended.returncode == EXIT_CANNOT_START


async def _make_a_forgetful_stream(url: str) -> None:
    client = await connect(url, "tests")
    await client.jetstream().add_stream(log_stream("orders").evolve(max_age=3_600))
    await close(client)


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_what_is_allowed_by_its_name_passes_and_the_streams_are_looked_at_next(
    tmp_path: Path, lazy: dict[str, str], how: str
) -> None:
    asyncio.run(_make_a_forgetful_stream(lazy["TALLY_NATS_URL"]))
    verb = ["up", "--unsafe-lazy-sync"] if how == "flag" else ["up"]
    allowed = {} if how == "flag" else {"TALLY_UNSAFE": "lazy-sync"}
    refused(StreamMisconfigured, tmp_path / "data", *verb, words=("orders", "max_age"), **lazy, **allowed)


# -- verbs against what runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["customer", "staff", "admin"])
def test_a_printed_token_opens_the_api(system: System, nobody: httpx.Client, role: Role) -> None:
    result = run(system, "token", "--role", role, "--subject", "somebody")
    assert result.exit_code == 0
    token = result.output.strip()
    principal = Tokens(jwt_secret(system.settings)).check(token)
    assert (principal.role, principal.subject) == (role, "somebody")
    answer = nobody.get("/v1/projections", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == (403 if role == "customer" else 200)


def test_a_token_can_be_short_lived(system: System, nobody: httpx.Client) -> None:
    token = run(system, "token", "--role", "staff", "--ttl", "1").output.strip()
    headers = {"Authorization": f"Bearer {token}"}
    until(lambda: nobody.get("/v1/projections", headers=headers).status_code == 401, "the token's end", every_s=0.2)
    problem(nobody.get("/v1/projections", headers=headers), 401, "unauthenticated")


@pytest.mark.parametrize("arguments", [["--role", "king"], [], ["--role", "customer", "--subject", "a.b"]])
def test_a_token_for_nobody_is_wrong_usage(system: System, arguments: list[str]) -> None:
    result = run(system, "token", *arguments)
    assert result.exit_code == 2
    assert "Usage" in result.output


def test_a_token_before_the_first_start_makes_the_folder_ours(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    result = CliRunner().invoke(group, ["token", "--role", "admin"], env=environment_of(folder))
    assert result.exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["jwt-secret", MARKER]
    assert (folder / "jwt-secret").stat().st_mode & 0o777 == 0o600


def test_read_models_are_listed(system: System) -> None:
    listed = json.loads(run(system, "projections", "--json").output)
    assert [one["name"] for one in listed] == [projection.name for projection in PROJECTIONS]
    table = run(system, "projections")
    assert table.exit_code == 0
    for projection in PROJECTIONS:
        assert projection.name in table.output


def test_a_read_model_is_rebuilt(system: System, shop: Shop) -> None:
    shop.place(shop.product(units=1))
    rebuilt = run(system, "rebuild", "stock", "--json")
    assert rebuilt.exit_code == 0
    outcome = json.loads(rebuilt.output)["stock"]
    assert (outcome["state"], outcome["detail"].split(":")[0]) == ("done", "equal to the live one")
    assert "done" in run(system, "rebuild", "order_summary").output
    unknown = run(system, "rebuild", "nothing")
    assert unknown.exit_code == 2
    assert "there is no read model nothing" in unknown.output


def test_all_read_models_are_rebuilt_and_one_goes_back(system: System) -> None:
    rebuilt = run(system, "rebuild", "all", "--json")
    assert rebuilt.exit_code == 0
    outcomes = json.loads(rebuilt.output)
    assert list(outcomes) == [projection.name for projection in PROJECTIONS]
    assert {outcome["state"] for outcome in outcomes.values()} == {"done"}
    assert {outcome["percent"] for outcome in outcomes.values()} == {100.0}
    for _ in range(2):  # The same again undoes it.
        back = run(system, "rollback", "stock")
        assert (back.exit_code, "is live again" in back.output) == (0, True)
    assert run(system, "rollback", "nothing").exit_code == 2


def test_a_snapshot_starts_another_node_of_this_system_and_of_no_other(
    system: System, shop: Shop, tmp_path: Path
) -> None:
    shop.settled(shop.place(shop.product(units=1))["order_id"])
    shop.caught_up()
    folder = str(tmp_path / "snapshot")
    taken = run(system, "snapshot", folder, "--json")
    assert taken.exit_code == 0
    assert [copied["name"] for copied in json.loads(taken.output)] == [projection.name for projection in PROJECTIONS]
    again = run(system, "snapshot", folder)
    assert (again.exit_code, "is not empty" in again.output) == (1, True)
    here = run(system, "restore", folder)
    assert (here.exit_code, "is here already: restore into a new data folder" in here.output) == (1, True)
    node = environment_of(tmp_path / "node", TALLY_NATS_URL=system.running.nats_url)
    restored = CliRunner().invoke(group, ["restore", folder, "stock", "orders_summary"], env=node)
    assert restored.exit_code == 2
    restored = CliRunner().invoke(group, ["restore", folder, "stock", "order_summary"], env=node)
    assert restored.exit_code == 0
    assert "order_summary" in restored.output
    live = sorted(path.name for path in (tmp_path / "node" / "read").glob("*.live"))
    assert live == ["order_summary.live", "stock.live"]
    another = CliRunner().invoke(group, ["restore", folder], env=environment_of(tmp_path / "another"))
    assert (another.exit_code, "is of another log" in another.output) == (1, True)


def test_events_and_states_are_printed(system: System, shop: Shop) -> None:
    order_id = shop.settled(shop.place(shop.product(units=1))["order_id"])["order_id"]
    printed = run(system, "events", "orders", "--limit", "100000")
    assert printed.exit_code == 0
    commits = [json.loads(line) for line in printed.output.splitlines()]
    mine = [commit for commit in commits if commit["aggregate"] == order_id]
    assert [commit["version"] for commit in mine] == [1, 2, 3, 4]
    assert [event["type"] for commit in mine for event in commit["events"]] == [
        "OrderPlaced",
        "OrderReserved",
        "OrderPaid",
        "OrderShipped",
    ]
    assert len(run(system, "events", "orders", "--limit", "2").output.splitlines()) == 2
    behind = str(commits[-1]["position"] - 1)
    assert run(system, "events", "orders", "--after", behind).output.splitlines()
    state = run(system, "inspect", "orders", order_id)
    assert json.loads(state.output) == {"aggregate": order_id, "version": 4, "state": {"type": "Shipped"}}
    for as_of, kind in (("1", "Placed"), ("2", "Reserved"), ("3", "Paid"), ("2999-01-01T00:00:00Z", "Shipped")):
        state = run(system, "inspect", "orders", order_id, "--as-of", as_of)
        assert json.loads(state.output)["state"]["type"] == kind
    assert run(system, "inspect", "orders", order_id, "--as-of", "5").exit_code == 1
    assert run(system, "inspect", "orders", order_id, "--as-of", "soon").exit_code == 2
    unknown = run(system, "inspect", "orders", "nothing")
    assert unknown.exit_code == 1
    assert "nothing ever happened" in unknown.output


def test_a_timeline_is_printed(system: System, shop: Shop) -> None:
    order_id = shop.settled(shop.place(shop.product(units=1))["order_id"])["order_id"]
    shop.system.quiet()
    printed = run(system, "replay", order_id)
    assert printed.exit_code == 0
    assert re.search(r"^ OrderPlaced +- +0\.0 ms", printed.output, re.MULTILINE), printed.output
    assert re.search(r"^ [├└]─ CheckoutAdvanced +[\d.]+ ms", printed.output, re.MULTILINE), printed.output
    assert "the longest wait" in printed.output
    for event in ("OrderPlaced", "StockReserved", "PaymentCaptured", "ShipmentPickedUp", "OrderShipped"):
        assert event in printed.output
    commits = json.loads(run(system, "replay", order_id, "--json").output)
    served = shop.http.get(f"/v1/orders/{order_id}/timeline").json()
    assert commits == served["items"]
    unknown = run(system, "replay", "nothing")
    assert (unknown.exit_code, "nothing" in unknown.output) == (1, True)


def test_the_doctor_finds_every_log_whole(system: System, shop: Shop) -> None:
    shop.settled(shop.place(shop.product(units=1))["order_id"])
    found = json.loads(run(system, "doctor", "--json").output)
    assert list(found) == [each.name for each in LOGS]
    assert found["orders"]["aggregates"] >= 1
    spoken = run(system, "doctor")
    assert (spoken.exit_code, "every log is whole" in spoken.output) == (0, True)
