"""From a label for every token to stretches of text.

Labels are those of BIO (B-X begins a stretch, I-X goes on, O is outside), of BILOU, BIOES and BMES (L- or E- ends one,
U- or S- is one alone, M- goes on), or plain names, of which neighbours are one stretch. S-Bahn and E-mail are names,
too: see `names_of`.
Source: Ramshaw and Marcus 1995, arXiv:cmp-lg/9505040; Ratinov and Roth 2009, "Design challenges and misconceptions in
named entity recognition".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgebert.tasks.results import Tag

OUTSIDE = "O"
_PREFIXES = ("B", "I", "L", "E", "U", "S", "M")
_BEGINS, _ENDS = ("B", "U", "S"), ("L", "E", "U", "S")


def names_of(labels: Iterable[str]) -> frozenset[str]:
    """The names in all labels of a model, or of the examples that it learns from, without O.

    Labels have prefixes where one begins with B- or I-, or where all begin with S- or all with U-, as where every
    stretch is one word. Else all are names as they are: what never begins cannot end (E-, L-) or go on (M-).
    """
    found = frozenset(labels) - {OUTSIDE}
    prefixes = {split_label(label)[0] for label in found}
    if prefixes & {"B", "I"} or prefixes in ({"S"}, {"U"}):
        return frozenset(split_label(label)[1] for label in found)
    return found


def split_label(label: str, names: Collection[str] = ()) -> tuple[str, str]:
    """Prefix and name: ("B", "PER") of "B-PER"; ("", "PER") of a plain name; ("", "O") of what is outside.

    names: those that there are; S-Bahn is no Bahn where it is one of them. B- and I- are always prefixes.
    """
    prefix, dash, name = label.partition("-")
    if not (dash and name) or prefix not in _PREFIXES or (prefix not in ("B", "I") and label in names):
        return "", label
    return prefix, name


def merged(
    text: str, offsets: Sequence[tuple[int, int]], probabilities: NDArray[np.float32], labels: Sequence[str]
) -> list[Tag]:
    """The stretches of `text` that the tokens' most probable labels make, in the order of the text.

    A token begins a new stretch where its label says so (B, U, S), where the name differs from the token's before, or
    where that one ended (L, E, U, S); I after O begins one, too, as models say that now and then.
    Shape: offsets one pair of places for each token, special tokens left out; probabilities (tokens, labels).
    """
    found: list[Tag] = []
    open_tokens: list[int] = []
    name_of, ended, names = "", False, names_of(labels)
    best = probabilities.argmax(axis=1) if len(probabilities) else np.zeros(0, np.int64)

    def close() -> None:
        if open_tokens:
            start, end = offsets[open_tokens[0]][0], offsets[open_tokens[-1]][1]
            score = float(np.mean([probabilities[i, best[i]] for i in open_tokens]))
            found.append(Tag(start, end, text[start:end], name_of, score))
            open_tokens.clear()

    for token, label in enumerate(labels[i] for i in best):
        prefix, name = split_label(label, names)
        if name == OUTSIDE:
            close()
            continue
        if ended or prefix in _BEGINS or name != name_of or not open_tokens:
            close()
        open_tokens.append(token)
        name_of, ended = name, prefix in _ENDS
    close()
    return found


def as_bio(labels: Sequence[str], names: Collection[str] = ()) -> tuple[str, ...]:
    """Labels of any of those schemes in BIO in which every stretch begins with B.

    IOB1, whose stretches begin with I, and plain names become that, too. names: see `split_label`.
    """
    found: list[str] = []
    before, ended = OUTSIDE, False
    for label in labels:
        prefix, name = split_label(label, names)
        if name == OUTSIDE:
            found.append(OUTSIDE)
        else:
            begins = prefix in _BEGINS or name != before or ended
            found.append(f"{'B' if begins else 'I'}-{name}")
        before, ended = name, prefix in _ENDS
    return tuple(found)
