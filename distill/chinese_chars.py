"""Chinese characters one by one, for a base whose tokens go over several.

A name can be found only where tokens begin and end, and SentencePiece has tokens such as 在北京, "in Beijing". BERT's
own tokenizer reads each Chinese character alone (`tokenize_chinese_chars`: Devlin et al. 2019, arXiv:1810.04805).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgebert.bundle import Bundle
from edgebert.cache import cache_folder
from edgebert.distill.quiet import quiet_transformers
from edgebert.errors import RecipeError

# The blocks of BERT's `_is_chinese_char` and later ones, as characters: not every engine has their names.
_APART = {
    "type": "Split",
    "pattern": {"Regex": "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]"},
    "behavior": "Isolated",
    "invert": False,
}


@contextlib.contextmanager
def chinese_chars_apart(base: Bundle) -> Iterator[Bundle]:
    """`base` with a tokenizer that reads each Chinese character alone, there as long as the context lasts.

    One that does already stays as it is.
    Raises: RecipeError for a tokenizer that is neither SentencePiece's nor BERT's.
    """
    content = json.loads((base.root / "tokenizer.json").read_text(encoding="utf-8"))
    if any(part.get("handle_chinese_chars") for part in _parts(content["normalizer"])):
        yield base
        return
    pre_tokenizers = list(_parts(content["pre_tokenizer"]))
    if _APART in pre_tokenizers:
        yield base
        return
    if not any(part["type"] == "Metaspace" for part in pre_tokenizers):
        kinds = ", ".join(part["type"] for part in pre_tokenizers) or "none"
        raise RecipeError(
            f"tokenize_chinese_chars is for tokenizers of SentencePiece's kind (Metaspace); that of {base.source} "
            f"splits text by {kinds}: leave it out"
        )
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*pre_tokenizers, _APART]}
    cache = cache_folder("runs")
    cache.mkdir(parents=True, exist_ok=True)
    # Windows deletes no file that the weights are still read from.
    with tempfile.TemporaryDirectory(prefix="base-", dir=cache, ignore_cleanup_errors=True) as made:
        folder = Path(made) / base.root.name
        ignore = shutil.ignore_patterns("onnx", "openvino", "golden", ".*")
        shutil.copytree(base.root, folder, copy_function=_link, ignore=ignore)
        _write(folder / "tokenizer.json", content)
        _write(folder / "tokenizer_config.json", _settings(base))
        yield dataclasses.replace(base, root=folder)


def _parts(component: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """A normalizer or pre-tokenizer, of a sequence its parts."""
    if component is None:
        return
    inside = component.get("pretokenizers", component.get("normalizers"))
    if component["type"] == "Sequence":
        for part in inside or ():
            yield from _parts(part)
    else:
        yield component


def _settings(base: Bundle) -> dict[str, Any]:
    """The tokenizer's settings for a class that takes tokenizer.json as it is; XLMRobertaTokenizer makes its own."""
    from transformers import AutoTokenizer

    path = base.root / "tokenizer_config.json"
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    with quiet_transformers():
        found = AutoTokenizer.from_pretrained(base.root, local_files_only=True, trust_remote_code=False)
    special = {name: str(token) for name, token in found.special_tokens_map.items() if isinstance(token, str)}
    return settings | special | {"tokenizer_class": "PreTrainedTokenizerFast"}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.unlink(missing_ok=True)  # the file is the base's own where it is a link
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


def _link(source: str, target: str) -> None:
    """A hard link where the file system has them, else a copy."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
