"""The model card of a bundle: the README.md that people and the Hub read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.manifest import Artifact, Head, Manifest
from edgebert.tasks import task_named

_FRONT = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- sentence-similarity
- feature-extraction
- edgebert
---
"""


_WITH_EDGEBERT = """\
## Use

With EdgeBERT, which takes the fastest file that is proven right on the machine it runs on:

```python
import edgebert

encoder = edgebert.load("THIS_FOLDER")
vectors = encoder.encode(["one text", "another"])
```
"""


_TASK_FRONT = """\
---
library_name: transformers
pipeline_tag: {tag}
tags:
- {tag}
- edgebert
---
"""
_TASK_USE = """\
## Use

With EdgeBERT, which takes the fastest file that is proven right on the machine it runs on:

```python
import edgebert

model = edgebert.load("THIS_FOLDER", task="{task}")
{call}
```
"""
_PIPELINE = """
With transformers{temperature}:

```python
from transformers import pipeline

pipeline("{tag}", model="THIS_FOLDER")
```
"""
_SPANS = """
With transformers{temperature}:

```python
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

model, tokenizer = (kind.from_pretrained("THIS_FOLDER") for kind in (AutoModelForQuestionAnswering, AutoTokenizer))
```
"""
_MULTI_TAG, _MULTI_CALL = "text-classification", 'model.predict("some text")'


def model_card(manifest: Manifest, name: str, folder: Path, *, plain: bool = False) -> str:
    """The card of the bundle called `name`, in Markdown: facts, quality, artifacts, and how each library opens it.

    folder: where the artifacts' files lie. plain: for a plain Hugging Face folder, which the runtime does not open.
    """
    front = _TASK_FRONT.format(tag=_tag_and_call(manifest)[0]) if manifest.heads else _FRONT
    parts = [front, f"# {name}\n", _facts(manifest)]
    if manifest.quality:
        parts.append(_quality(manifest))
    if manifest.artifacts:
        parts.append(_artifacts(manifest, folder))
    parts.append(_task_use(manifest, plain) if manifest.heads else _use(manifest, plain))
    return "\n".join(parts)


def _task_use(manifest: Manifest, plain: bool) -> str:
    """How a model of a task is opened; transformers opens the folder where one head lies with the encoder."""
    tag, call = _tag_and_call(manifest)
    text = "" if plain else _TASK_USE.format(task=manifest.task, call=call)
    if manifest.task == "multi":
        return text
    (head,) = manifest.heads
    told = "" if head.temperature == 1 else f", whose scores are not divided by the temperature {head.temperature:.3g}"
    use = (_SPANS if head.level == "span" else _PIPELINE).format(tag=tag, temperature=told)
    return text + use if text else f"## Use\n{use}"


def _tag_and_call(manifest: Manifest) -> tuple[str, str]:
    """What the Hub calls its task, and an example of use."""
    if manifest.task == "multi":
        return _MULTI_TAG, _MULTI_CALL
    task = task_named(manifest.task)
    return task.pipeline, task.call


def _facts(manifest: Manifest) -> str:
    lineage = manifest.lineage
    what = f"A sentence encoder ({manifest.architecture}): a text becomes a vector of {manifest.dimension} dimensions."
    if manifest.heads:
        what = f"A model ({manifest.architecture}) of the task {manifest.task}."
    facts = [
        what,
        "",
        *(_head(head) for head in manifest.heads),
        _length(manifest),
        f"- Pooling: {', '.join(manifest.pooling)}; vectors are{'' if manifest.normalize else ' not'} normalised.",
    ]
    facts += [f'- Prompt "{key}": `{text}`' for key, text in sorted(manifest.prompts.items())]
    if "teacher" in lineage:
        facts.append(f"- Distilled from {lineage['teacher']} by EdgeBERT: {lineage.get('student', 'student')}.")
        facts.append("- Its licence is its teacher's; say here which, and name the text it was trained on.")
    elif "tasks" in lineage:
        facts += [_learnt(one, lineage) for one in lineage["tasks"]]
    elif "source" in lineage:
        facts.append(f"- Made from {lineage['source']} by EdgeBERT; its licence is that model's.")
    if "vocabulary" in lineage:
        kept = lineage["vocabulary"]
        facts.append(f"- Its vocabulary was trimmed to {kept['tokens']} of {kept['tokens_before']} tokens.")
    facts += [f"- Assumed, because the source did not say: {text}." for text in lineage.get("assumed", ())]
    return "\n".join(facts) + "\n"


