"""Results equal those of transformers' pipelines on the same weights."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from conftest import Result
from helpers import make_teacher, sentences
from tasks.made import with_head, write_rows

import edgebert
from edgebert.bundle import Bundle
from edgebert.errors import BundleError, DataError, EngineError, RecipeError
from edgebert.manifest import Head
from edgebert.probability import log_odds, probabilities
from edgebert.quantize.stage import Options, quantize
from edgebert.schema import plain
from edgebert.tasks import as_task, opened_as
from edgebert.tasks.classify import Classifier

LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
TEXTS = [*sentences(6, seed=3), "你好 狗 😀 x", "مرحبا the dog שלום 猫", "a", ""]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "classify": ("AutoModelForSequenceClassification", {"id2label": {0: "a", 1: "b", 2: "c"}, "num_labels": 3}),
    "multi-label": (
        "AutoModelForSequenceClassification",
        {"id2label": {0: "a", 1: "b"}, "num_labels": 2, "problem_type": "multi_label_classification"},
    ),
    "regress": ("AutoModelForSequenceClassification", {"num_labels": 1, "problem_type": "regression"}),
    "tag": ("AutoModelForTokenClassification", {"id2label": LABELS, "num_labels": 5}),
    "answer": ("AutoModelForQuestionAnswering", {}),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Quantized bundles of each kind, made when they are first asked for."""
    root, made = tmp_path_factory.mktemp("tasks"), dict[str, Path]()

    def get(kind: str) -> Path:
        if kind not in made:
            base = root / "base" if (root / "base").exists() else make_teacher(root / "base", layers=2)
            auto, config = KINDS[kind]
            with_head(base, root / kind, auto, **config)
            made[kind] = root / f"{kind}-bundle"
            quantize(Bundle.from_pretrained(root / kind), sentences(60, seed=1), made[kind], Options(samples=40))
        return made[kind]

    return get


def pipeline(task: str, path: Path, **options: Any) -> Any:
    """Transformers' pipeline of a bundle's own weights."""
    return transformers.pipeline(task, model=str(path), tokenizer=str(path), **options)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_labels_and_scores_are_those_of_text_classification(bundle: Callable[[str], Path], engine: str) -> None:
    path = bundle("classify")
    theirs = pipeline("text-classification", path, top_k=None)(TEXTS)
    with edgebert.load(path, engine=engine, precision="fp32", task="classify") as model:
        assert type(model).__name__ == "Classifier"
        ours = model.classify_all(TEXTS)
        best = model.classify(TEXTS)
    for mine, wanted, one in zip(ours, theirs, best, strict=True):
        assert [c.label for c in mine] == [w["label"] for w in wanted]
        assert [c.score for c in mine] == pytest.approx([w["score"] for w in wanted], abs=1e-4)
        assert one == mine[0]
    assert len({one.label for one in best}) > 1


def test_several_labels_have_a_probability_each(bundle: Callable[[str], Path]) -> None:
    path = bundle("multi-label")
    theirs = pipeline("text-classification", path, top_k=None, function_to_apply="sigmoid")(TEXTS)
    with edgebert.load(path, precision="fp32", task="classify") as model:
        assert model.head.multi_label
        for mine, wanted in zip(model.classify_all(TEXTS), theirs, strict=True):
            assert {c.label: c.score for c in mine} == pytest.approx({w["label"]: w["score"] for w in wanted}, abs=1e-4)
        held = model.classify_all(TEXTS, threshold=0.5)
        assert all(c.score >= 0.5 for one in held for c in one)


def test_pairs_are_read_as_two_segments(bundle: Callable[[str], Path]) -> None:
    path = bundle("classify")
    pairs = list(pairwise(TEXTS[:7]))
    theirs = pipeline("text-classification", path, top_k=None)([{"text": a, "text_pair": b} for a, b in pairs])
    with edgebert.load(path, precision="fp32", task="pairs") as model:
        ours = model.score_pairs(pairs, label="b")
        ranked = model.rank(TEXTS[0], TEXTS[1:6], top_k=2, label="c")
    assert ours == pytest.approx([next(w["score"] for w in one if w["label"] == "b") for one in theirs], abs=1e-4)
    assert len(ranked) == 2
    assert ranked[0].score >= ranked[1].score
    assert ranked[0].document == TEXTS[1:6][ranked[0].index]


