"""The text a default model is trained on: so many sentences of each source, and passages of neighbouring sentences.

    python -m edgebert.distill.defaults.corpus MIX.toml TABLE.tsv.gz... -o corpus.txt

A table has the columns `text` and `source`; rows of one source that follow each other are neighbours. What the mix does
not name is left out: that is how the text of evaluation sets stays out of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from edgebert.errors import DataError, RecipeError
from edgebert.files import new_file
from edgebert.schema import parse, read_toml
from edgebert.texts import read_rows


@dataclass(frozen=True)
class CorpusMix:
    """take: sentences by source, at most, drawn by the seed. passages: the same for passages, each of `join` to
    `join_most` neighbours that together have at most `characters` characters. None of them overlap; where a source has
    fewer than are wanted, its sentences are shuffled and joined again.
    """

    take: dict[str, int]
    passages: dict[str, int] = field(default_factory=dict)
    join: int = 3
    join_most: int = 6
    characters: int = 700
    seed: int = 0

    def __post_init__(self) -> None:
        for name, count in {**self.take, **self.passages}.items():
            if count < 0:
                raise RecipeError(f"{name} = {count}; a number of texts is needed, 0 or more")
        if not 2 <= self.join <= self.join_most:
            raise RecipeError(f"join is {self.join} and join_most {self.join_most}; wanted is 2 <= join <= join_most")


def read_mix(path: Path) -> CorpusMix:
    """The mix in the TOML file `path`. Raises: RecipeError."""
    return parse(CorpusMix, read_toml(path, what="mix", error=RecipeError), where=str(path), error=RecipeError)


def mixed(tables: Sequence[Path], mix: CorpusMix) -> list[str]:
    """The texts of `mix`, in random order. Raises: DataError for a source that the tables do not have."""
    by_source: dict[str, list[str]] = {name: [] for name in (*mix.take, *mix.passages)}
    for table in tables:
        for row in read_rows(table):
            if row["text"] and (texts := by_source.get(row["source"])) is not None:
                texts.append(row["text"])
    if missing := sorted(name for name, texts in by_source.items() if not texts):
        raise DataError(f"no text of the source {missing[0]!r} in {', '.join(map(str, tables))}")
    rng = np.random.default_rng(mix.seed)
    found: list[str] = []
    for name, count in sorted(mix.take.items()):
        texts = by_source[name]
        found += [texts[i] for i in np.sort(rng.permutation(len(texts))[:count])]
    for name, count in sorted(mix.passages.items()):
        sentences = by_source[name]
        passages = _passages(sentences, mix, rng)
        while len(passages) < count:
            more = _passages([sentences[i] for i in rng.permutation(len(sentences))], mix, rng)
            if not more:
                break
            passages += more
        found += [passages[i] for i in np.sort(rng.permutation(len(passages))[:count])]
    return [found[i] for i in rng.permutation(len(found))]


def _passages(sentences: Sequence[str], mix: CorpusMix, rng: np.random.Generator) -> list[str]:
    """Neighbours joined to passages."""
    found, at = [], 0
    while at < len(sentences):
        run = list(sentences[at : at + int(rng.integers(mix.join, mix.join_most + 1))])
        while len(run) > 1 and len(_joined(run)) > mix.characters:
            run.pop()
        if len(run) >= mix.join:
            found.append(_joined(run))
        at += len(run)
    return found


def _joined(sentences: Sequence[str]) -> str:
    """One text of them, with a blank between two unless one of them is Chinese there."""
    found = sentences[0]
    for text in sentences[1:]:
        found += text if _is_chinese(found[-1]) or _is_chinese(text[0]) else f" {text}"
    return found


def _is_chinese(character: str) -> bool:
    """Whether it is a Chinese character, or punctuation as wide as one."""
    return "\u2e80" <= character < "\uac00" or character >= "\uf900"


@click.command(help=__doc__)
@click.argument("mix", type=click.Path(exists=True, path_type=Path))
@click.argument("tables", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
def main(mix: Path, tables: tuple[Path, ...], out: Path) -> None:
    """See the module."""
    texts = mixed(tables, read_mix(mix))
    with new_file(out) as partial:
        partial.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    click.echo(f"{len(texts)} texts, {sum(map(len, texts))} characters")


if __name__ == "__main__":
    main()
