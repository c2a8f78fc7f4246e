"""The sets of `task_scores.py`: their tasks, and how each is split into what trains, measures and is scored."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import data_file

import edgebert
from edgebert.texts import read_labelled, read_rows

RERANKED = 100  # so many documents that the default embedder finds for a query of scifact
NEGATIVES = (1, 2, 4, 8, 16, 32, 64)  # places among them
NAMED = ("18f", "digitalgov", "ljspeech", "openstax_by", "standardebooks", "tatoeba_en", "wordnet")
Rows = list[dict[str, Any]]


def every(rows: Rows, step: int) -> tuple[Rows, Rows]:
    """All but every `step`-th row, and those."""
    return [row for i, row in enumerate(rows) if i % step], rows[::step]


def by_sentence(rows: Rows, step: int) -> tuple[Rows, Rows]:
    """All rows but every `step`-th sentence with the phrases that stand in no other sentence, and those.

    A sentence is a text whose words do not stand together in a longer one.
    """
    phrases = [tuple(row["text"].split()) for row in rows]
    homes: dict[tuple[str, ...], set[int]] = {phrase: set() for phrase in phrases}
    for number, phrase in enumerate(sorted(homes, key=len, reverse=True)):
        if not homes[phrase]:
            for start, end in itertools.combinations(range(len(phrase) + 1), 2):
                if (part := phrase[start:end]) in homes:
                    homes[part].add(number)
    sentences = sorted({number for numbers in homes.values() for number in numbers})
    chosen = set(sentences[::step])
    held = [bool(homes[phrase]) and homes[phrase] <= chosen for phrase in phrases]
    return [row for row, out in zip(rows, held, strict=True) if not out], list(itertools.compress(rows, held))


def by_context(rows: Rows, *twelfths: int) -> tuple[Rows, Rows]:
    """The rows whose paragraph is not in those twelfths of all, by its hash, and those whose is."""

    def chosen(row: dict[str, Any]) -> bool:
        return int(hashlib.sha256(row["context"].encode()).hexdigest(), 16) % 12 in twelfths

    return [row for row in rows if not chosen(row)], [row for row in rows if chosen(row)]


class Splits:
    """The rows of a set's files."""

    def __init__(self, data: Path, folder: str) -> None:
        self.data, self.folder = data, folder

    def __getitem__(self, name: str) -> Rows:
        return list(read_rows(data_file(self.data, f"{self.folder}/{name}.jsonl.gz")))


def _own(of: Splits) -> tuple[Rows, Rows, Rows]:
    return of["train"], of["dev"], of["test"]


def _sst2(of: Splits) -> tuple[Rows, Rows, Rows]:
    return *by_sentence(of["train"], 20), of["dev"]


def _clinc(of: Splits) -> tuple[Rows, Rows, Rows]:
    train, dev, test = ([row for row in of[name] if row["label"] != "oos"] for name in ("train", "dev", "test"))
    return train, dev, test


def _banking(of: Splits) -> tuple[Rows, Rows, Rows]:
    return *every(of["train"], 10), of["test"]


def _squad(of: Splits) -> tuple[Rows, Rows, Rows]:
    return *by_context(of["train"], 0), of["dev"]


def _cmrc(of: Splits) -> tuple[Rows, Rows, Rows]:
    rest, test = by_context(of["dev"], 0, 1)
    train, dev = by_context(rest, 2)
    return [row for row in of["trial"] if row["question"].strip()] + train, dev, test


def _snli(of: Splits) -> tuple[Rows, Rows, Rows]:
    return *every(of["dev"], 10), of["test"]


def right_documents(of: Splits, split: str) -> dict[str, dict[str, int]]:
    """By query, how right each document is, of those that are; split: "test", "train" or "dev", a tenth of train."""
    found: dict[str, dict[str, int]] = {}
    for row in of[f"qrels_{'train' if split == 'dev' else split}"]:
        if row["score"] > 0:
            found.setdefault(row["query_id"], {})[row["doc_id"]] = row["score"]
    return {name: found[name] for name in list(found)[::10]} if split == "dev" else found


