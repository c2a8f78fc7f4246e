"""The stage: teacher and text in, a student bundle out."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState

from edgebert.bundle import Bundle, seal
from edgebert.cache import cache_folder
from edgebert.card import model_card
from edgebert.distill.agreement import Agreement
from edgebert.distill.batches import Collator, LengthSampler, Rows
from edgebert.distill.codes import check_codes, code_plan
from edgebert.distill.corpus import open_corpus
from edgebert.distill.decide import check_shape, decide_weights
from edgebert.distill.fake_quant import FakeQuant, schedule
from edgebert.distill.folder import write_model
from edgebert.distill.hardest import count_hardest, hardest
from edgebert.distill.held_out import HeldOut
from edgebert.distill.history import require_figures, write_beside
from edgebert.distill.job import Job, run_key
from edgebert.distill.lineage import lineage_of
from edgebert.distill.lock import sole_user
from edgebert.distill.low_bits import check_linears, keep_rounded
from edgebert.distill.mix import Mix
from edgebert.distill.model import DistillationModel, build_model
from edgebert.distill.narrow import narrow_plan
from edgebert.distill.pairs import pairs_fingerprint, prepare_pairs
from edgebert.distill.prepare import draw, prepare
from edgebert.distill.readings import foreign
from edgebert.distill.recipe import Recipe
from edgebert.distill.registry import needed
from edgebert.distill.shards import fill_together
from edgebert.distill.students import StudentPlan, build_student, without_heads
from edgebert.distill.teacher import TeacherCache, fingerprint, reading_of
from edgebert.distill.tensorboard import Board, require_tensorboard
from edgebert.distill.training import Trained, TrainingRun, best_precision, count_steps, train
from edgebert.distill.trim import trim_plan
from edgebert.errors import DataError
from edgebert.files import disk_errors, new_folder, require_writable
from edgebert.manifest import Quality
from edgebert.progress import Progress


def distill(
    teacher: Bundle,
    corpus: Sequence[str | Path],
    out: Path,
    recipe: Recipe,
    *,
    column: str | None = None,
    pairs: Sequence[str | Path] = (),
    work: Path | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """A student of `teacher`, trained on the text files `corpus`, as a new bundle in the folder `out`.

    column: the text's column in JSONL, CSV, TSV and Parquet. pairs: files of pairs, for the contrastive objective.
    work: where checkpoints lie, by default the cache: in a folder named by teacher, text and recipe, so that the same
    call goes on after a break; it is removed at the end. Figures of the training are written beside `out`, see
    `edgebert.distill.history`.
    Raises: BundleError, DataError, RecipeError, BudgetError; EdgeBertError when another process trains the same; see
    the functions called here.
    """
    teacher, log = without_heads(teacher), recipe.training.tensorboard
    if log is not None:
        require_tensorboard()
    # Where a log lies changes nothing in the student: it is no part of the run's key and of the lineage.
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, tensorboard=None))
    began, state = time.monotonic(), PartialState(cpu=not torch.cuda.is_available())
    if progress is None or not state.is_main_process:
        progress = Progress()
    if state.is_main_process:
        require_writable(out)
        require_figures(out)
    with contextlib.ExitStack() as held:
        job = _open(teacher, corpus, recipe, column, pairs, work, state, progress, held)
        answers = _answer(job, state, progress)
        model = build_model(job.plan, recipe, job.weights, job.prepared, answers.teacher, answers.others)
        if job.qat is not None:
            model.fake_quant = FakeQuant(model.encoder, job.qat)
        measure = HeldOut(model, job.prepared, answers.teacher, job.plan.manifest.pad_token_id)
        before = measure()
        progress.say(f"before training: {before}")
        board = None
        if log is not None and state.is_main_process:
            board = held.enter_context(contextlib.closing(Board(Path(log))))
        trained = _learn(job, answers, model, measure, began, board, state, progress)
        after = measure()
        progress.say(f"after training{', in float' if job.qat else ''}: {after}")
        imitated = measure(int8=True) if job.qat else None
        if imitated is not None:
            progress.say(f"after training, imitating int8: {imitated}")
        if state.is_main_process:
            lineage = lineage_of(job, answers.teacher.choice.engine, before, trained, imitated)
            _write(job.plan, model, out, lineage, after)
            write_beside(out, trained.history, title=f"{out.name}: training")
            shutil.rmtree(job.folder, ignore_errors=True)
        state.wait_for_everyone()
    return Bundle.open(out)


def _open(
    teacher: Bundle, corpus: Sequence[str | Path], recipe: Recipe, column: str | None, pairs: Sequence[str | Path],
    work: Path | None, state: PartialState, progress: Progress, held: contextlib.ExitStack,
) -> Job:  # fmt: skip
    """Everything that is read and decided before a model computes; the run's lock goes into `held`."""
    if state.is_main_process and teacher.is_sealed:
        teacher.check()
    seed = recipe.training.seed
    plan = build_student(teacher, recipe.student, seed=seed)
    if state.num_processes > 1 and any(str(path) == "-" for path in corpus):
        raise DataError("standard input (-) cannot be shared by several processes: write the text to a file first")
    with state.main_process_first():
        text = open_corpus(corpus, column=column, mix=mix_of(recipe))
    others = tuple(Bundle.from_pretrained(other.model, revision=other.revision) for other in recipe.teachers)
    pairs_sha256 = pairs_fingerprint(pairs)
    further = [*map(fingerprint, others), *map(reading_of, others), *pairs_sha256]
    start = None if recipe.student.start in ("teacher", "fresh") else plan.tokenizer_of
    if start is not None:
        further += [fingerprint(start), reading_of(start)]  # another model may lie at that path one day
    folder = (work or cache_folder("runs")) / run_key(teacher, text.fingerprint, recipe, state.num_processes, further)
    if state.is_main_process:
        with disk_errors(folder):
            held.enter_context(sole_user(folder))
    with state.main_process_first(), disk_errors(folder):
        drawn = draw(text, teacher, recipe, progress)
        plan = trim_plan(plan, recipe.student, text, drawn.fitting, folder / "tokenizer", progress)
        prepared = prepare(text, drawn, teacher, plan, folder, progress, others)
        found_pairs = prepare_pairs(
            pairs, recipe.data.pair_columns, plan.tokenizer_of, folder / "pairs", max_length=plan.manifest.max_length
        ) if pairs else None  # fmt: skip
    reading = foreign(teacher, text)
    if reading.warning:
        progress.say(f"warning: {reading.warning}")
    plan = narrow_plan(plan, recipe.student, prepared, seed=seed, progress=progress)
    check_codes(plan, recipe.student)
    if recipe.student.linear_bits is not None:
        check_linears(plan.encoder)
    if recipe.training.epochs:
        weights = decide_weights(recipe, plan, prepared, teacher, pairs=found_pairs is not None)
    else:  # nothing is learnt: no objective must fit the text, and hidden states need not be computed
        weights = {}
        check_shape(recipe, weights, plan, teacher)
    with state.main_process_first():
        plan = code_plan(plan, recipe.student, prepared, folder / "codes.npy", seed=seed, progress=progress)
    if prepared.aligned is not None:
        alike = f"{100 * prepared.aligned_share:.1f} % of the texts are read into the teacher's own tokens"
        progress.say(f"{alike}; only those are compared token by token" if "tokens" in needed(weights) else alike)
    rows = count_hardest(len(prepared.rows), recipe.data.hardest)
    steps = count_steps(recipe.training, rows, state.num_processes)
    qat = schedule(recipe.training.qat, steps)
    return Job(
        teacher, recipe, plan, text, reading, prepared, weights, steps, qat, folder, others, start, found_pairs,
        pairs_sha256,
    )  # fmt: skip


