"""The sentence-transformers conventions, read into a manifest and written back.

`read_pretrained` is what every model passes on its way in: pooling, normalisation, prompts and maximum length come from
`modules.json` and its neighbours; what they leave open is assumed by the rules below and stated in
`lineage["assumed"]`. `write_sentence_files` writes the same facts in the form that sentence-transformers of both the
old (5.x) and the new (6.x) layout read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from edgebert.errors import BundleError
from edgebert.manifest import OFFSET_POSITIONS, OUTPUT, SCHEMA_VERSION, Head, Level, Manifest, PoolingMode

ARCHITECTURES = ("bert", "mpnet", "roberta", "xlm-roberta", "distilbert", "electra")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")

_POOLING_FLAGS: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_TASK_CLASSES: dict[str, Level] = {
    "ForSequenceClassification": "text",
    "ForTokenClassification": "token",
    "ForQuestionAnswering": "span",
}
_MULTI = "multi_label_classification"
_ENGINE_FILES = ("onnx", "openvino", "*.onnx", "openvino_model*.xml")


def read_pretrained(folder: Path) -> Manifest:
    """The facts about the Hugging Face model folder `folder`, as a manifest without files and artifacts.

    Raises: BundleError for a folder that is no model, lacks weights or a tokenizer, or has an unsupported architecture
    or sentence-transformers module.
    """
    config = read_config(folder)
    _require_one(folder, TOKENIZERS, "tokenizer")
    if not any(any(folder.glob(pattern)) for pattern in _ENGINE_FILES):
        _require_one(folder, WEIGHTS, "weights")
    assumed: list[str] = []
    modules = _modules(folder, config, assumed)
    prompts = _read_object(folder / "config_sentence_transformers.json")
    # A sentence-transformers model pools its encoder's states, whatever class was trained last.
    steps = _read_json(folder / "modules.json") or ()
    pooled = any(str(step.get("type", "")).endswith("Pooling") for step in steps if isinstance(step, dict))
    heads = () if pooled else _heads(config, folder)
    return Manifest(
        schema=SCHEMA_VERSION,
        task=heads[0].task if heads else "embedding",
        heads=heads,
        architecture=config["model_type"],
        max_length=_max_length(folder, config, assumed),
        prompts=_prompts(prompts.get("prompts") or {}, folder),
        default_prompt_name=prompts.get("default_prompt_name"),
        pad_token_id=config.get("pad_token_id") or 0,
        lineage={"assumed": assumed},
        **modules,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's `config.json`, of a supported architecture.

    Raises: BundleError when the folder or file is missing or damaged, or the architecture is not supported.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a model folder")
    config = _read_object(folder / "config.json")
    if not config:
        raise BundleError(f"{folder} is not a model folder: it has no config.json")
    if config.get("model_type") not in ARCHITECTURES:
        raise BundleError(
            f"{folder}: architecture {config.get('model_type')!r} is not supported; "
            f"supported are {', '.join(ARCHITECTURES)}"
        )
    for key in ("dim" if config["model_type"] == "distilbert" else "hidden_size", "max_position_embeddings"):
        value = config.get(key, 512 if key == "max_position_embeddings" else None)
        if not isinstance(value, int) or value < 1:
            raise BundleError(f"{folder / 'config.json'}: {key} is {value!r}; a whole number from 1 is needed")
    return config


def _heads(config: dict[str, Any], folder: Path) -> tuple[Head, ...]:
    """The head that transformers' class in `architectures` has, if it is one of a task.

    A head over a whole text with one logit is taken for a number where the configuration says "regression", and for the
    probability of its only label where it does not.
    """
    name = str(next(iter(config.get("architectures") or ()), ""))
    level = next((level for ending, level in _TASK_CLASSES.items() if name.endswith(ending)), None)
    if level is None:
        return ()
    if level == "span":
        return (Head("answer", "answer", "span"),)
    known = config.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}
    try:
        labels = tuple(str(label) for _, label in sorted((int(i), label) for i, label in known.items()))
    except (AttributeError, TypeError, ValueError):
        raise BundleError(f"{folder / 'config.json'}: id2label is {known!r:.80}; labels by number are needed") from None
    problem = config.get("problem_type")
    if level == "token":
        return (Head("tag", "tag", "token", labels),)
    if problem == "regression":
        return (Head("regress", "regress", "text"),)
    return (Head("classify", "classify", "text", labels, multi_label=problem == _MULTI or len(labels) == 1),)


def position_limit(config: dict[str, Any]) -> int:
    """The longest input, in tokens, that the position table of a model with this `config.json` can number."""
    positions = int(config.get("max_position_embeddings", 512))
    return positions - 2 if config["model_type"] in OFFSET_POSITIONS else positions


def dense_folders(folder: Path) -> tuple[str, ...]:
    """The folders of the Dense modules that `folder`'s modules.json names.

    Raises: BundleError when it is damaged.
    """
    modules = _modules(folder, read_config(folder), [])
    return cast("tuple[str, ...]", modules["dense"])


def write_sentence_files(folder: Path, manifest: Manifest) -> None:
    """Writes modules.json, pooling, normalisation, length and prompts of `manifest` into `folder`.

    The class paths in modules.json are the old ones, which every version of sentence-transformers reads. The Dense
    folders themselves are the caller's.
    """
    steps = [("", "Transformer"), ("1_Pooling", "Pooling"), *((name, "Dense") for name in manifest.dense)]
    if manifest.normalize:
        steps.append((f"{len(steps)}_Normalize", "Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(steps)
    ]
    config = read_config(folder)
    pooling: dict[str, Any] = {"word_embedding_dimension": hidden_size(config)}
    pooling |= {flag: mode in manifest.pooling for flag, mode in _POOLING_FLAGS.items()}
    pooling["include_prompt"] = manifest.include_prompt
    _write_json(folder / "modules.json", modules)
    _write_json(folder / "1_Pooling" / "config.json", pooling)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": manifest.max_length, "do_lower_case": False})
    _write_json(
        folder / "config_sentence_transformers.json",
        {
            "prompts": dict(manifest.prompts),
            "default_prompt_name": manifest.default_prompt_name,
            "similarity_fn_name": "cosine",
        },
    )
    if manifest.normalize:
        (folder / steps[-1][0]).mkdir(exist_ok=True)
        # An empty folder would be lost by git and by the Hub.
        _write_json(folder / steps[-1][0] / "config.json", {})


@dataclass(frozen=True)
class DenseSettings:
    """What the config.json of a Dense module says. activation: the class's name; residual: its input is added."""

    in_features: int
    out_features: int
    activation: str
    bias: bool
    residual: bool