@pytest.mark.parametrize(("name", "label"), [("classify", "b"), ("multi-label", "b"), ("regress", None)])
def test_documents_are_ranked_by_the_sum_with_similarities(
    bundle: Callable[[str], Path], name: str, label: str | None
) -> None:
    documents, near = TEXTS[1:6], np.array([0.9, 0.1, 0.5, -0.2, 0.3], np.float32)
    with edgebert.load(bundle(name), precision="fp32", task="pairs") as model:
        pairs = [(TEXTS[0], text) for text in documents]
        odds, scores = np.array(model.log_odds(pairs, label=label)), np.array(model.score_pairs(pairs, label=label))
        alone = model.rank(TEXTS[0], documents, label=label, similarities=near, weight=0)
        ranked = model.rank(TEXTS[0], documents, label=label, similarities=near, weight=2)
        by_default = model.rank(TEXTS[0], documents, label=label, similarities=near.tolist(), top_k=2)
    assert odds == pytest.approx(scores if label is None else np.log(scores / (1 - scores)), abs=1e-4)
    assert np.ptp(odds) > 0.01
    assert [one.index for one in alone] == [0, 2, 4, 1, 3]
    total = near + 2 * odds
    assert [one.index for one in ranked] == np.argsort(-total).tolist()
    assert [one.score for one in ranked] == pytest.approx(sorted(total, reverse=True))
    assert [one.score for one in by_default] == pytest.approx(sorted(near + 0.05 * odds, reverse=True)[:2])


def test_log_odds_of_what_is_certain_are_finite() -> None:
    head = Head("pairs", "pairs", "text", ("0", "1"))
    logits = np.array([-60.0, 60.0], np.float32)
    assert probabilities(logits, head)[1] == 1
    assert log_odds(logits, 1, head) == pytest.approx(120)
    assert log_odds(logits, 0, head) == pytest.approx(-120)
    assert log_odds(logits, 1, dataclasses.replace(head, temperature=2.0)) == pytest.approx(60)


def test_numbers_are_the_logits(bundle: Callable[[str], Path]) -> None:
    path = bundle("regress")
    theirs = pipeline("text-classification", path, function_to_apply="none")(TEXTS)
    with edgebert.load(path, precision="fp32", task="regress") as model:
        assert model.predict(TEXTS) == pytest.approx([one["score"] for one in theirs], abs=1e-4)


def test_tags_are_those_of_token_classification(bundle: Callable[[str], Path]) -> None:
    path = bundle("tag")
    theirs = pipeline("token-classification", path, aggregation_strategy="simple")
    with edgebert.load(path, precision="fp32", task="tag") as model:
        found = model.tag(TEXTS)
    assert sum(map(len, found)) > 5
    for text, mine in zip(TEXTS, found, strict=True):
        wanted = [w for w in (theirs(text) if text else []) if w["entity_group"] != "O"]
        assert [(t.start, t.end, t.label) for t in mine] == [(w["start"], w["end"], w["entity_group"]) for w in wanted]
        assert [t.score for t in mine] == pytest.approx([w["score"] for w in wanted], abs=1e-4)
        assert all(t.text == text[t.start : t.end] for t in mine)


def test_places_of_tags_are_in_a_text_that_can_be_seen(
    bundle: Callable[[str], Path], tmp_path: Path, cli: Callable[..., Result]
) -> None:
    words = " ".join(TEXTS).split()
    own = write_rows(tmp_path / "own.jsonl", [{"tokens": words}, {"tokens": words, "text": "  ".join(words)}])
    (tmp_path / "new.conll").write_text("".join(f"{word} -\n" for word in words), encoding="utf-8")
    (tmp_path / "new.txt").write_text("the dog takes the S-Bahn\n", encoding="utf-8")
    done = cli("predict", bundle("tag"), own, tmp_path / "new.conll", tmp_path / "new.txt", "--precision", "fp32")
    joined, spaced, columns, text = map(json.loads, done.out.splitlines())
    assert joined["tags"]
    assert all(tag["text"] == joined["text"][tag["start"] : tag["end"]] for tag in joined["tags"])
    assert columns["text"] == joined["text"]
    assert "text" not in spaced
    assert "text" not in text


