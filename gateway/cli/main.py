"""The `tally` command: its groups of verbs, and how errors end."""

from __future__ import annotations

import signal
import sys
from importlib import import_module

import click

from bus.calls.mesh import MeshInvalid
from bus.logs.log import LogDamaged
from bus.logs.streams import StreamMisconfigured
from bus.servers.broker import BrokerFailed, BrokerMissing
from bus.servers.connection import BrokerUnreachable
from bus.servers.safety import BrokerUnsafe
from gateway.runtime.running import CannotStart, WorkerFailed
from gateway.runtime.supervisor import ChildFailed
from gateway.settings import SettingsError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CANNOT_START = 3
EXIT_INTERRUPTED = 130

_CANNOT_START = (
    CannotStart,
    ChildFailed,
    BrokerMissing,
    BrokerFailed,
    BrokerUnreachable,
    BrokerUnsafe,
    StreamMisconfigured,
)

VERBS = {
    "up": "up:up",
    "demo": "demo:demo",
    "serve": "serve:serve",
    "work": "work:work",
    "provider": "serve:provider",
    "mail": "mail:mail",
    "carrier": "serve:carrier",
    "token": "read:token",
    "import": "importing:import_",
    "rebuild": "rebuilding:rebuild",
    "rollback": "rebuilding:rollback",
    "snapshot": "snapshots:snapshot",
    "restore": "snapshots:restore",
    "projections": "read:projections",
    "parked": "parked:parked",
    "redrive": "parked:redrive",
    "discard": "parked:discard",
    "services": "services:services",
    "processes": "processes:processes",
    "events": "read:events",
    "inspect": "past:inspect",
    "replay": "past:replay",
    "mesh": "mesh:mesh",
    "doctor": "doctor:doctor",
    "bench": "bench:bench",
    "scenario": "scenario:scenario",
}
"""Every verb, and where it is. Imported when it is called: a worker that was killed is back the sooner."""


class Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"gateway.cli.{module}"), name)
        return command


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tallystream", prog_name="tally")
def tally() -> None:
    """Tallystream: an event-sourced commerce backbone on NATS JetStream.

    Exit codes: 0 done, 1 failed or differs, 2 wrong usage or settings, 3 cannot start, 130 interrupted.
    """


def main() -> None:
    """What the installed command runs: known troubles end in one line and a code that means something."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ends like Ctrl-C: what was started is stopped.
    try:
        tally(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (SettingsError, MeshInvalid) as error:
        sys.exit(_tell(error, EXIT_USAGE))
    except _CANNOT_START as error:
        sys.exit(_tell(error, EXIT_CANNOT_START))
    except (LogDamaged, WorkerFailed) as error:
        sys.exit(_tell(error, EXIT_FAILED))


def _tell(error: Exception, code: int) -> int:
    for line in str(error).splitlines():
        click.echo(f"tally: {line}", err=True)
    return code


if __name__ == "__main__":
    main()