def dense_settings(folder: Path, activations: Collection[str]) -> DenseSettings:
    """The settings of the Dense module in `folder`, whose activation is one of `activations`.

    Raises: BundleError when they are damaged, name another activation, or what is read or made is no sentence vector.
    """
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        widths = int(found["in_features"]), int(found["out_features"])
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise BundleError(f"{folder}: config.json of the Dense module cannot be used: {problem!r:.100}") from None
    activation = str(found.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if activation not in activations:
        raise BundleError(f"{folder}: activation {activation!r} is not supported; known: {', '.join(activations)}")
    for key in ("module_input_name", "module_output_name"):
        if (value := found.get(key) or OUTPUT) != OUTPUT:
            raise BundleError(f"{folder}: {key} of the Dense module is {value!r}; supported is {OUTPUT!r}")
    return DenseSettings(*widths, activation, bool(found.get("bias", True)), bool(found.get("use_residual", False)))


def hidden_size(config: dict[str, Any]) -> int:
    """The width of the last hidden state of a model with this `config.json`."""
    return int(config["dim"] if config["model_type"] == "distilbert" else config["hidden_size"])


def _modules(folder: Path, config: dict[str, Any], assumed: list[str]) -> dict[str, Any]:
    """Pooling, dense, normalisation and dimension out of modules.json."""
    modules = _read_json(folder / "modules.json")
    facts: dict[str, Any] = {"pooling": (), "dense": (), "include_prompt": True, "normalize": False}
    width = hidden_size(config)
    if modules is None:
        assumed += ["pooling: mean over tokens (no modules.json)", "normalisation: L2 (no modules.json)"]
        return facts | {"pooling": ("mean",), "normalize": True, "dimension": width}
    order = ""
    for module in modules if isinstance(modules, list) else [modules]:
        if not isinstance(module, dict) or not isinstance(module.get("path", ""), str):
            raise BundleError(f"{folder / 'modules.json'} is damaged: {module!r:.80} is no module")
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        order += "" if kind == "Dropout" else kind[:1]
        if kind == "Pooling":
            settings = _read_object(folder / module.get("path", "") / "config.json")
            if not settings:
                assumed.append(f"pooling: mean over tokens (no {module.get('path', '')}/config.json)")
            facts["pooling"] = _pooling(settings, folder)
            facts["include_prompt"] = bool(settings.get("include_prompt", True))
            width *= len(facts["pooling"])
        elif kind == "Dense":
            settings = _read_object(folder / module.get("path", "") / "config.json")
            facts["dense"] += (module.get("path", ""),)
            width = settings.get("out_features", 0)
            if not isinstance(width, int) or width < 1:
                raise BundleError(
                    f"{folder / module.get('path', '')}: a Dense module needs out_features, not {width!r}"
                )
        elif kind == "Normalize":
            facts["normalize"] = True
        elif kind not in ("Transformer", "Dropout"):
            raise BundleError(
                f"{folder}: sentence-transformers module {module.get('type')!r} is not supported; "
                "supported are Transformer, Pooling, Dense, Dropout, Normalize"
            )
    if not re.fullmatch("T?P?D*N?", order):
        kinds = ", ".join(str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules)
        raise BundleError(
            f"{folder}: the modules stand in the order {kinds}; supported is Transformer, Pooling, Dense, Normalize"
        )
    if not facts["pooling"]:
        assumed.append("pooling: mean over tokens (modules.json names none)")
        facts["pooling"] = ("mean",)
    return facts | {"dimension": width}


def _pooling(settings: dict[str, Any], folder: Path) -> tuple[PoolingMode, ...]:
    """Modes in the order in which sentence-transformers concatenates them; new key first, then the old flags."""
    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if settings.get(flag)] or ["mean"]
    modes = tuple(modes) if isinstance(modes, list | tuple) else (modes,)
    for mode in modes:
        if mode not in get_args(PoolingMode):
            raise BundleError(f"{folder}: pooling {mode!r} is not supported; known: {', '.join(get_args(PoolingMode))}")
    return cast("tuple[PoolingMode, ...]", modes)