def _length(manifest: Manifest) -> str:
    whole = manifest.heads and all(head.level != "text" for head in manifest.heads)
    longer = "read in windows" if whole else "cut"
    return f"- Maximum length: {manifest.max_length} tokens; longer texts are {longer}."


def _head(head: Head) -> str:
    shown = [re.sub(r"([\\`*_|<>#])", r"\\\1", " ".join(label.split())) for label in head.labels[:30]]
    labels = f": {', '.join(shown)}{' ...' if len(head.labels) > 30 else ''}" if shown else ""
    return f"- {head.name} ({head.task}){labels}"


def _learnt(one: Mapping[str, Any], lineage: Mapping[str, Any]) -> str:
    if "teacher" in one:
        return f"- {one['name']}: distilled from {one['teacher']} by EdgeBERT; say here the licences of model and text."
    return (
        f"- {one['name']}: {lineage['base']}, whose licence it has, fine-tuned on {one['train']} examples by EdgeBERT."
    )


def _quality(manifest: Manifest) -> str:
    rows = [
        f"| {quality.metric} | {quality.value:.4f} | {quality.data} | {quality.artifact or 'torch fp32'} |"
        for quality in manifest.quality
    ]
    return (
        "\n".join(["## Measured\n", "| metric | value | on | artifact |", "| --- | ---: | --- | --- |", *rows]) + "\n"
    )


def _artifacts(manifest: Manifest, folder: Path) -> str:
    rows = [_artifact(name, artifact, folder) for name, artifact in sorted(manifest.artifacts.items())]
    head = [
        "## Files for engines\n",
        "Cosine to torch fp32 over every length at batch 1 and several batch sizes, on ordinary text and on degenerate "
        "text (empty, one word repeated).\n",
        "| artifact | file | MB | minimum | mean | degenerate minimum |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    return "\n".join(head + rows) + "\n"


def _artifact(name: str, artifact: Artifact, folder: Path) -> str:
    size = sum((folder / file).stat().st_size for file in artifact.files) / 1e6
    parity = artifact.parity
    told = (parity.ordinary_min, parity.ordinary_mean, parity.degenerate_min) if parity else ()
    cells = " | ".join(f"{value:.4f}" for value in told) or " | | "
    return f"| {name} | `{artifact.files[0]}` | {size:.1f} | {cells} |"


def _use(manifest: Manifest, plain: bool) -> str:
    text = "## Use\n" if plain else _WITH_EDGEBERT
    text += """
With sentence-transformers (5.7 and 6):

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("THIS_FOLDER")
```
"""
    if not manifest.artifacts:
        return text
    return (
        text
        + """
Its other backends read the same folder; the vectors are those of torch:

```python
SentenceTransformer("THIS_FOLDER", backend="onnx", model_kwargs={"file_name": "onnx/model.onnx"})
SentenceTransformer("THIS_FOLDER", backend="openvino", model_kwargs={"file_name": "openvino/openvino_model.xml"})
```

For int8 choose the file and, with OpenVINO, **the precision f32 for what is not int8**: its default on processors with
bf16 gave wrong vectors at some lengths.

```python
SentenceTransformer("THIS_FOLDER", backend="onnx", model_kwargs={"file_name": "onnx/model_qint8.onnx"})
SentenceTransformer(
    "THIS_FOLDER", backend="openvino",
    model_kwargs={
        "file_name": "openvino/openvino_model_qint8.xml", "ov_config": {"INFERENCE_PRECISION_HINT": "f32"},
    },
)
```
"""
    )
