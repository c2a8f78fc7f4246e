"""Named entities with their places in the text: from words with BIO tags to an int8 model that runs without torch.

    pip install 'edgebert[workshop]'
    python examples/ner.py

Offsets count characters of the text as it was given, so that `text[tag.start:tag.end]` is the name, behind emoji too.
What exists is not made again: a second run needs no workshop and no torch.

Your own data: put your `train.jsonl` and `dev.jsonl`, with the lists tokens and tags in each line, into the work folder
before the first run; they are used as they are.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import edgebert

if TYPE_CHECKING:
    from edgebert.tasks.results import Tag

NAMES = {
    "PER": [f"{one} {other}" for one in ("Ada", "Alan", "Grace", "Marie") for other in ("Stone", "Hopper", "Berg")],
    "LOC": ["London", "Paris", "Geneva", "Warsaw", "New York", "Hong Kong", "Cape Town"],
    "ORG": ["Northwind", "Harbour Bank", "Blue River Foods", "Alpine Rail", "Acme"],
}
TEMPLATES = (
    "PER moved from LOC to LOC in May .",
    "Yesterday PER of ORG met PER in LOC .",
    "ORG opens an office in LOC , says PER .",
    "The train to LOC was late again .",
    "🎉 PER joins ORG in LOC 🚀 !",
    "Nobody at ORG knew why the office was closed .",
)
NEW = ("Yesterday Grace Berg of Blue River Foods moved to Hong Kong.", "👩‍🚀🎉 Ada Hopper joins Acme in New York 🗽🚀!")


def main(arguments: list[str] | None = None) -> list[list[Tag]]:
    """What is found in `NEW`."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--base", default="sentence-transformers/all-MiniLM-L6-v2", help="any BERT: folder or Hub id")
    options.add_argument("--work", type=Path, default=Path(".examples/ner"), help="folder for all that is made")
    options.add_argument("--epochs", type=float, default=3)
    options.add_argument("--learning-rate", type=float, default=1e-4)
    given = options.parse_args(arguments)
    write_data(given.work)
    bundle = given.work / "bundle"
    if bundle.exists():
        print(f"{bundle} was made before; remove the folders in {given.work} to make it anew")
    else:
        make(given.base, given.work, given.epochs, given.learning_rate)
    for quality in edgebert.Bundle.open(bundle).manifest.quality:
        print(f"{quality.metric} {quality.value:.3f}  {quality.artifact or ''}  ({quality.data})")
    with edgebert.load(bundle, task="tag") as model:
        found = model.tag(NEW)
    for text, tags in zip(NEW, found, strict=True):
        print(f"\n{text}")
        for tag in tags:
            print(f"  {tag.start:3}-{tag.end:<3} {tag.label}  {text[tag.start : tag.end]}  {tag.score:.2f}")
    return found


def make(base: str, work: Path, epochs: float, learning_rate: float) -> None:
    """The model, then its int8 files, which must keep 98 % of its F1 on the dev file."""
    from edgebert.distill.finetuning import Assignment, finetune
    from edgebert.distill.recipe import Training
    from edgebert.progress import TerminalProgress
    from edgebert.quantize.recipe import find_recipe
    from edgebert.quantize.stage import Options, quantize
    from edgebert.quantize.task_gate import TaskGate
    from edgebert.tasks import task_named
    from edgebert.tasks.asked import calibration_items

    train, dev, tuned = str(work / "train.jsonl"), str(work / "dev.jsonl"), work / "tuned"
    training = Training(epochs=epochs, batch_size=16, learning_rate=learning_rate)
    with TerminalProgress() as progress:
        if not tuned.exists():
            lesson = Assignment(task_named("tag"), (train,), (dev,))
            finetune(edgebert.Bundle.from_pretrained(base), [lesson], tuned, training, max_length=64, progress=progress)
        model = edgebert.Bundle.open(tuned)
        gate = Options(recipe=find_recipe("outliers-8"), task=TaskGate("task", (dev,), min_retention=0.98))
        quantize(model, calibration_items(model, [train]), work / "bundle", gate, progress=progress)


def write_data(work: Path) -> None:
    """Made-up sentences in the files that are missing."""
    work.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    rows = list(dict.fromkeys(json.dumps(sentence(rng), ensure_ascii=False) for _ in range(900)))
    for name, lines in (("train", rows[100:]), ("dev", rows[:100])):
        path = work / f"{name}.jsonl"
        if not path.exists():
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def sentence(rng: random.Random) -> dict[str, list[str]]:
    """Words, and for each its tag: B- begins a name, I- goes on with it, O is outside."""
    tokens, tags = [], []
    for part in rng.choice(TEMPLATES).split():
        words = rng.choice(NAMES[part]).split() if part in NAMES else [part]
        tokens += words
        tags += [f"B-{part}", *[f"I-{part}"] * (len(words) - 1)] if part in NAMES else ["O"]
    return {"tokens": tokens, "tags": tags}


if __name__ == "__main__":
    main()