def test_answers_are_those_of_question_answering(bundle: Callable[[str], Path]) -> None:
    path = bundle("answer")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    import torch

    with edgebert.load(path, precision="fp32", task="answer") as answerer:
        for question, context in pairwise(TEXTS[:6]):
            encoded = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
            offsets, inside = encoded.pop("offset_mapping")[0].tolist(), encoded.sequence_ids(0)
            with torch.no_grad():
                logits = model(**encoded)
            keep = torch.tensor([i == 0 or place == 1 for i, place in enumerate(inside)])
            start, end = (
                one[0].masked_fill(~keep, -1e9).softmax(0) for one in (logits.start_logits, logits.end_logits)
            )
            scores = torch.triu(torch.outer(start, end))
            scores[0], scores[:, 0] = 0, 0
            first, last = divmod(int(scores.argmax()), len(offsets))
            mine = answerer.answer(question, context)
            assert (mine.start, mine.end) == (offsets[first][0], offsets[last][1])
            assert mine.score == pytest.approx(float(scores.max()), abs=1e-4)
            assert mine.text == context[mine.start : mine.end]


def test_what_is_asked_for_wrongly_is_one_error(bundle: Callable[[str], Path]) -> None:
    with edgebert.load(bundle("answer"), precision="fp32", task="answer") as answerer:
        asked: Any = answerer
        for options, told in (
            ({"top_k": None}, "top_k is None; it must be 1 or more"),
            ({"longest": 0}, "longest is 0; it must be 1 or more"),
            ({"longest": None}, "longest is None"),
        ):
            with pytest.raises(RecipeError, match=told):
                asked.answers("a?", "the dog", **options)
        for wrong in ([("a", "b", "c")], [None], ["ab"]):
            with pytest.raises(DataError, match="every one must be two strings"):
                asked.best(wrong)
        with pytest.raises(DataError, match=r"asked\[1\]: the context is ''; a text that is not blank"):
            asked.best([("a", "b"), ("a", "")])
        for name, pair in (("question", (None, "a")), ("context", ("a", 1))):
            with pytest.raises(DataError, match=rf"{name} is (None|1) \(\w+\); a string is needed"):
                asked.answer(*pair)
    with edgebert.load(bundle("classify"), precision="fp32", task="classify") as classifier:
        asked = classifier
        with pytest.raises(RecipeError, match="threshold is '0.5'; it must be a number within 0 to 1"):
            asked.classify_all("a", threshold="0.5")
    with edgebert.load(bundle("classify"), precision="fp32", task="pairs") as scorer:
        with pytest.raises(RecipeError, match="the model has the labels a, b, c; say which one is scored: label="):
            scorer.rank("a", ["b", "c"])
        asked = scorer
        with pytest.raises(DataError, match=r"query is None \(NoneType\); a string is needed"):
            asked.rank(None, [], label="a")
        for wrong, told in (
            ([1.0], r"similarities have the shape \(1,\); 2 documents need \(2,\)"),
            ([0.5, float("nan")], r"similarities\[1\] is nan; every one must be finite"),
            ([10**400, 1.0], r"similarities are \[1000.*real numbers are needed"),
            ([None, 1.0], r"similarities are \[None, 1.0\] \(object\); real numbers are needed"),
            (["0.1", "0.2"], "similarities are .*; real numbers are needed"),
            (np.array([1 + 2j, 3]), r"similarities are .* \(complex128\); real numbers are needed"),
            ([[1.0], [1.0, 2.0]], "similarities cannot be read as numbers, one for each document"),
            (torch.ones(2, requires_grad=True), "similarities cannot be read as numbers, one for each document"),
        ):
            with pytest.raises(DataError, match=told):
                asked.rank("a", ["b", "c"], label="b", similarities=wrong)
        for weight in (-1, float("inf"), float("nan"), "1", True, 10**400):
            with pytest.raises(RecipeError, match="weight is .*; it must be a number of 0 to 1e[+]06"):
                asked.rank("a", ["b", "c"], label="b", similarities=[1, 2], weight=weight)
        with pytest.raises(
            RecipeError, match="weight is 0.1, but no similarities are given; leave it out or give them"
        ):
            asked.rank("a", ["b", "c"], label="b", weight=0.1)
        assert asked.rank("a", [], label="b", similarities=[]) == []
        ranked = scorer.rank("a", ["the dog", "c", "d"], label="b")
        assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
        assert ranked[0].score == max(scorer.score_pairs([("a", t) for t in ("the dog", "c", "d")], label="b"))


