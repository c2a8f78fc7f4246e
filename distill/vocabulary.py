"""Which tokens of a vocabulary a text needs, and the `tokenizer.json` that is left of them. Pure functions of its JSON.

A text whose tokens are all kept is read into the same tokens as before, in each of the three models:

- WordPiece takes the longest piece that matches: it still is the longest of fewer.
- Unigram takes the best sum of scores: it still is the best of fewer. An unknown character costs the least score of all
  pieces and 10 more, so the piece of that score stays too.
- BPE merges pair by pair: with a token stay all that it can be merged from, so that every step of its making is there.

Other words fall back to shorter pieces, down to single characters or bytes, which all stay.

Source: Abdaoui, Pradel and Sigel 2020, "Load what you need", arXiv:2010.05609, who select embedding rows by language.
"""

from __future__ import annotations

import copy
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgebert.errors import BundleError, RecipeError

Characters = Literal["all", "used"]

MODELS = ("WordPiece", "Unigram", "BPE")
DEFAULT_COVERAGE = 0.9995
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_BEGINNING = "\u2581"
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")


def token_ids(content: Mapping[str, Any]) -> dict[str, int]:
    """Every token of the `tokenizer.json` `content`, added ones too, with its id.

    Raises: BundleError for a model that is none of WordPiece, Unigram and BPE.
    """
    model = content["model"]
    if (kind := _kind(model)) not in MODELS:
        raise BundleError(f"the tokenizer's model is {kind!r}; a vocabulary can be trimmed of {', '.join(MODELS)}")
    ids = {t: i for i, (t, _) in enumerate(model["vocab"])} if kind == "Unigram" else dict(model["vocab"])
    return ids | {token["content"]: token["id"] for token in content.get("added_tokens", ())}


def unknown_id(content: Mapping[str, Any]) -> int | None:
    """The id of what stands for text outside the vocabulary, None where there is none, as in byte-level BPE."""
    model = content["model"]
    found = model.get("unk_id") if _kind(model) == "Unigram" else token_ids(content).get(model.get("unk_token") or "")
    return None if found is None else int(found)


def always_kept(content: Mapping[str, Any], but: Collection[int] = ()) -> set[int]:
    """The ids that no trimming drops: added and special tokens, single characters, bytes, and Unigram's least score.

    but: single characters that may go.
    """
    ids, model = token_ids(content), content["model"]
    kept = {int(token["id"]) for token in content.get("added_tokens", ())}
    kept |= set(_processor_ids(content.get("post_processor") or {}))
    kept |= {i for token, i in ids.items() if i not in but and _is_last_resort(token, content)}
    if (unknown := unknown_id(content)) is not None:
        kept.add(unknown)
    if _kind(model) == "Unigram":
        kept.add(int(np.argmin([score for _, score in model["vocab"]])))
    return kept


def choose(
    content: Mapping[str, Any],
    counts: NDArray[np.int64],
    *,
    keep: int | None = None,
    coverage: float | None = None,
    also: Iterable[int] = (),
    characters: Characters = "all",
) -> NDArray[np.int64]:
    """The ids to keep, ascending: those of `always_kept`, those of `also`, and the most frequent ones of the text.

    counts: how often the text has each id; special tokens are not counted as text. keep: at most so many tokens.
    coverage: so many that this share of the text's tokens is kept; by default 0.9995. A token that the text does not
    have is not kept for its own sake. characters: "used" does not always keep single characters outside ASCII that the
    text does not have; text with another one is then read as unknown.
    Raises: RecipeError for both, for a coverage that is no share, or a `keep` below what must be kept.
    """
    if keep is not None and coverage is not None:
        raise RecipeError(f"a vocabulary of {keep} tokens and a coverage of {coverage} contradict each other: give one")
    share = DEFAULT_COVERAGE if coverage is None else coverage
    if not 0 < share <= 1:
        raise RecipeError(f"the coverage is {share}; it must be above 0 and at most 1")
    parts = _parts(content)
    spare = [i for i in _foreign_characters(content) if not counts[i]] if characters == "used" else []
    kept = set(_closed(always_kept(content, spare) | set(also), parts))
    if keep is not None and keep < len(kept):
        raise RecipeError(
            f"a vocabulary of {keep} tokens is too small: {len(kept)} are always kept (special tokens, single "
            "characters and bytes)"
        )
    text = counts.copy()
    text[[int(token["id"]) for token in content.get("added_tokens", ())]] = 0
    covered, wanted = int(text[sorted(kept)].sum()), share * float(text.sum())
    for token in np.argsort(-text, kind="stable").tolist():
        if text[token] == 0 or (keep is None and covered >= wanted):
            break
        if token in kept:
            continue
        new = _closed({token}, parts) - kept
        if keep is not None and len(kept) + len(new) > keep:
            break
        kept |= new
        covered += int(text[sorted(new)].sum())
    return np.array(sorted(kept), np.int64)