def _max_length(folder: Path, config: dict[str, Any], assumed: list[str]) -> int:
    """The sentence-transformers length, else the tokenizer's, else what the positions allow."""
    limit = position_limit(config)
    settings = _read_object(folder / "sentence_bert_config.json")
    if settings.get("do_lower_case") and not _lowercases(folder):
        raise BundleError(
            f"{folder}: sentence_bert_config.json asks for lower case (do_lower_case) and tokenizer.json keeps "
            "capitals: save the tokenizer with a lower-casing normalizer"
        )
    stated = settings.get("max_seq_length")
    if stated is None:
        stated = _read_object(folder / "tokenizer_config.json").get("model_max_length")
        if not isinstance(stated, int) or stated > limit:
            stated = limit
        assumed.append(f"maximum length: {stated} tokens (no sentence_bert_config.json)")
    if not isinstance(stated, int) or not 2 < stated <= limit:
        raise BundleError(f"{folder}: maximum length {stated!r} is not within 3 to {limit}, the model's positions")
    return stated


def _lowercases(folder: Path) -> bool:
    normalizer = json.dumps(_read_object(folder / "tokenizer.json").get("normalizer"))
    if '"lowercase": true' in normalizer or '"Lowercase"' in normalizer:
        return True
    return not (folder / "tokenizer.json").exists() and bool(
        _read_object(folder / "tokenizer_config.json").get("do_lower_case")
    )


def _prompts(prompts: Any, folder: Path) -> dict[str, str]:
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise BundleError(f"{folder}: prompts are {prompts!r:.80}; texts by name are needed")
    return prompts


def _require_one(folder: Path, names: tuple[str, ...], what: str) -> None:
    if not any((folder / name).is_file() for name in names):
        raise BundleError(f"{folder} has no {what}: one of {', '.join(names)} is needed")


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, empty when there is no such file."""
    data = _read_json(path)
    if data is not None and not isinstance(data, dict):
        raise BundleError(f"{path} is damaged: it holds {data!r:.80} and must hold a JSON object")
    return data or {}


def _read_json(path: Path) -> Any:
    """The JSON in `path`, or None when there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as problem:
        raise BundleError(f"{path} is damaged, it is not JSON: {problem}") from None
    except OSError as problem:
        raise BundleError(f"{path} cannot be read: {problem.strerror}") from None


def _write_json(path: Path, data: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
