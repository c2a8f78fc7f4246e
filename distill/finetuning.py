"""Fine-tuning: a base model and labelled examples in, a bundle that does a task, or several, out.

Source: Devlin et al. 2019, arXiv:1810.04805, for heads over one encoder; Liu et al. 2019, arXiv:1901.11504, for several
tasks on one encoder, batch by batch; Guo et al. 2017, arXiv:1706.04599, for the temperature.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn

from edgebert.bundle import Bundle
from edgebert.distill.chinese_chars import chinese_chars_apart
from edgebert.distill.course import Course, reader_of, require_files, run_folder
from edgebert.distill.encoder import load_encoder
from edgebert.distill.heads import head_over
from edgebert.distill.history import require_figures
from edgebert.distill.recipe import Training
from edgebert.distill.students import name_of, without_heads
from edgebert.distill.task_model import TaskModel
from edgebert.distill.teacher import fingerprint, reading_of
from edgebert.distill.tensorboard import require_tensorboard
from edgebert.errors import RecipeError
from edgebert.files import require_writable, sha256
from edgebert.manifest import Head
from edgebert.pretrained import position_limit
from edgebert.progress import Progress
from edgebert.schema import plain
from edgebert.tasks.task import Lesson, Task, renamed

SETTINGS = Training(
    epochs=3, batch_size=32, learning_rate=5e-5, warmup=0.1, freeze_embeddings=False
)  # Devlin et al. 2019, A.3

_SHOWN = 12  # labels


@dataclass(frozen=True)
class Assignment:
    """A task with its files. name: of its head where there are several. columns: see `Task.read`."""

    task: Task
    train: tuple[str, ...]
    dev: tuple[str, ...]
    name: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


def finetune(
    base: Bundle, assignments: Sequence[Assignment], out: Path, settings: Training = SETTINGS, *,
    max_length: int | None = None, class_weights: bool = False, tokenize_chinese_chars: bool = False,
    work: Path | None = None, progress: Progress | None = None,
) -> Bundle:  # fmt: skip
    """`base` with a new head for each assignment, all of it trained on their examples, as a new bundle in `out`.

    max_length: tokens that the model reads at once, special ones too; by default as many as the base. class_weights:
    rare labels count as much as frequent ones. tokenize_chinese_chars: each Chinese character is a token, as BERT's own
    tokenizer has it, also where the base's has tokens that go over several, in which no name or answer can begin or
    end; see `edgebert.distill.chinese_chars`. work: where checkpoints lie, by default the cache: in a folder named by
    all that the run depends on, so that the same call goes on after a break. Figures are written beside `out`. The dev
    files measure, stop early (`settings.patience`) and fit the temperature of probabilities.
    Raises: DataError for files that cannot be used, RecipeError, BundleError; EdgeBertError when another process trains
    the same.
    """
    if settings.qat:
        raise RecipeError(f"training.qat is {settings.qat}; fine-tuning imitates no int8: set it to 0")
    if settings.tensorboard is not None:
        require_tensorboard()
    require_files(path for one in assignments for path in (*one.train, *one.dev))
    base = reading(base, max_length)
    with chinese_chars_apart(base) if tokenize_chinese_chars else contextlib.nullcontext(base) as read:
        return _finetune(read, assignments, out, settings, class_weights, work, progress)


def _finetune(
    base: Bundle, assignments: Sequence[Assignment], out: Path, settings: Training, class_weights: bool,
    work: Path | None, progress: Progress | None,
) -> Bundle:  # fmt: skip
    """See `finetune`. base: as it is read."""
    began, state = time.monotonic(), PartialState(cpu=not torch.cuda.is_available())
    if progress is None or not state.is_main_process:
        progress = Progress()
    if state.is_main_process:
        require_writable(out)
        require_figures(out)
    course, counts, unread = _course(base, assignments)
    if class_weights and not any(head.labels for head in course.heads):
        raise RecipeError("--class-weights is for labels, and what is trained here has none: leave it out")
    lineage = _lineage(base, assignments, counts, course, settings, class_weights)
    key = run_name(lineage, reading_of(base), state.num_processes)
    with run_folder(key, work, state) as folder, contextlib.ExitStack() as held:
        model = _model(course, settings, class_weights)
        progress.say(_described(course, counts))
        for head, what in zip(course.heads, unread, strict=True):
            if what:
                progress.say(f"{head.name}: {what}")

        def measure(*, int8: bool = False) -> float:
            return course.score(model.encoder)

        trained = course.learn(model, settings, folder, measure, course.metric, progress, state, began, held)
        if state.is_main_process:
            heads = course.calibrated(model.encoder)
            course.write(model.encoder, heads, course.scores(model.encoder, heads), lineage, trained, out)
    return Bundle.open(out)


def reading(base: Bundle, max_length: int | None) -> Bundle:
    """The base as a model that reads so many tokens at once. Raises: RecipeError for more than it has places for."""
    if max_length is None:
        return base
    limit = position_limit(json.loads((base.root / "config.json").read_text(encoding="utf-8")))
    if not 8 <= max_length <= limit:
        raise RecipeError(
            f"max_length is {max_length}; it must be within 8 and {limit}, the positions of {base.source}"
        )
    return dataclasses.replace(base, manifest=dataclasses.replace(base.manifest, max_length=max_length))


def _course(base: Bundle, assignments: Sequence[Assignment]) -> tuple[Course, list[int], list[str]]:
    """What is learnt, how many examples each task has, and what is left out of them, in words."""
    names = [one.name for one in assignments]
    if len(assignments) > 1 and len({name.lower() for name in names}) < len(names):  # their folders are named so
        raise RecipeError(
            f"the tasks are called {', '.join(map(repr, names))}; each needs a name of its own, whatever its case"
        )
    reader = reader_of(base)
    examples = [one.task.read(one.train, one.columns) for one in assignments]
    heads = [one.task.head(some) for one, some in zip(assignments, examples, strict=True)]
    if len(assignments) > 1:
        heads = [renamed(head, one.name, f"heads/{one.name}") for one, head in zip(assignments, heads, strict=True)]
    lessons = [
        one.task.lessons(reader, some, head) for one, some, head in zip(assignments, examples, heads, strict=True)
    ]
    dev = [one.task.read(one.dev, one.columns) for one in assignments]
    course = Course(base, [one.task for one in assignments], heads, lessons, dev, [one.dev for one in assignments])
    unread = [
        one.task.unread(its, some, base.manifest.max_length)
        for one, its, some in zip(assignments, lessons, examples, strict=True)
    ]
    return course, [len(some) for some in examples], unread


def _lineage(
    base: Bundle, assignments: Sequence[Assignment], counts: Sequence[int], course: Course, settings: Training,
    class_weights: bool,
) -> dict[str, object]:  # fmt: skip
    """Where the model comes from, without how it went."""
    return {
        "base": name_of(base),
        "base_sha256": fingerprint(base),
        "tasks": [
            {
                "name": head.name, "task": head.task, "train": count, "dev": len(dev),
                "sha256": [[sha256(Path(f)) for f in part] for part in (one.train, one.dev)],
                **({"columns": dict(one.columns)} if one.columns else {}),
            }
            for one, head, count, dev in zip(assignments, course.heads, counts, course.dev, strict=True)
        ],
        "max_length": base.manifest.max_length,
        "class_weights": class_weights,
        "attention_dropout": 0.0,
        "training": plain(dataclasses.replace(settings, tensorboard=None)),
        "versions": versions(),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Of what trains, for lineage."""
    return {name: metadata.version(name) for name in ("edgebert", "torch", "transformers")}


