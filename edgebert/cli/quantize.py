"""`edgebert quantize`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgebert.errors import MissingExtraError

if TYPE_CHECKING:
    from edgebert.quantize.stage import Row


@click.command("quantize")
@click.argument("model")
@click.option("--calibration", required=True, multiple=True, help="A file with text like the text to come: lines, "
              "JSONL, CSV, TSV or Parquet, gzip or not; - is standard input.")  # fmt: skip
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The bundle's folder, a new one.")
@click.option("--column", help="The text's column in JSONL, CSV, TSV and Parquet.")
@click.option("--revision", help="The model's revision on the Hub.")
@click.option("--samples", type=click.IntRange(min=8), default=200, show_default=True, help="Calibration texts.")
@click.option("--min-cosine", type=click.FloatRange(0, 1), default=0.97, show_default=True,
              help="Least cosine of int8 to torch fp32 on ordinary text.")  # fmt: skip
@click.option("--min-degenerate", type=click.FloatRange(0, 1), default=0.93, show_default=True,
              help="The same on degenerate text: empty, one word repeated.")  # fmt: skip
@click.option("--min-agreement", type=click.FloatRange(0, 1), default=0.98, show_default=True,
              help="Least Spearman correlation of pairwise similarities with those of fp32.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def command(
    model: str, calibration: tuple[str, ...], out: Path, column: str | None, revision: str | None, samples: int,
    min_cosine: float, min_degenerate: float, min_agreement: float, as_json: bool,
) -> None:  # fmt: skip
    """Write MODEL, a bundle, a Hugging Face folder or a Hub id, as ONNX and OpenVINO files in fp32 and int8.

    Every file is compared with torch fp32 at every length and in several batches; what is below a limit is an error
    and nothing is written.
    """
    try:
        import nncf  # noqa: F401
        import torch  # noqa: F401
    except ImportError as problem:
        raise MissingExtraError(problem.name or "torch", "workshop", "edgebert quantize") from None
    from edgebert.bundle import Bundle
    from edgebert.files import refuse_existing
    from edgebert.progress import TerminalProgress
    from edgebert.quantize.parity import Gates
    from edgebert.quantize.stage import quantize
    from edgebert.quantize.static_int8 import StaticInt8
    from edgebert.schema import plain
    from edgebert.texts import read_texts

    refuse_existing(out)
    with TerminalProgress() as progress:
        _, table = quantize(
            Bundle.from_pretrained(model, revision=revision),
            read_texts(calibration, column=column),
            out,
            int8=StaticInt8(samples=samples),
            gates=Gates(min_cosine, min_degenerate, min_agreement),
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(plain(table), indent=2))
    else:
        _show(table)


def _show(table: list[Row]) -> None:
    from edgebert.table import show

    rows = []
    for row in table:
        parity = row.parity
        near = ["1", "1", "1", "1"]
        if parity is not None:
            near = [f"{v:.5f}" for v in (parity.ordinary_min, parity.ordinary_mean, parity.degenerate_min)]
            near.append(f"{parity.agreement:.4f}")
        rows.append(
            [row.name, f"{row.size_mb:.1f}", *near, f"{row.timing.p50_ms:.2f}", f"{row.timing.sentences_s:.0f}"]
        )
    head = ["artifact", "MB", "cosine min", "mean", "degenerate min", "agreement", "p50 ms", "sentences/s"]
    show(head, rows)
