"""Tables on the screen: text on the left, numbers on the right."""

from __future__ import annotations

from collections.abc import Sequence


def show(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: Sequence[str] = ()) -> None:
    """Prints a table on standard output, as wide as it is; the first column and those of `texts` are text."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(*head, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "left" if column.header in texts else "right"
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, Measurement.get(console, console.options.update(width=1000), table).maximum)
    console.print(table)
