"""Search in two steps: vectors find the documents that come near a question, a cross-encoder puts them in order.

    pip install 'edgebert[workshop]'
    python examples/reranked_search.py ["Where are dogs welcome?" ...]

The embedder that comes with EdgeBERT has read every document before the question is known, so it is fast and finds what
is about the same; "dogs are not welcome" is as near as "dogs are welcome". The cross-encoder reads the question with
each document found, which is slow, and learns from labelled pairs what counts as an answer here. What exists is not
made again: a second run needs no workshop and no torch.

Your own data: put your `train.jsonl` and `dev.jsonl` (text, text_pair and the label 1 or 0: whether the second answers
the first) and `documents.txt` (one a line) into the work folder before the first run; they are used as they are.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import edgebert
from edgebert.nearest import search

GUESTS = ("dogs", "bicycles", "children", "boats", "tents")
PLACES = ("mill", "castle", "harbour", "forest", "river", "garden", "station", "bridge")  # of the documents
OTHERS = ("church", "market", "school", "tower", "beach", "abbey", "lake", "hill", "park", "port")  # of the pairs
QUESTIONS = ("Where are {guests} welcome?", "Which house takes {guests}?")
YES = ("At the {place} house {guests} are welcome.", "The {place} house has room for {guests}.")
NO = ("At the {place} house {guests} are not welcome.", "The {place} house has no room for {guests}.")


def main(arguments: list[str] | None = None) -> dict[str, tuple[list[str], list[str]]]:
    """For each question the documents as the embedder finds them, and as the cross-encoder orders them."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("questions", nargs="*", default=["Where are dogs welcome?", "Where are bicycles welcome?"])
    options.add_argument("--base", default="sentence-transformers/all-MiniLM-L6-v2", help="any BERT: folder or Hub id")
    options.add_argument("--work", type=Path, default=Path(".examples/search"), help="folder for all that is made")
    options.add_argument("--epochs", type=float, default=3)
    options.add_argument("--learning-rate", type=float, default=1e-4)
    given = options.parse_args(arguments)
    write_data(given.work)
    bundle = given.work / "bundle"
    if bundle.exists():
        print(f"{bundle} was made before; remove the folders in {given.work} to make it anew")
    else:
        make(given.base, given.work, given.epochs, given.learning_rate)
    documents = (given.work / "documents.txt").read_text(encoding="utf-8").splitlines()
    with edgebert.load("edgebert-mini-en", task="embedding") as embedder:
        nearest = search(embedder.encode_query(given.questions), embedder.encode_document(documents), 8).indices
    results = {}
    with edgebert.load(bundle, task="pairs") as scorer:
        for question, places in zip(given.questions, nearest, strict=True):
            found = [documents[place] for place in places]
            ranked = scorer.rank(question, found)
            results[question] = found, [one.document for one in ranked]
            print(f"\n{question}\n  by vectors alone")
            print("\n".join(f"           {document}" for document in found[:5]))
            print("  reranked")
            print("\n".join(f"    {one.score:.3f}  {one.document}" for one in ranked[:5]))
    return results


def make(base: str, work: Path, epochs: float, learning_rate: float) -> None:
    """The cross-encoder, then its int8 files, which must keep 98 % of its accuracy on the dev file."""
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
            lesson = Assignment(task_named("pairs"), (train,), (dev,))
            finetune(edgebert.Bundle.from_pretrained(base), [lesson], tuned, training, max_length=64, progress=progress)
        model = edgebert.Bundle.open(tuned)
        gate = Options(recipe=find_recipe("outliers-8"), task=TaskGate("task", (dev,), min_retention=0.98))
        quantize(model, calibration_items(model, [train]), work / "bundle", gate, progress=progress)


def write_data(work: Path) -> None:
    """Made-up pairs and documents in the files that are missing."""
    work.mkdir(parents=True, exist_ok=True)
    rng = random.Random(2)
    documents = [filled(rng.choice(YES + NO), guests, place) for guests in GUESTS for place in PLACES]
    pairs = list(dict.fromkeys(json.dumps(pair(rng)) for _ in range(900)))
    for name, lines in (("train.jsonl", pairs[:-100]), ("dev.jsonl", pairs[-100:]), ("documents.txt", documents)):
        path = work / name
        if not path.exists():
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def pair(rng: random.Random) -> dict[str, str | int]:
    """A question with a document that says yes to it, or says no, or speaks of others."""
    guests, other = rng.sample(GUESTS, 2)
    kind = rng.choice(("yes", "yes", "yes", "no", "no", "other"))
    told = filled(rng.choice(NO if kind == "no" else YES), other if kind == "other" else guests, rng.choice(OTHERS))
    return {"text": filled(rng.choice(QUESTIONS), guests), "text_pair": told, "label": int(kind == "yes")}


def filled(template: str, guests: str, place: str = "") -> str:
    """A sentence of that template."""
    return template.format(guests=guests, place=place)


if __name__ == "__main__":
    main()