@dataclass(frozen=True)
class _Answers:
    """The answers of the teacher and of further ones, on disk."""

    teacher: TeacherCache
    others: tuple[TeacherCache, ...]


def _answer(job: Job, state: PartialState, progress: Progress) -> _Answers:
    """Has the teachers answer what is not in their caches yet."""
    precision, prepared = best_precision(job.recipe.training.precision), job.prepared
    cache = TeacherCache(job.teacher, prepared.teacher_ids, hidden=job.states, precision=precision)
    others = tuple(
        TeacherCache(other, ids, hidden=False, precision=precision)
        for other, ids in zip(job.others, prepared.other_ids, strict=True)
    )
    with state.main_process_first():  # one of them finds out which engines are right, and writes it down for all
        engine, *_ = [one.choice for one in (cache, *others)]
    progress.say(f"teacher: {engine.engine}{f' ({engine.why})' if engine.why else ''}")
    for one in (cache, *others):
        fill_together(one, "teacher vectors", state, progress)
    return _Answers(cache, others)


def _learn(
    job: Job, answers: _Answers, model: DistillationModel, measure: HeldOut, began: float, board: Board | None,
    state: PartialState, progress: Progress,
) -> Trained:  # fmt: skip
    """Trains `model`, on from a checkpoint where there is one."""
    recipe, prepared, rows = job.recipe, job.prepared, job.prepared.rows
    pad_token_id, share = job.plan.manifest.pad_token_id, recipe.data.hardest
    if share is not None and share < 1 and job.steps:
        with state.main_process_first():
            kept = job.folder / "hardest.npy"
            rows = hardest(
                model, prepared, answers.teacher, share, pad_token_id=pad_token_id, path=kept, progress=progress
            )
    sampler = LengthSampler(
        prepared.student_ids.lengths[rows], batch_size=recipe.training.batch_size, seed=recipe.training.seed
    )
    collator = Collator(
        prepared.student_ids, answers.teacher, pad_token_id=pad_token_id, hidden=job.states, others=answers.others,
        pairs=job.pairs, aligned=prepared.aligned,
    )  # fmt: skip

    def scored(*, int8: bool = False) -> float:
        return measure(int8=int8).spearman

    run = TrainingRun(
        model, Rows(rows), sampler, collator, recipe.training, answers.teacher.precision, job.folder, scored, progress,
        job.steps, state.num_processes, began, board,
    )  # fmt: skip
    trained = train(run)
    if trained.stopped is not None and (best := trained.history.best) is not None:
        progress.say(f"stopped at step {trained.stopped}: no gain since step {best.step}, whose student is kept")
    return trained


def mix_of(recipe: Recipe) -> Mix | None:
    """How many texts of each source the recipe takes, None for all."""
    return Mix(recipe.data.mix, recipe.data.mix_column, recipe.training.seed) if recipe.data.mix else None


def _write(
    plan: StudentPlan, model: DistillationModel, out: Path, lineage: dict[str, object], found: Agreement
) -> None:
    """The student bundle: weights, tokenizer, sentence-transformers files, golden vectors, card and manifest."""
    data = f"{found.sentences} held-out sentences of the training text"
    quality = [Quality("agreement_spearman", round(found.spearman, 6), data)]
    if found.mean_cosine is not None:
        quality.append(Quality("teacher_mean_cosine", round(found.mean_cosine, 6), data))
    manifest = dataclasses.replace(plan.manifest, quality=tuple(quality), lineage=lineage)
    keep_rounded(model.encoder)
    with new_folder(out) as partial:
        manifest = write_model(partial, model.encoder.cpu(), plan.tokenizer_of, manifest)
        (partial / "README.md").write_text(model_card(manifest, out.name, partial), encoding="utf-8")
        seal(partial, manifest)