def test_the_temperature_divides_what_transformers_softens(bundle: Callable[[str], Path]) -> None:
    whole = Bundle.open(bundle("classify"))
    head = dataclasses.replace(whole.manifest.heads[0], temperature=2.0)
    with edgebert.load(whole.root, precision="fp32", task="classify") as model:
        facts = dataclasses.replace(whole.manifest, heads=(head,))
        cooler = Classifier(dataclasses.replace(whole, manifest=facts), model.opened)
        logits = [one[0] for one in model.logits(TEXTS)]
        found = cooler.classify_all(TEXTS)
        cooler.close()
    for one, labels in zip(logits, found, strict=True):
        wanted = np.exp(one / 2) / np.exp(one / 2).sum()
        scores = {label.label: label.score for label in labels}
        assert [scores[name] for name in head.labels] == pytest.approx(wanted.tolist(), abs=1e-5)


def test_a_graph_that_others_exported_for_a_task_runs(bundle: Callable[[str], Path], tmp_path: Path) -> None:
    for kind, outputs in (("classify", ("logits",)), ("answer", ("start_logits", "end_logits"))):
        made, folder = Bundle.open(bundle(kind)), tmp_path / kind
        (folder / "onnx").mkdir(parents=True)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
            shutil.copyfile(made.root / name, folder / name)
        graph = onnx.load(made.root / "onnx" / "model.onnx")
        kept = [one for one in graph.graph.output if one.name == "logits"]
        if kind == "answer":  # as optimum exports it
            for place, name in enumerate(outputs):
                index = onnx.numpy_helper.from_array(np.array(place), f"{name}_at")
                graph.graph.initializer.append(index)
                graph.graph.node.append(onnx.helper.make_node("Gather", ["logits", index.name], [name], axis=2))
            kept = [onnx.helper.make_tensor_value_info(name, 1, ["batch", "tokens"]) for name in outputs]
        del graph.graph.output[:]
        graph.graph.output.extend(kept)
        onnx.save(graph, folder / "onnx" / "model.onnx")
        with edgebert.load(folder) as theirs, edgebert.load(made.root, precision="fp32", engine="onnxruntime") as ours:
            assert theirs.unproven
            if kind == "classify":
                assert [one.label for one in theirs.classify(TEXTS)] == [one.label for one in ours.classify(TEXTS)]
            else:
                asked = "the dog?", "the dog walks under the city"
                assert theirs.answer(*asked).text == ours.answer(*asked).text
        with pytest.raises(EngineError, match="must give sentence_embedding or last_hidden_state"):
            edgebert.load(folder, task="embedding")


