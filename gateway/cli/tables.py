"""Tables as they are printed: as wide as the terminal, and never cut off in a pipe or a file."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

WIDTH = 160
"""Where there is no terminal."""


def show(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)
