"""The stage: teacher and text in, a student bundle out."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from edgebert.bundle import Bundle, seal
from edgebert.cache import cache_folder
from edgebert.card import model_card
from edgebert.distill.agreement import Agreement, agreement
from edgebert.distill.batches import Collator, LengthSampler, Rows
from edgebert.distill.codes import check_codes, code_plan
from edgebert.distill.corpus import Corpus, open_corpus
from edgebert.distill.decide import decide_weights
from edgebert.distill.encoder import encode_ids
from edgebert.distill.fake_quant import FakeQuant, schedule
from edgebert.distill.folder import write_model
from edgebert.distill.hardest import count_hardest, hardest
from edgebert.distill.history import write_beside
from edgebert.distill.lock import sole_user
from edgebert.distill.mix import Mix
from edgebert.distill.model import DistillationModel, build_model
from edgebert.distill.narrow import narrow_plan
from edgebert.distill.pairs import pairs_fingerprint, prepare_pairs
from edgebert.distill.prepare import prepare
from edgebert.distill.readings import foreign
from edgebert.distill.recipe import Recipe
from edgebert.distill.registry import needed
from edgebert.distill.select import content_of
from edgebert.distill.students import StudentPlan, build_student, name_of
from edgebert.distill.teacher import SHARD_ROWS, TeacherCache, fingerprint
from edgebert.distill.tensorboard import Board, require_tensorboard
from edgebert.distill.training import TrainingRun, best_precision, count_steps, train
from edgebert.distill.trim import trim_plan
from edgebert.errors import DataError
from edgebert.files import disk_errors, new_folder, require_writable
from edgebert.manifest import Quality
from edgebert.progress import Progress
from edgebert.schema import plain


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
    log = recipe.training.tensorboard
    if log is not None:
        require_tensorboard()
    # Where a log lies changes nothing in the student: it is no part of the run's key and of the lineage.
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, tensorboard=None))
    with contextlib.ExitStack() as open_things:
        return _distill(teacher, corpus, out, recipe, column, pairs, work, progress, log, open_things)


def _distill(
    teacher: Bundle,
    corpus: Sequence[str | Path],
    out: Path,
    recipe: Recipe,
    column: str | None,
    pairs: Sequence[str | Path],
    work: Path | None,
    progress: Progress | None,
    log: str | None,
    open_things: contextlib.ExitStack,
) -> Bundle:
    progress, began = progress or Progress(), time.monotonic()
    state = PartialState(cpu=not torch.cuda.is_available())
    if not state.is_main_process:
        progress = Progress()
    if state.is_main_process:
        require_writable(out)
        if teacher.is_sealed:
            teacher.check()
    plan = build_student(teacher, recipe.student, seed=recipe.training.seed)
    if state.num_processes > 1 and any(str(path) == "-" for path in corpus):
        raise DataError("standard input (-) cannot be shared by several processes: write the text to a file first")
    with state.main_process_first():
        text = open_corpus(corpus, column=column, mix=mix_of(recipe))
    others = [Bundle.from_pretrained(other.model, revision=other.revision) for other in recipe.teachers]
    further = [fingerprint(other) for other in others] + pairs_fingerprint(pairs)
    start = None if recipe.student.start in ("teacher", "fresh") else plan.tokenizer_of
    if start is not None:
        further.append(fingerprint(start))  # another model may lie at that path one day
    folder = (work or cache_folder("runs")) / _run_key(teacher, text, recipe, further)
    if state.is_main_process:
        with disk_errors(folder):
            open_things.enter_context(sole_user(folder))
    with state.main_process_first(), disk_errors(folder):
        plan = trim_plan(plan, recipe.student, text, folder / "tokenizer", progress)
        prepared = prepare(text, teacher, plan, recipe, folder, progress, others)
        found_pairs = prepare_pairs(
            pairs, recipe.data.pair_columns, plan.tokenizer_of, folder / "pairs", max_length=plan.manifest.max_length
        ) if pairs else None  # fmt: skip
    reading = foreign(teacher, text)
    if reading.warning:
        progress.say(f"warning: {reading.warning}")
    plan = narrow_plan(plan, recipe.student, prepared, seed=recipe.training.seed, progress=progress)
    check_codes(plan, recipe.student)
    weights = decide_weights(recipe, plan, prepared, teacher, pairs=found_pairs is not None)
    with state.main_process_first():
        plan = code_plan(
            plan, recipe.student, prepared, folder / "codes.npy", seed=recipe.training.seed, progress=progress
        )
    if recipe.training.epochs == 0:
        weights = {}  # nothing is learnt: hidden states need not be computed
    if prepared.aligned is not None:
        alike = f"{100 * prepared.aligned_share:.1f} % of the texts are read into the teacher's own tokens"
        progress.say(f"{alike}; only those are compared token by token" if "tokens" in needed(weights) else alike)
    states = "states" in needed(weights)
    share = recipe.data.hardest or 1.0
    steps = count_steps(recipe.training, count_hardest(len(prepared.rows), share), state.num_processes)
    qat = schedule(recipe.training.qat, steps)
    precision = best_precision(recipe.training.precision)
    cache = TeacherCache(teacher, prepared.teacher_ids, hidden=states, precision=precision)
    other_caches = [
        TeacherCache(other, ids, hidden=False, precision=precision)
        for other, ids in zip(others, prepared.other_ids, strict=True)
    ]
    with state.main_process_first():
        engine = cache.choice
    progress.say(f"teacher: {engine.engine}{f' ({engine.why})' if engine.why else ''}")
    for one in (cache, *other_caches):
        _fill(one, state, progress)
    model = build_model(plan, recipe, weights, prepared, cache, other_caches)
    if qat is not None:
        model.fake_quant = FakeQuant(model.encoder, qat)
    held_out_vectors = cache.vectors(prepared.held_out).astype(np.float32)

    def measure(*, int8: bool = False) -> Agreement:
        ids = [prepared.student_ids[r] for r in prepared.held_out]
        with model.fake_quant.int8(model.encoder) if int8 and model.fake_quant else contextlib.nullcontext():
            return agreement(encode_ids(model.encoder, ids, plan.manifest.pad_token_id), held_out_vectors)

    before = measure()
    progress.say(f"before training: {_words(before)}")
    rows = prepared.rows
    if share < 1 and steps:
        with state.main_process_first():
            rows = hardest(
                model, prepared, cache, share, pad_token_id=plan.manifest.pad_token_id, path=folder / "hardest.npy",
                progress=progress,
            )  # fmt: skip
    sampler = LengthSampler(
        prepared.student_ids.lengths[rows], batch_size=recipe.training.batch_size, seed=recipe.training.seed
    )
    collator = Collator(
        prepared.student_ids, cache, pad_token_id=plan.manifest.pad_token_id, hidden=states, others=other_caches,
        pairs=found_pairs, aligned=prepared.aligned,
    )  # fmt: skip
    run = TrainingRun(
        model,
        Rows(rows),
        sampler,
        collator,
        recipe.training,
        cache.precision,
        folder,
        measure,
        progress,
        began,
    )
    if log is not None and state.is_main_process:
        run = dataclasses.replace(run, board=open_things.enter_context(contextlib.closing(Board(Path(log)))))
    trained = train(run, processes=state.num_processes)
    if trained.stopped is not None and (best := trained.history.best) is not None:
        progress.say(f"stopped at step {trained.stopped}: no gain since step {best.step}, whose student is kept")
    after = measure()
    progress.say(f"after training{', in float' if qat else ''}: {_words(after)}")
    if qat is not None:
        imitated = measure(int8=True)
        progress.say(f"after training, imitating int8: {_words(imitated)}")
    if state.is_main_process:
        lineage = {
            "teacher": name_of(teacher),
            "teacher_sha256": fingerprint(teacher),
            "student": plan.start,
            "corpus": plain(text.counts)
            | {"truncated": prepared.truncated, "left_out": prepared.left_out, "sha256": text.fingerprint}
            | {"unknown_tokens": round(reading.unknown, 6)},
            "objectives": weights,
            "recipe": _told(recipe),
            "agreement_before_training": before.spearman,
            "teacher_engine": engine.engine,
            "final_loss": trained.history.loss,
            "training_seconds": round(trained.seconds, 1),
            "versions": {name: metadata.version(name) for name in ("edgebert", "torch", "transformers")},
        }
        if prepared.aligned is not None:
            lineage["aligned_share"] = round(prepared.aligned_share, 4)
        if start is not None and start.is_sealed:
            lineage["start"] = dict(start.manifest.lineage)
        if plan.vocabulary is not None:
            lineage["vocabulary"] = plan.vocabulary
        if others:
            lineage["teachers"] = [
                {"teacher": name_of(other), "teacher_sha256": fingerprint(other)} for other in others
            ]
        if found_pairs is not None:
            lineage["pairs"] = {"count": len(found_pairs), "sha256": pairs_fingerprint(pairs)}
        if qat is not None:
            lineage["qat"] = {**plain(qat), "imitating_int8": plain(imitated)}
        if recipe.training.patience and (best := trained.history.best) is not None:
            lineage["early_stop"] = {"stopped_at": trained.stopped, "kept_step": best.step}
        _write(plan, model, out, lineage, after)
        write_beside(out, trained.history, title=f"{out.name}: training")
        shutil.rmtree(folder, ignore_errors=True)
    state.wait_for_everyone()
    return Bundle.open(out)


def mix_of(recipe: Recipe) -> Mix | None:
    """How many texts of each source the recipe takes, None for all."""
    return Mix(recipe.data.mix, recipe.data.mix_column, recipe.training.seed) if recipe.data.mix else None


def _fill(cache: TeacherCache, state: PartialState, progress: Progress) -> None:
    """Each process computes its share of the missing shards, then all wait."""
    missing = cache.missing()
    state.wait_for_everyone()
    rows = sum(min(SHARD_ROWS, len(cache.ids) - SHARD_ROWS * s) for s in missing)
    progress.start("teacher vectors", len(cache.ids))
    progress.advance(len(cache.ids) - rows, note="from the cache" if rows < len(cache.ids) else "")
    cache.fill(missing[state.process_index :: state.num_processes], lambda n: progress.advance(n * state.num_processes))
    state.wait_for_everyone()


def _write(
    plan: StudentPlan, model: DistillationModel, out: Path, lineage: dict[str, object], found: Agreement
) -> None:
    """The student bundle: weights, tokenizer, sentence-transformers files, golden vectors, card and manifest."""
    data = f"{found.sentences} held-out sentences of the training text"
    quality = [Quality("agreement_spearman", round(found.spearman, 6), data)]
    if found.mean_cosine is not None:
        quality.append(Quality("teacher_mean_cosine", round(found.mean_cosine, 6), data))
    manifest = dataclasses.replace(plan.manifest, quality=tuple(quality), lineage=lineage)
    with new_folder(out) as partial:
        manifest = write_model(partial, model.encoder.cpu(), plan.tokenizer_of, manifest)
        (partial / "README.md").write_text(model_card(manifest, out.name, partial), encoding="utf-8")
        seal(partial, manifest)


def _run_key(teacher: Bundle, text: Corpus, recipe: Recipe, further: Sequence[str]) -> str:
    data = _named(recipe) | {"exclude": content_of(recipe.data.exclude)}
    facts = [fingerprint(teacher), text.fingerprint, plain(recipe) | {"data": data}, *further]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _told(recipe: Recipe) -> dict[str, object]:
    """The recipe with files and local models by their own names: where they lie here is nobody's business."""
    student, teachers = plain(recipe.student), [plain(other) for other in recipe.teachers]
    for facts, key in ((student, "start"), *((other, "model") for other in teachers)):
        if Path(facts[key]).exists():
            facts[key] = Path(facts[key]).resolve().name
    told: dict[str, object] = plain(recipe) | {"student": student, "teachers": teachers, "data": _named(recipe)}
    return told


def _named(recipe: Recipe) -> dict[str, object]:
    """The recipe's part about data, its files by their names."""
    names = [Path(name).name for name in recipe.data.exclude]
    return {**plain(recipe.data), "exclude": names}


def _words(found: Agreement) -> str:
    cosine = "" if found.mean_cosine is None else f", mean cosine {found.mean_cosine:.4f}"
    return f"agreement with the teacher {found.spearman:.4f}{cosine} on {found.sentences} held-out sentences"
