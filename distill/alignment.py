"""Which texts two tokenizers read into the same tokens, so that states can be compared token by token.

Token ids may differ: a trimmed vocabulary numbers its tokens anew, and MPNet's is BERT's with four more in front. So
tokens are compared by what they are: ordinary ones by their string, those around every text by their place, and the
ones for unknown text and padding by their role.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.distill.encoder import load_tokenizer
from edgebert.distill.ragged import Ragged

_NONE = -1


def same_tokens(student: Bundle, teacher: Bundle) -> NDArray[np.int64]:
    """The teacher's id of each token of the student, -1 where it has none. Shape: (largest student id + 1,)."""
    ours, theirs = _names(student), _names(teacher)
    ids = {name: i for i, name in theirs.items()}
    found = np.full(max(ours) + 1, _NONE, np.int64)
    for i, name in ours.items():
        found[i] = ids.get(name, _NONE)
    return found


def aligned_rows(student_ids: Ragged, teacher_ids: Ragged, same: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each text is as many and the same tokens for both. same: see `same_tokens`. Shape: (texts,)."""
    found: NDArray[np.bool_] = student_ids.lengths == teacher_ids.lengths
    for row in np.flatnonzero(found).tolist():
        found[row] = np.array_equal(same[student_ids[row]], teacher_ids[row])
    return found


def _names(model: Bundle) -> dict[int, str | tuple[str, int]]:
    """For each id the token's string, or its role, which no string equals."""
    tokenizer = load_tokenizer(model)
    names: dict[int, str | tuple[str, int]] = {i: t for t, i in tokenizer.backend.get_vocab().items()}
    names[model.manifest.pad_token_id] = ("padding", 0)
    if (unknown := tokenizer.unknown_id) is not None:
        names[unknown] = ("unknown", 0)
    for place, token in enumerate(tokenizer([""])[0].ids):
        names[token] = ("around the text", place)
    return names
