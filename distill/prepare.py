"""From text to token ids on disk: the sample, what is held out, and the ids that teacher and student read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.distill.alignment import aligned_rows, same_tokens
from edgebert.distill.corpus import Corpus
from edgebert.distill.encoder import load_tokenizer
from edgebert.distill.ragged import Ragged, RaggedWriter
from edgebert.distill.recipe import Recipe
from edgebert.distill.select import select
from edgebert.distill.students import StudentPlan, same_tokenizer
from edgebert.errors import DataError
from edgebert.progress import Progress

MAP_ROWS = 16384  # a rotation that is not trained gets nearer to the teacher up to about so many texts
_CHUNK = 8192


@dataclass(frozen=True)
class Prepared:
    """The sampled text as tokens, one row a text.

    rows: rows to train on. held_out: rows kept back. truncated: texts that were cut at the maximum length. aligned: for
    each row whether teacher and student read it into the same tokens, so that their states can be compared token by
    token; None where they read the same ids in all. left_out: how many texts each rule of `recipe.data` left out.
    other_ids: what further teachers read.
    """

    rows: NDArray[np.int64]
    held_out: NDArray[np.int64]
    student_ids: Ragged
    teacher_ids: Ragged
    truncated: int
    aligned: NDArray[np.bool_] | None
    left_out: dict[str, int]
    other_ids: tuple[Ragged, ...] = ()

    @property
    def aligned_share(self) -> float:
        """The share of the rows to train on that can be compared token by token."""
        return 1.0 if self.aligned is None else float(self.aligned[self.rows].mean())

    def comparable(self) -> NDArray[np.int64]:
        """Those of the rows to train on that can be compared token by token."""
        return self.rows if self.aligned is None else self.rows[self.aligned[self.rows]]


@dataclass(frozen=True)
class Drawn:
    """The sample: `chosen` rows of the corpus, ascending; `rows` and `held_out` are places in it, to train on and kept
    back. fitting: all rows that no rule left out. left_out: how many texts each rule left out."""

    fitting: NDArray[np.int64]
    chosen: NDArray[np.int64]
    rows: NDArray[np.int64]
    held_out: NDArray[np.int64]
    left_out: dict[str, int]


def prepare(
    text: Corpus,
    drawn: Drawn,
    teacher: Bundle,
    plan: StudentPlan,
    folder: Path,
    progress: Progress,
    others: Sequence[Bundle] = (),
) -> Prepared:
    """The text that was drawn, tokenized into `folder`; what is there already is kept.

    A teacher with prompts ("query: ", "passage: ") sees the lines with each of its prompts in turn, so that the student
    learns all of them; so does each of the `others`, further teachers, with its own.
    """
    length = min(plan.manifest.max_length, teacher.manifest.max_length)
    shared = same_tokenizer(plan.tokenizer_of, teacher) and plan.manifest.max_length == length
    folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(text, drawn.chosen, prompts_of(teacher), progress)
    truncated = writer.write(plan.tokenizer_of, plan.manifest.max_length, folder / "student")
    if not shared:
        writer.write(teacher, length, folder / "teacher")
    student_ids = Ragged(folder / "student")
    teacher_ids = student_ids if shared else Ragged(folder / "teacher")
    aligned = None if shared else aligned_rows(student_ids, teacher_ids, same_tokens(plan.tokenizer_of, teacher))
    for place, other in enumerate(others):
        longest = min(plan.manifest.max_length, other.manifest.max_length)
        dataclasses.replace(writer, prompts=prompts_of(other)).write(other, longest, folder / f"teacher-{place}")
    other_ids = tuple(Ragged(folder / f"teacher-{place}") for place in range(len(others)))
    return Prepared(
        drawn.rows,
        drawn.held_out,
        student_ids,
        teacher_ids,
        truncated,
        aligned,
        drawn.left_out,
        other_ids,
    )


def draw(text: Corpus, teacher: Bundle, recipe: Recipe, progress: Progress) -> Drawn:
    """The sample of `recipe.data` and what of it is held out, by the seed.

    Without training it is no more than the map into the teacher's space is fitted on, unless the recipe says how many.
    Raises: DataError when there is too little text.
    """
    rng = np.random.default_rng(recipe.training.seed)
    selected = select(text, recipe.data, teacher, progress)
    chosen, most = selected.rows, recipe.data.max_sentences
    if most is None and not recipe.training.epochs:
        most = MAP_ROWS + recipe.data.held_out
    if most is not None and most < len(chosen):
        chosen = np.sort(rng.choice(chosen, most, replace=False))
    held = min(recipe.data.held_out, len(chosen) // 5)
    if held < 2 or len(chosen) - held < recipe.training.batch_size:
        raise DataError(
            f"{len(chosen)} distinct sentences{_told(selected.counts)} are too few: one in five is held out "
            f"(at least 2), and the rest must fill a batch of {recipe.training.batch_size}; give more text or a "
            "smaller batch size"
        )
    order = rng.permutation(len(chosen))
    return Drawn(selected.rows, chosen, np.sort(order[held:]), np.sort(order[:held]), selected.counts)


def prompted(text: Corpus, row: int, prompts: tuple[str, ...]) -> str:
    """Text `row` as a model with those prompts reads it: with each of them in turn."""
    return prompts[row % len(prompts)] + text[row]


def prompts_of(teacher: Bundle) -> tuple[str, ...]:
    """The prompts of `teacher`, or the empty one."""
    return tuple(dict.fromkeys(teacher.manifest.prompts.values())) or ("",)


def _told(counts: dict[str, int]) -> str:
    left = sum(counts.values())
    return f" ({left} were left out by the rules in [data])" if left else ""


@dataclass(frozen=True)
class _Writer:
    text: Corpus
    rows: NDArray[np.int64]
    prompts: tuple[str, ...]
    progress: Progress

    def write(self, model: Bundle, max_length: int, path: Path) -> int:
        """Writes the ids of all rows to `path`; returns how many texts were cut."""
        done = path.with_suffix(".done")
        if done.exists():
            return int(done.read_text(encoding="ascii"))
        tokenizer, truncated = load_tokenizer(model, max_length=max_length), 0
        self.progress.start("tokenizing", len(self.rows))
        with RaggedWriter(path, np.int32) as ids:
            for start in range(0, len(self.rows), _CHUNK):
                chunk = self.rows[start : start + _CHUNK].tolist()
                for tokens in tokenizer([prompted(self.text, r, self.prompts) for r in chunk]):
                    ids.append(tokens.ids)
                    truncated += tokens.truncated
                self.progress.advance(len(chunk))
        done.write_text(str(truncated), encoding="ascii")
        return truncated
