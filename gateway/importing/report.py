"""An import's result for people (tables) and for programs (one JSON object)."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from gateway.importing.differences import Line, Table, shown
from gateway.importing.folder import ImportResult

LISTED_MAX = 50
"""Bad rows, refusals and differences that are listed each; `--json` has them all."""


def as_json(result: ImportResult) -> str:
    """The whole result. Figures of tables that are money are in cents, as `columns` says."""
    whole = {"ok": result.ok, "equal": result.reconciliation.equal, **msgspec.to_builtins(result)}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()


def render(result: ImportResult, console: Console) -> None:
    """What was sent, every table, and whatever is wrong, the verdict last."""
    sent, compared = result.sent, result.reconciliation
    answered = sent.stored + sent.repeated + sent.unchanged
    console.print(
        f"{result.orders:,} orders, {result.products:,} products, {result.customers:,} customers and"
        f" {result.reviews:,} reviews; {answered:,} commands in {result.send_s:.1f} s"
        f" ({answered / max(result.send_s, 1e-3):,.0f}/s): {sent.stored:,} written,"
        f" {sent.repeated + sent.unchanged:,} were so already"
        + (f", {sent.retries:,} sent again after trouble" if sent.retries else ""),
        soft_wrap=True,
    )
    if sent.kept:
        console.print(f"{sent.kept:,} products and customers were there before, and stay as they are")
    if result.unsold:
        console.print(f"{result.unsold:,} products were never sold: without a price they are left out")
    if result.unreviewed:
        reason = "of orders that did not arrive or are empty, or a second one of an order, or a person's of a product"
        console.print(f"{result.unreviewed:,} reviews are left out: {reason}", soft_wrap=True)
    if compared.others:
        console.print(f"{compared.others:,} other orders are in the read models, and not in what follows")
    for table in compared.tables:
        console.print(_rendered(table))
    _listed(console, f"{len(result.bad):,} bad rows were skipped", [str(row) for row in result.bad], "yellow")
    _listed(console, f"{len(sent.refusals):,} were refused", [str(refusal) for refusal in sent.refusals], "red")
    _listed(
        console,
        f"{len(compared.differences):,} differences",
        [str(difference) for difference in compared.differences],
        "red",
    )
    if result.ok:
        console.print(f"[green]Reconciled[/]: {compared.orders:,} orders, equal to the cent")
    elif compared.equal:
        console.print("[red]Not all was taken[/], see what was refused; the rest is equal to the cent")
    else:
        console.print("[red]CSV and read models differ[/], see above")


def _listed(console: Console, title: str, lines: list[str], colour: str) -> None:
    if not lines:
        return
    console.print(f"[{colour} bold]{title}[/]:")
    for line in lines[:LISTED_MAX]:
        console.print(f"  {escape(line)}", soft_wrap=True, highlight=False)
    if len(lines) > LISTED_MAX:
        console.print(f"  and {len(lines) - LISTED_MAX:,} more (--json lists all)")


def _rendered(table: Table) -> RichTable:
    shows = RichTable(title=f"by {table.by}", title_justify="left", caption_justify="left")
    shows.add_column(table.by)
    for column in table.columns:
        shows.add_column(column, justify="right")
    shows.add_column("")
    for line in table.lines:
        shows.add_row(escape(line.key), *(_cell(table, line, name) for name in table.columns), _verdict(table, line))
    total = Line("all", _total(table, "csv"), _total(table, "read_model"))
    shows.add_section()
    shows.add_row(total.key, *(_cell(table, total, name) for name in table.columns), _verdict(table, total))
    if table.by == "category":
        shows.caption = "an order counts once in each of its categories"
    return shows


def _cell(table: Table, line: Line, column: str) -> str:
    kind = table.columns[column]
    csv, read_model = line.csv.get(column, 0), line.read_model.get(column, 0)
    if csv == read_model:
        return shown(csv, kind)
    return f"[red]{shown(read_model, kind)}\nCSV {shown(csv, kind)}[/]"


def _verdict(table: Table, line: Line) -> str:
    same = all(line.csv.get(column, 0) == line.read_model.get(column, 0) for column in table.columns)
    return "[green]=[/]" if same else "[red]differs[/]"


def _total(table: Table, side: str) -> dict[str, int]:
    return {column: sum(getattr(line, side).get(column, 0) for line in table.lines) for column in table.columns}