def rebuild(content: Mapping[str, Any], kept: NDArray[np.int64]) -> dict[str, Any]:
    """The `tokenizer.json` with the tokens `kept`, ascending ids; a token's new id is its place in `kept`."""
    place = {int(old): new for new, old in enumerate(kept)}
    made: dict[str, Any] = copy.deepcopy(dict(content))
    model = made["model"]
    if _kind(model) == "Unigram":
        model["vocab"] = [piece for i, piece in enumerate(model["vocab"]) if i in place]
        if model.get("unk_id") is not None:
            model["unk_id"] = place[model["unk_id"]]
    else:
        ordered = sorted((place[i], token) for token, i in model["vocab"].items() if i in place)
        model["vocab"] = {token: i for i, token in ordered}
    if _kind(model) == "BPE":
        known = model["vocab"]
        whole = [(merge, *_merge(merge, model)) for merge in model["merges"]]
        model["merges"] = [merge for merge, *tokens in whole if all(token in known for token in tokens)]
    for token in made.get("added_tokens", ()):
        token["id"] = place[token["id"]]
    _renumber(made.get("post_processor") or {}, place)
    return made | {"truncation": None, "padding": None}


def _kind(model: Mapping[str, Any]) -> str:
    """The model's type; files of old versions do not name it."""
    if (named := model.get("type")) is not None:
        return str(named)
    if "merges" in model:
        return "BPE"
    return "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"


def _is_last_resort(token: str, content: Mapping[str, Any]) -> bool:
    """Whether it is one character, or one byte, with or without the mark of a word's inside or end."""
    model, normalizer = content["model"], content.get("normalizer") or {}
    inside = model.get("continuing_subword_prefix") or ""
    bare = token.removeprefix(inside)
    if end := model.get("end_of_word_suffix"):
        bare = bare.removesuffix(end)
    if len(bare) != 1:
        return bool(_BYTE.fullmatch(token))
    # BERT's normalizer makes a word of each Chinese character: inside a word there is none.
    alone = normalizer.get("type") == "BertNormalizer" and normalizer.get("handle_chinese_chars")
    return not (alone and inside and token != bare and _HAN.fullmatch(bare))


def _foreign_characters(content: Mapping[str, Any]) -> set[int]:
    """The ids of single characters outside ASCII, without bytes, which byte-level BPE writes as such characters, and
    without the mark of a word's beginning."""
    if "ByteLevel" in json.dumps([content.get("pre_tokenizer"), content.get("decoder")]):
        return set()
    inside = content["model"].get("continuing_subword_prefix") or ""
    return {
        i for token, i in token_ids(content).items()
        if token != _BEGINNING and _is_last_resort(token, content) and not token.removeprefix(inside).isascii()
    }  # fmt: skip


def _merge(merge: str | list[str], model: Mapping[str, Any]) -> tuple[str, str, str]:
    """The two tokens of a merge and what they make."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second, first + second.removeprefix(model.get("continuing_subword_prefix") or "")


def _parts(content: Mapping[str, Any]) -> dict[int, set[int]]:
    """For every token of BPE the tokens it can be merged from; empty for the other models."""
    found: dict[int, set[int]] = defaultdict(set)
    if _kind(content["model"]) == "BPE":
        ids = token_ids(content)
        for merge in content["model"]["merges"]:
            first, second, made = _merge(merge, content["model"])
            found[ids[made]] |= {ids[first], ids[second]}
    return found


def _closed(ids: Collection[int], parts: Mapping[int, set[int]]) -> set[int]:
    """`ids` and all that they are made of."""
    found, new = set(ids), set(ids)
    while new:
        new = {part for token in new for part in parts.get(token, ())} - found
        found |= new
    return found


def _processor_ids(processor: Mapping[str, Any]) -> Iterable[int]:
    for inner in processor.get("processors", ()):
        yield from _processor_ids(inner)
    for special in (processor.get("special_tokens") or {}).values():
        yield from special["ids"]
    yield from (processor[key][1] for key in ("sep", "cls") if key in processor)


def _renumber(processor: dict[str, Any], place: Mapping[int, int]) -> None:
    for inner in processor.get("processors", ()):
        _renumber(inner, place)
    for special in (processor.get("special_tokens") or {}).values():
        special["ids"] = [place[i] for i in special["ids"]]
    for key in ("sep", "cls"):
        if key in processor:
            processor[key] = [processor[key][0], place[processor[key][1]]]
