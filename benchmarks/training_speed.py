"""Training speed against sentence-transformers' own trainer: same student, loss, batch, precision, text, in turns.

    python benchmarks/training_speed.py --data DATA --teacher MODEL

Both learn the teacher's sentence vectors by the same cosine loss; the teacher's vectors are computed before, for both.
Timed is the training call alone. Exit 1 when ours does fewer sentences a second (median of the paired ratios).
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import data_file, parser
from torch import Tensor, nn

from edgebert.bundle import Bundle
from edgebert.distill.agreement import Agreement
from edgebert.distill.batches import Collator, LengthSampler, Rows
from edgebert.distill.corpus import open_corpus
from edgebert.distill.folder import write_model
from edgebert.distill.model import build_model
from edgebert.distill.objectives import vector_loss
from edgebert.distill.prepare import draw, prepare
from edgebert.distill.recipe import Data, Objectives, Recipe, Student, Training
from edgebert.distill.students import build_student
from edgebert.distill.teacher import TeacherCache
from edgebert.distill.training import TrainingRun, best_precision, count_steps, train
from edgebert.progress import Progress
from edgebert.texts import read_texts

BATCH = 64


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sentences", type=int, default=4000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    corpus = data_file(given.data, "sentences_en/permissive.tsv.gz")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGEBERT_CACHE"] = str(Path(folder) / "cache")
        texts = list(itertools.islice(read_texts([corpus]), 0, 200 * given.sentences, 200))
        file = Path(folder) / "text.txt"
        file.write_text("\n".join(texts), encoding="utf-8")
        job = _Job(Bundle.from_pretrained(given.teacher), file, Path(folder))
        pairs = []
        for turn in range(given.rounds):
            pairs.append((job.ours(turn), job.theirs(turn)))
            print(f"round {turn + 1}: ours {pairs[-1][0]:.0f}, sentence-transformers {pairs[-1][1]:.0f} sentences/s")
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"{torch.get_num_threads()} threads, {job.precision}, batch {BATCH}: {ratio:.2f} times their speed")
    sys.exit(0 if ratio >= 1 else "slower than sentence-transformers' trainer")


class _Job:
    """The same work for both trainers."""

    def __init__(self, teacher: Bundle, file: Path, folder: Path) -> None:
        self.teacher, self.folder = teacher, folder
        self.precision = best_precision("auto")
        self.recipe = Recipe(
            Student(layers=3),
            Objectives(similarity=0.0, hidden=0.0),
            Training(epochs=1, batch_size=BATCH, precision=self.precision),
            Data(held_out=100),
        )
        self.corpus = open_corpus([file])
        plan = build_student(teacher, self.recipe.student, seed=0)
        self.prepared = prepare(
            self.corpus, draw(self.corpus, teacher, self.recipe, Progress()), teacher, plan, folder / "ids", Progress()
        )
        self.cache = TeacherCache(teacher, self.prepared.teacher_ids, hidden=False, precision=self.precision)
        self.cache.fill(self.cache.missing())
        self.untrained = folder / "student"
        self.untrained.mkdir()
        write_model(self.untrained, plan.encoder, plan.tokenizer_of, plan.manifest)

    def ours(self, turn: int) -> float:
        """Sentences a second of EdgeBERT's training."""
        plan = build_student(self.teacher, self.recipe.student, seed=0)
        weights = {"vector": 1.0, "similarity": 0.0, "hidden": 0.0}
        model = build_model(plan, self.recipe, weights, self.prepared, self.cache)
        lengths = self.prepared.student_ids.lengths[self.prepared.rows]
        run = TrainingRun(
            model,
            Rows(self.prepared.rows),
            LengthSampler(lengths, batch_size=BATCH, seed=0),
            Collator(self.prepared.student_ids, self.cache, pad_token_id=plan.manifest.pad_token_id, hidden=False),
            dataclasses.replace(self.recipe.training),
            self.precision,
            self.folder / f"run{turn}",
            lambda **_: Agreement(0.0, None, 0),  # measuring is not training
            Progress(),
            count_steps(self.recipe.training, len(lengths), 1),
        )
        start = time.perf_counter()
        train(run)
        return len(self.prepared.rows) / (time.perf_counter() - start)

    def theirs(self, turn: int) -> float:
        """Sentences a second of sentence-transformers' trainer."""
        from datasets import Dataset, disable_progress_bars
        from sentence_transformers import (
            SentenceTransformer,
            SentenceTransformerTrainer,
            SentenceTransformerTrainingArguments,
        )

        disable_progress_bars()
        model = SentenceTransformer(str(self.untrained), device="cpu", local_files_only=True)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "word_embeddings" not in name  # as ours does with copied word vectors
        rows = self.prepared.rows
        vectors = self.cache.vectors(rows).astype("float32")
        data = Dataset.from_dict({"sentence": [self.corpus[int(r)] for r in rows], "label": vectors.tolist()})
        arguments = SentenceTransformerTrainingArguments(
            output_dir=str(self.folder / f"theirs{turn}"),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=self.recipe.training.learning_rate,
            bf16=self.precision == "bf16",
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=_Cosine(model))
        start = time.perf_counter()
        trainer.train()
        return len(rows) / (time.perf_counter() - start)


class _Cosine(nn.Module):
    """EdgeBERT's sentence vector loss in the form that their trainer takes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, sentence_features: list[dict[str, Tensor]], labels: Tensor) -> Tensor:
        return vector_loss(self.model(sentence_features[0])["sentence_embedding"].float(), labels.float())


if __name__ == "__main__":
    main()