def run_name(*facts: object) -> str:
    """The name of a run's folder: a hash of all that it depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _described(course: Course, counts: Sequence[int]) -> str:
    parts = [
        f"{head.name}: {count} examples" + (f", {len(head.labels)} labels: {_shown(head)}" if head.labels else "")
        for head, count in zip(course.heads, counts, strict=True)
    ]
    return "; ".join(parts)


def _shown(head: Head) -> str:
    """The first labels, by which it is seen where a column holds something else, such as "nan" for none."""
    return ", ".join(" ".join(label.split())[:40] for label in head.labels[:_SHOWN]) + (
        " ..." if len(head.labels) > _SHOWN else ""
    )


def _model(course: Course, settings: Training, class_weights: bool) -> TaskModel:
    """The base with new heads."""
    torch.manual_seed(settings.seed)
    encoder = load_encoder(without_heads(course.base), fused_attention=True, attention_dropout=False)
    encoder.heads = nn.ModuleList(head_over(course.base, head) for head in course.heads)
    if settings.freeze_embeddings:
        encoder.backbone.get_input_embeddings().weight.requires_grad_(False)
    model = TaskModel(encoder, course.tasks, course.heads)
    if class_weights:
        parts = np.split(np.arange(len(course.lessons)), course.firsts[1:])
        model.weights = [
            balanced([course.lessons[row] for row in rows], head)
            for rows, head in zip(parts, course.heads, strict=True)
        ]
    return model


def balanced(lessons: Sequence[Lesson], head: Head) -> Tensor | None:
    """For each label the mean count over its own, at most 1000; where several may hold, absent to present.

    None for numbers and spans. Source: King and Zeng 2001, "Logistic Regression in Rare Events Data".
    """
    if not head.labels:
        return None
    if head.multi_label:
        held = np.stack([lesson.target for lesson in lessons]).sum(axis=0)
        return torch.from_numpy(np.clip((len(lessons) - held) / np.maximum(held, 1), 0.001, 1000).astype(np.float32))
    targets = np.concatenate([np.atleast_1d(lesson.target) for lesson in lessons])
    counts = np.bincount(targets[targets >= 0], minlength=len(head.labels))
    weights = counts.sum() / (len(head.labels) * np.maximum(counts, 1))
    return torch.from_numpy(np.minimum(weights, 1000).astype(np.float32))