def test_its_card_says_what_it_is_and_how_it_is_used(bundle: Callable[[str], Path]) -> None:
    card = (bundle("tag") / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: token-classification" in card
    assert "- tag (tag): O, B-PER, I-PER, B-LOC, I-LOC" in card
    assert 'edgebert.load("THIS_FOLDER", task="tag")' in card
    assert 'pipeline("token-classification", model="THIS_FOLDER")' in card
    assert "AutoModelForQuestionAnswering" in (bundle("answer") / "README.md").read_text(encoding="utf-8")
    assert "SentenceTransformer" not in card


def test_a_context_of_fifty_thousand_characters_is_read(bundle: Callable[[str], Path]) -> None:
    context = "the dog 😀 walks under the city. " * 1600
    assert len(context) > 50_000
    with edgebert.load(bundle("answer"), precision="fp32", task="answer") as answerer:
        found = answerer.answers("the dog?", context, top_k=3)
        assert len(found) == 3
        assert all(one.text == context[one.start : one.end] and one.text for one in found)
        rows = answerer.reader.contexts("the dog?", context)
        assert max(place[1] for place in rows[-1].offsets if place) == len(context.rstrip())
        with pytest.raises(DataError, match="the question is ' '; a text that is not blank is needed"):
            answerer.answer(" ", context)


def test_a_method_of_another_task_is_told(bundle: Callable[[str], Path]) -> None:
    with edgebert.load(bundle("tag"), precision="fp32") as model:
        assert not hasattr(model, "classify")
        with pytest.raises(
            RecipeError, match="is made for the task 'tag' and was loaded as a Tagger, which has no enc"
        ):
            model.encode(["a"])
        with pytest.raises(AttributeError, match="'Tagger' object has no attribute 'foo'"):
            model.foo  # noqa: B018
    with pytest.raises(RecipeError, match="is made for the task 'tag' and cannot do 'answer'"):
        edgebert.load(bundle("tag"), task="answer")
    with pytest.raises(RecipeError, match="is made for the task 'classify' and cannot do 'regress'"):
        edgebert.load(bundle("classify"), task="regress")
    with pytest.raises(RecipeError, match="is made for the task 'regress' and cannot do 'classify'"):
        edgebert.load(bundle("regress"), task="classify")


def test_a_task_that_this_version_has_not_is_told(bundle: Callable[[str], Path]) -> None:
    made = Bundle.open(bundle("tag"))
    newer = dataclasses.replace(made, manifest=dataclasses.replace(made.manifest, task="chat"))
    with pytest.raises(BundleError, match="is made for the task 'chat'; this edgebert knows embedding, classify"):
        opened_as(newer, None)


def test_int8_says_the_same_of_nearly_all(bundle: Callable[[str], Path]) -> None:
    path, texts = bundle("classify"), sentences(100, seed=8)
    with edgebert.load(path, precision="fp32", task="classify") as one:
        exact = one.classify(texts)
    with edgebert.load(path, precision="int8", task="classify") as one:
        rounded = one.classify(texts)
    assert sum(a.label == b.label for a, b in zip(exact, rounded, strict=True)) >= 85  # of labels drawn at random
    assert sum(abs(a.score - b.score) for a, b in zip(exact, rounded, strict=True)) / len(texts) < 0.05


def test_a_transformers_classifier_of_pairs_is_scored_and_kept_as_one(
    bundle: Callable[[str], Path], tmp_path: Path, cli: Callable[..., Result]
) -> None:
    rows = [{"text": a, "text_pair": b, "label": "b"} for a, b in pairwise(TEXTS[:7])]
    file = write_rows(tmp_path / "pairs.jsonl", rows)
    model = bundle("classify")
    with edgebert.load(model, precision="fp32", task="pairs") as scorer:
        said = [one.label for one in scorer.classify_pairs(list(pairwise(TEXTS[:7])))]
    done = cli("evaluate", model, "--precision", "fp32", "--labelled", file, "--task", "pairs")
    assert done.code == 0, done.err
    assert f"{said.count('b') / len(said):.4f}" in done.out
    assert as_task(Bundle.open(model), "pairs").manifest.heads[0].task == "pairs"
    with pytest.raises(RecipeError, match="is made for the task 'classify' and cannot do 'tag'"):
        as_task(Bundle.open(model), "tag")
    with pytest.raises(RecipeError, match="is made for the task 'classify' and cannot do 'regress'"):
        as_task(Bundle.open(model), "regress")
    write_rows(tmp_path / "pairs.jsonl", [row | {"label": "z"} for row in rows])
    done = cli("evaluate", model, "--precision", "fp32", "--labelled", file, "--task", "pairs")
    assert done.code == 1
    assert "row 1: the label 'z' is not among those of the training text: a, b, c" in done.err


def test_predict_lists_what_it_is_asked_for(
    bundle: Callable[[str], Path], tmp_path: Path, cli: Callable[..., Result]
) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])
    pairs = write_rows(tmp_path / "pairs.jsonl", [{"text": a, "text_pair": b} for a, b in pairwise(TEXTS)])
    asked = write_rows(tmp_path / "asked.jsonl", [{"question": "what?", "context": text} for text in TEXTS if text])

    def lines(kind: str, *options: object) -> list[dict[str, Any]]:
        done = cli("predict", bundle(kind), *options, "--precision", "fp32")
        assert done.code == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]

    with edgebert.load(bundle("classify"), precision="fp32", task="classify") as model:
        best = [[plain(one) for one in found] for found in model.classify_all(TEXTS, top_k=2)]
        probable = [[plain(one) for one in found] for found in model.classify_all(TEXTS, threshold=0.3)]
    assert lines("classify", texts, "--top-k", 2) == [{"labels": found} for found in best]
    assert lines("classify", texts, "--threshold", 0.3) == [{"labels": found} for found in probable]
    assert all(len(line["labels"]) == 2 for line in lines("classify", pairs, "--task", "pairs", "--top-k", 2))
    with edgebert.load(bundle("answer"), precision="fp32", task="answer") as model:
        wanted = [[plain(one) for one in model.answers("what?", text, top_k=2)] for text in TEXTS if text]
    for line, answers in zip(lines("answer", asked, "--top-k", 2), wanted, strict=True):
        assert [one["text"] for one in line["answers"]] == [one["text"] for one in answers]
    done = cli("predict", bundle("tag"), texts, "--top-k", 2, "--precision", "fp32")
    assert done.code == 1
    assert "top_k is 2; a tagger has nothing to choose by it: leave it out" in done.err
    done = cli("predict", bundle("classify"), texts, "--threshold", 2, "--precision", "fp32")
    assert "threshold is 2.0; it must be a number within 0 to 1" in done.err
