"""How a text is read before and after trimming a vocabulary: counts, the share of [UNK], and what changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.distill.corpus import Corpus
from edgebert.distill.encoder import load_tokenizer
from edgebert.progress import Progress

STRANGE = 0.01  # a larger share of [UNK] than this is a warning
_MEASURED, _CHUNK, _GLANCED = 50_000, 8192, 2000


@dataclass(frozen=True)
class Reading:
    """How a trimmed vocabulary reads some texts.

    texts: how many were read. unknown_before, unknown: the share of [UNK] among their tokens. changed: the share of
    texts that are read into other tokens than before.
    """

    texts: int
    unknown_before: float
    unknown: float
    changed: float


@dataclass(frozen=True)
class Trimming:
    """What was kept: tokens before and after, and how the counted and the held-out texts are read.

    per_character: tokens before for each character that is no blank; above 1 they are pieces of characters.
    """

    tokens_before: int
    tokens: int
    per_character: float
    corpus: Reading
    held_out: Reading

    @property
    def warning(self) -> str:
        """What is strange about the text, "" when nothing."""
        if not _strange(self.corpus.unknown_before, self.per_character):
            return ""
        return (
            f"{100 * self.corpus.unknown_before:.1f} % of the text's tokens are [UNK] with the whole vocabulary, and "
            f"{100 * self.corpus.unknown:.1f} % with the trimmed one; there are {self.per_character:.2f} tokens a "
            "character: is the text in a language of the model?"
        )


@dataclass(frozen=True)
class Foreign:
    """How a model reads a corpus. unknown: the share of [UNK] among the tokens. per_character: see `Trimming`."""

    unknown: float
    per_character: float

    @property
    def warning(self) -> str:
        """What is strange about the text, "" when nothing."""
        if not _strange(self.unknown, self.per_character):
            return ""
        return (
            f"{100 * self.unknown:.1f} % of the text's tokens are [UNK] to the teacher, and there are "
            f"{self.per_character:.2f} tokens a character: is the text in a language of the model?"
        )


def foreign(model: Bundle, text: Corpus) -> Foreign:
    """How `model` reads an even choice of the corpus' texts."""
    tokenizer = load_tokenizer(model)
    rows = np.unique(np.linspace(0, len(text) - 1, min(len(text), _GLANCED)).astype(np.int64))
    size = 1 + max(tokenizer.backend.get_vocab(with_added_tokens=True).values())
    counts, characters = count_tokens(model, text, rows, size=size, progress=Progress())
    unknown = tokenizer.unknown_id
    lost = 0 if unknown is None else int(counts[unknown])
    return Foreign(lost / max(int(counts.sum()), 1), int(counts.sum()) / max(characters, 1))


def _strange(unknown: float, per_character: float) -> bool:
    """Whether a text with that share of [UNK], and so many tokens a character, is hardly in a language of the model."""
    return unknown > STRANGE or per_character > 1


def count_tokens(
    model: Bundle, text: Corpus, rows: NDArray[np.int64], *, size: int, progress: Progress
) -> tuple[NDArray[np.int64], int]:
    """How often those texts have each of `size` ids, without the special tokens, and their characters but blanks."""
    tokenizer, counts, characters = load_tokenizer(model), np.zeros(size, np.int64), 0
    for chunk in _chunks(text, rows):
        ids = [tokens.ids for tokens in tokenizer(chunk)]
        counts += np.bincount(np.concatenate(ids).astype(np.int64), minlength=size)
        characters += sum(len(line) - line.count(" ") for line in chunk)
        progress.advance(len(chunk))
    frame = np.bincount(np.asarray(tokenizer([""])[0].ids, np.int64), minlength=size)  # special tokens
    return counts - len(rows) * frame, characters


def read(
    model: Bundle, smaller: Bundle, kept: NDArray[np.int64], text: Corpus, rows: NDArray[np.int64], unknown: int | None
) -> Reading:
    """How the tokenizers of `model` and of `smaller`, which has the ids `kept`, read those texts.

    unknown: the id of [UNK] in `model`. Of many texts an even choice is read.
    """
    if len(rows) > _MEASURED:
        rows = rows[np.linspace(0, len(rows) - 1, _MEASURED).astype(np.int64)]
    before, after = load_tokenizer(model), load_tokenizer(smaller)
    frame = len(before([""])[0].ids)
    changed = total = total_before = lost = lost_before = 0
    for chunk in _chunks(text, rows):
        for old, new in zip(before(chunk), after(chunk), strict=True):
            back = kept[new.ids].tolist()
            changed += back != old.ids
            total, total_before = total + len(back) - frame, total_before + len(old.ids) - frame
            if unknown is not None:
                lost, lost_before = lost + back.count(unknown), lost_before + old.ids.count(unknown)
    return Reading(len(rows), lost_before / max(total_before, 1), lost / max(total, 1), changed / len(rows))


def describe(facts: dict[str, Any]) -> str:
    """The facts of a `Trimming` in words, for the screen."""
    lines = [f"vocabulary: {facts['tokens']} of {facts['tokens_before']} tokens kept"]
    for name, key in (("text counted", "corpus"), ("text held out", "held_out")):
        found = facts[key]
        lines.append(
            f"{name}: {100 * found['changed']:.2f} % of {found['texts']} texts are read into other tokens, "
            f"[UNK] {100 * found['unknown']:.3f} % of tokens (before {100 * found['unknown_before']:.3f} %)"
        )
    return "\n".join(lines + ([f"warning: {facts['warning']}"] if facts["warning"] else []))


def _chunks(text: Corpus, rows: NDArray[np.int64]) -> Iterator[list[str]]:
    for start in range(0, len(rows), _CHUNK):
        yield [text[r] for r in rows[start : start + _CHUNK].tolist()]
