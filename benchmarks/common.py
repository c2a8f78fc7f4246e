"""What the benchmarks share: where the data lies."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, default=os.environ.get("EDGEBERT_DATA"), help="default: EDGEBERT_DATA")
    made.add_argument("--teacher", required=True, help="folder or Hub id of sentence-transformers/all-MiniLM-L6-v2")
    return made


def data_file(folder: Path | None, name: str) -> Path:
    """The file `name` of the data folder; ends the program with a clear message when it is missing."""
    if folder is None:
        sys.exit("say where the data sets lie: --data FOLDER or EDGEBERT_DATA")
    path = Path(folder) / name
    if not path.exists():
        sys.exit(f"{path} is missing; this benchmark needs it")
    return path
