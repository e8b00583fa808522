"""What a process imports is most of what its start takes: no part loads a library that another one needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIBRARIES = ("aiosmtplib", "gateway.compose", "granian", "httpx", "litestar", "nats", "rich", "strawberry")


@pytest.mark.parametrize(
    ("starting", "needs"),
    [
        ("from gateway.cli.main import tally; tally(['--help'], standalone_mode=False)", ()),
        ("import gateway.cli.up", ("gateway.compose", "nats")),
        ("import gateway.cli.work", ("gateway.compose", "nats")),
        ("import gateway.cli.sandbox", ("granian",)),
        ("import gateway.cli.mail, gateway.cli.token", ()),
        ("import gateway.sandbox.provider, gateway.sandbox.carrier", ("litestar",)),
        (
            "from gateway import compose; from gateway.app import create_app; create_app(); compose.reacting()",
            ("gateway.compose", "litestar", "nats"),
        ),
    ],
)
def test_a_process_imports_what_it_needs(starting: str, needs: tuple[str, ...]) -> None:
    says = f"import sys; print(*(each for each in {LIBRARIES} if each in sys.modules))"
    ended = subprocess.run([sys.executable, "-c", f"{starting}\n{says}"], capture_output=True, text=True, check=True)
    assert tuple(ended.stdout.splitlines()[-1].split()) == needs
