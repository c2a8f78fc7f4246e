"""Training speed against sentence-transformers' own trainer: same student, loss, batch, precision, text, in turns.

    python benchmarks/training_speed.py --data DATA --teacher MODEL

Both learn the teacher's sentence vectors by the same cosine loss; the teacher's vectors are computed before, for both.
Timed is the training call alone. Exit 1 when ours does fewer sentences a second (median of the paired ratios).
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import parser
from torch import Tensor, nn
from training_pass import Pass, sample_file

from edgebert.bundle import Bundle
from edgebert.distill.folder import write_model
from edgebert.distill.objectives import vector_loss
from edgebert.distill.recipe import Data, Recipe, Student, Training
from edgebert.distill.registry import Objectives

BATCH = 64


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sentences", type=int, default=4000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGEBERT_CACHE"] = str(Path(folder) / "cache")
        job = _Job(Bundle.from_pretrained(given.teacher), sample_file(given.data, Path(folder), given.sentences))
        pairs = []
        for turn in range(given.rounds):
            pairs.append((job.ours.rate(), job.theirs(turn)))
            print(f"round {turn + 1}: ours {pairs[-1][0]:.0f}, sentence-transformers {pairs[-1][1]:.0f} sentences/s")
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"{torch.get_num_threads()} threads, {job.ours.precision}, batch {BATCH}: {ratio:.2f} times their speed")
    sys.exit(0 if ratio >= 1 else "slower than sentence-transformers' trainer")


class _Job:
    """The same work for both trainers."""

    def __init__(self, teacher: Bundle, file: Path) -> None:
        self.folder = file.parent
        recipe = Recipe(
            Student(layers=3),
            Objectives(similarity=0.0, hidden=0.0),
            Training(epochs=1, batch_size=BATCH),
            Data(held_out=100),
        )
        self.ours = Pass(teacher, file, self.folder, recipe)
        self.cache = self.ours.cache(hidden=False)
        self.cache.fill(self.cache.missing())
        self.untrained, plan = self.folder / "student", self.ours.untrained
        self.untrained.mkdir()
        write_model(self.untrained, plan.encoder, plan.tokenizer_of, plan.manifest)

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
        rows = self.ours.prepared.rows
        vectors = self.cache.vectors(rows).astype("float32")
        data = Dataset.from_dict({"sentence": [self.ours.corpus[int(r)] for r in rows], "label": vectors.tolist()})
        arguments = SentenceTransformerTrainingArguments(
            output_dir=str(self.folder / f"theirs{turn}"),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=self.ours.recipe.training.learning_rate,
            bf16=self.ours.precision == "bf16",
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