def documents(corpus: Rows) -> dict[str, str]:
    """By its id, the title and text of each document of scifact."""
    return {row["id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in corpus}


def _scifact(of: Splits) -> tuple[Rows, Rows, Rows]:
    """Pairs of a claim, a title or a sentence, and an abstract; there is no test split of pairs: see `reranking.py`."""
    rng, corpus = np.random.default_rng(0), of["corpus"]
    texts = documents(corpus)
    claims, queries = right_documents(of, "train"), {row["id"]: row["text"] for row in of["queries_train"]}
    asked = [(queries[name], {found: texts[found] for found in right}) for name, right in claims.items()]
    for row in corpus:  # what is asked with is taken out of the document
        name, title = row["id"], (row.get("title") or "").strip()
        sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", row["text"])
        fit = [i for i, sentence in enumerate(sentences) if 8 <= len(sentence.split()) <= 40]
        if title:
            asked.append((title, {name: row["text"]}))
        if fit:
            sentence = sentences.pop(rng.choice(fit))
            asked.append((sentence, {name: f"{title} {' '.join(sentences)}".strip()}))
    names = list(texts)
    with edgebert.load("edgebert-mini-en", task="embedding") as model:
        vectors = model.encode_document(list(texts.values()))
        wanted = model.encode_query([text for text, _ in asked])
    rows: list[Rows] = []
    for query, (text, right) in zip(wanted, asked, strict=True):
        best = [names[i] for i in np.argsort(-(vectors @ query))[:RERANKED] if names[i] not in right]
        places = NEGATIVES if len(rows) < len(claims) else (int(rng.choice(NEGATIVES)),)
        pairs = [(found, 1) for found in right.values()] + [(texts[best[place - 1]], 0) for place in places]
        rows.append([{"text": text, "text_pair": found, "label": label} for found, label in pairs])
    dev = [row for some in rows[: len(claims) : 10] for row in some]
    train = [row for i, some in enumerate(rows) for row in some if i % 10 or i >= len(claims)]
    return train, dev, dev


SETS: dict[str, tuple[str, str, Callable[[Splits], tuple[Rows, Rows, Rows]]]] = {
    "sst2": ("classify", "sst2", _sst2),
    "chnsenticorp": ("classify", "chnsenticorp_htl", _own),
    "clinc150": ("classify", "clinc150", _clinc),
    "banking77": ("classify", "banking77", _banking),
    "wnut17": ("tag", "wnut17", _own),
    "btc_ner": ("tag", "btc_ner", _own),
    "wikigold": ("tag", "wikigold", _own),
    "squad_part": ("answer", "squad_part", _squad),
    "cmrc2018": ("answer", "cmrc2018", _cmrc),
    "snli": ("pairs", "snli", _snli),
    "scifact": ("pairs", "scifact", _scifact),
}


def with_names(data: Path, count: int) -> list[str]:
    """That many sentences of sentences_en/permissive with two capitalized words behind the first, evenly of `NAMED`."""
    found: dict[str, list[str]] = {source: [] for source in NAMED}
    for text, source in read_labelled([data_file(data, "sentences_en/permissive.tsv.gz")], label="source"):
        words = text.split()
        if source in found and 6 <= len(words) <= 45:
            capital = [word for word in words[1:] if word[0].isupper() and word != "I" and not word.startswith("I’")]
            if len(capital) > 1:
                found[source].append(text)
    each = -(-count // len(NAMED))
    return [text for texts in found.values() for text in texts[:: max(1, len(texts) // each)][:each]][:count]


def joined(rows: Rows, count: int) -> list[str]:
    """That many texts of two or three of the rows' texts, drawn by chance: where phrases teach what reads sentences."""
    rng, texts = np.random.default_rng(0), [row["text"].strip() for row in rows]
    return [" , ".join(texts[i] for i in rng.integers(len(texts), size=2 + n % 2)) for n in range(count)]
