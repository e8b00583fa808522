"""The `tally` command: its groups of verbs, and how errors end."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import NamedTuple

import click

EXIT_INTERRUPTED = 130


class Verb(NamedTuple):
    """`at`: its module and its name there, imported when it is called."""

    at: str
    summary: str


VERBS = {
    "up": Verb("up:up", "Start everything in the foreground."),
    "demo": Verb("demo:demo", "Drive orders through a fresh system, show what happened, stop everything."),
    "serve": Verb("serve:serve", "Serve the HTTP API alone; broker and workers run elsewhere."),
    "work": Verb("work:work", "Run workers, all of them or a part or a service only."),
    "provider": Verb("sandbox:provider", "Run the simulated payment provider."),
    "carrier": Verb("sandbox:carrier", "Run the simulated carrier."),
    "certs": Verb("certs:certs", "Make a private authority, and certificates for TLS."),
    "streams": Verb("certs:streams", "Make every stream of this system where there is none."),
    "mail": Verb("mail:mail", "Show the mail that went out."),
    "token": Verb("token:token", "Print a token for the HTTP API."),
    "import": Verb("importing:import_", "Import a folder in the format of the Olist dataset, and reconcile it."),
    "rebuild": Verb("rebuilding:rebuild", "Rebuild a read model beside the live one, compare the two, switch."),
    "rollback": Verb("rebuilding:rollback", "Make the build that was live before the live one again."),
    "snapshot": Verb("snapshots:snapshot", "Copy the read models, each with its position, into a folder."),
    "restore": Verb("snapshots:restore", "Start a new data folder with the read models of a snapshot."),
    "projections": Verb("read:projections", "Show every read model: its position, its lag, what it parked."),
    "parked": Verb("parked:parked", "Show every parked key, and what is wrong with it."),
    "redrive": Verb("parked:redrive", "Deal again with what waits for a parked key, in order."),
    "discard": Verb("parked:discard", "Give up the first commit that waits for a parked key, for ever."),
    "services": Verb("services:services", "Show which processes are there, and who owns which partition."),
    "processes": Verb("processes:processes", "Show the checkouts: where each is, since when, and what it waits for."),
    "events": Verb("read:events", "Print the commits of a domain's log, one JSON object a line."),
    "inspect": Verb("past:inspect", "Print the state of one aggregate, now or as of then."),
    "replay": Verb("past:replay", "Print the timeline of an order: every commit that it caused in any log."),
    "mesh": Verb("mesh:mesh", "Check and show how calls to each destination are made."),
    "doctor": Verb("doctor:doctor", "Check that every log is whole, and still what was read of it."),
    "bench": Verb("bench:bench", "Run a benchmark."),
    "scenario": Verb("scenario:scenario", "Run a scenario, with and without what helps."),
}


class Verbs(click.Group):
    """A verb is imported when it is called: a worker that was killed is back the sooner, and the list of all of them
    takes none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name].at.partition(":")
        command: click.Command = getattr(import_module(f"gateway.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.summary) for name, verb in VERBS.items()])


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
    except Exception as error:
        from gateway.cli.endings import code_of  # Knows every part of the system.

        code = code_of(error)
        if code is None:
            raise
        for line in str(error).splitlines():
            click.echo(f"tally: {line}", err=True)
        sys.exit(code)


if __name__ == "__main__":
    main()
