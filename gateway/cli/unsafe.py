"""The `--unsafe-...` flags: what the start-up check of the broker is told to let pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import click
import msgspec

from bus.servers.exceptions import EXCEPTIONS
from gateway.settings import Settings, from_environment

Given = ParamSpec("Given")
Result = TypeVar("Result")


def settings_with_flags(verb: Callable[Concatenate[Settings, Given], Result]) -> Callable[Given, Result]:
    """Give a verb its settings: the environment's, with the flags of this call."""

    @wraps(verb)
    def flagged(*arguments: Given.args, **options: Given.kwargs) -> Result:
        named = {name for name in EXCEPTIONS if options.pop(_parameter(name))}
        settings = from_environment()
        settings = msgspec.structs.replace(settings, unsafe=settings.unsafe | named)
        return verb(settings, *arguments, **options)

    command: Callable[Given, Result] = flagged
    for name, meaning in reversed(EXCEPTIONS.items()):
        command = click.option(f"--unsafe-{name}", _parameter(name), is_flag=True, help=meaning)(command)
    return command


def _parameter(name: str) -> str:
    return f"unsafe_{name.replace('-', '_')}"
