"""Labelled examples and models with heads that tests make."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from helpers import sentences

ANIMALS, PLACES = {"dog", "cat", "bird", "horse"}, {"river", "house", "street", "garden", "city"}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSONL file of those rows."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def words_of(sentence: str) -> list[str]:
    """The words of a made sentence."""
    return sentence.rstrip(".").split()


def tagged(sentence: str) -> list[str]:
    """A label of BIO for each word: animals and places."""
    return ["B-ANIMAL" if word in ANIMALS else "B-PLACE" if word in PLACES else "O" for word in words_of(sentence)]


def tag_rows(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Sentences with the tags of their words."""
    return [{"tokens": words_of(s), "tags": tagged(s)} for s in sentences(count, seed=seed)]


def class_rows(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Sentences with an animal, and others."""
    return [
        {"text": s, "label": "animal" if ANIMALS & set(words_of(s)) else "none"} for s in sentences(count, seed=seed)
    ]


def multi_rows(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Sentences with several labels: animal, place."""
    found = []
    for s in sentences(count, seed=seed):
        words = set(words_of(s))
        found.append({"text": s, "labels": [n for n, w in (("animal", ANIMALS), ("place", PLACES)) if w & words]})
    return found


def number_rows(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Sentences, and how many of their words are animals or places."""
    texts = sentences(count, seed=seed)
    return [{"text": s, "score": sum(word in ANIMALS | PLACES for word in words_of(s))} for s in texts]


def pair_rows(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Two sentences, the second with an animal or without."""
    texts = class_rows(count, seed=seed)
    return [
        {"text": texts[i - 1]["text"], "text_pair": row["text"], "label": row["label"]} for i, row in enumerate(texts)
    ]


def answer_rows(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Which animal is it? The first one, in sentences that have one."""
    found: list[dict[str, Any]] = []
    for s in sentences(8 * count, seed=seed, shortest=6):
        animal = next((word for word in words_of(s) if word in ANIMALS), None)
        if animal is not None and len(found) < count:
            start = len(" ".join([*words_of(s)[: words_of(s).index(animal)], ""]))
            found.append(
                {"question": "the animal?", "context": s, "answers": [{"text": animal, "answer_start": start}]}
            )
    return found


def with_head(base: Path, out: Path, auto: str, *, seed: int = 1, **config: Any) -> Any:
    """`base` with a head of transformers whose weights are random and large enough to tell labels apart, each of which
    is now and then the most probable."""
    import torch
    import transformers

    torch.manual_seed(seed)
    model = getattr(transformers, auto).from_pretrained(base, **config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("classifier", "qa_outputs")) and weight.ndim == 2:
                weight.mul_(30)
        if auto == "AutoModelForSequenceClassification":
            tokenizer = transformers.AutoTokenizer.from_pretrained(base)
            read = tokenizer(sentences(32, seed=4), padding=True, return_tensors="pt")
            model.classifier.bias -= model(**read).logits.mean(dim=0)
    # Without what makes it a model of sentence-transformers, which has no head.
    shutil.copytree(base, out, ignore=shutil.ignore_patterns("modules.json", "?_*", "config_sentence*"))
    model.save_pretrained(out)
    return model
