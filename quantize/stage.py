"""The stage: a model and calibration text in, a bundle with fp32 and int8 files for both engines out."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import onnx

from edgebert.bundle import Bundle, seal
from edgebert.card import model_card
from edgebert.distill.encoder import SentenceEncoder, load_encoder, torch_embedder
from edgebert.distill.folder import write_model
from edgebert.embedder import Embedder
from edgebert.engines import open_engine
from edgebert.errors import DataError
from edgebert.files import new_folder
from edgebert.manifest import Artifact, Manifest, Parity, Quality
from edgebert.progress import Progress
from edgebert.quantize.calibration import calibration
from edgebert.quantize.context import Context
from edgebert.quantize.export import export_onnx, export_openvino
from edgebert.quantize.own_answers import OwnAnswers, own_answers
from edgebert.quantize.parity import Gates, Measured, measure, require
from edgebert.quantize.passes.float16 import Float16
from edgebert.quantize.recipe import DEFAULT, LADDER, Recipe, TableBits, with_tables
from edgebert.quantize.reference import Reference, reference
from edgebert.quantize.search import ENOUGH, Attempt, Search, keep
from edgebert.quantize.sensitivity import node_names, sensitivity
from edgebert.quantize.task_gate import Judged, TaskGate
from edgebert.tasks.asked import Item, as_text
from edgebert.timing import Timing, side_by_side

AGREEMENT_TEXTS = 300
_SCAN = 200_000
_SINGLES = 64


@dataclass(frozen=True)
class Options:
    """How to quantize.

    samples: calibration texts; made-up inputs of all lengths are added. recipe: the one to use; None tries the ladder
    from the default on. tables: bits of embedding tables, where the recipe does not say. half: keep the weights of the
    fp32 files in float16 on disk. task: the share of a task's score to keep; with it all recipes compete and the
    fastest that passes is taken.
    """

    samples: int = 200
    recipe: Recipe | None = None
    tables: TableBits | None = None
    half: bool = False
    gates: Gates = field(default_factory=Gates)
    task: TaskGate | None = None

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """What is tried, in this order."""
        names = [recipe.name for recipe in LADDER]
        ladder = LADDER if self.task is not None else LADDER[names.index(DEFAULT) :]
        chosen = ladder if self.recipe is None else (self.recipe,)
        return chosen if self.tables is None else tuple(with_tables(recipe, self.tables) for recipe in chosen)


@dataclass(frozen=True)
class Row:
    """One line of the table: an artifact, its size in MB, its parity (None for torch, the reference), its speed."""

    name: str
    size_mb: float
    parity: Parity | None
    timing: Timing


@dataclass(frozen=True)
class Findings:
    """What quantizing found out: the table, all recipes that were tried, the cost of rounding each layer alone (mean of
    1 - cosine, by name; empty where it was not needed), and everything measured of each artifact."""

    table: tuple[Row, ...]
    attempts: tuple[Attempt, ...]
    sensitivity: dict[str, float]
    measured: dict[str, Measured]

    @property
    def chosen(self) -> tuple[Attempt, ...]:
        """The attempt that gave the int8 files, or two, one for each engine."""
        return tuple(attempt for attempt in self.attempts if attempt.taken)

    @property
    def int8(self) -> dict[str, Measured]:
        """What was measured of the int8 artifacts, by name."""
        return {name: self.measured[name] for attempt in self.chosen for name in attempt.taken}

    @property
    def answers(self) -> dict[str, float]:
        """How far a task's answers are torch's, by int8 artifact, of labelled examples or of text without labels."""
        both = {name: one.own if one.answers is None else one.answers for name, one in self.int8.items()}
        return {name: value for name, value in both.items() if value is not None}


def quantize(
    model: Bundle, texts: Iterable[Item], out: Path, options: Options | None = None, *,
    layers: bool = False, progress: Progress | None = None,
) -> tuple[Bundle, Findings]:  # fmt: skip
    """The bundle `out` with fp32 and int8 ONNX and OpenVINO files of `model`, and what was found out on the way.

    texts: calibration text, read as a stream, or pairs of texts where a head asks about two; a part that calibration
    does not see measures the agreement, of a model of a task that is not scored also that of its answers (see
    `edgebert.quantize.own_answers`). layers: rank the layers by sensitivity even where no recipe asks for it.
    Raises: BudgetError when no recipe passes the gates, DataError, BundleError, EngineError; nothing is written then.
    """
    options, progress = options or Options(), progress or Progress()
    if model.is_sealed:
        model.check()
    if options.task is not None:
        options.task.check(model.manifest.heads)
    with new_folder(out) as partial, tempfile.TemporaryDirectory(dir=partial, prefix=".scratch") as scratch:
        work = _Work(model, texts, partial, out, options, progress, Path(scratch))
        findings = work.run(layers=layers)
    return Bundle.open(out), findings


class _Work:
    """One run of the stage, in the folder `partial` that becomes `out`."""

    def __init__(
        self, model: Bundle, texts: Iterable[Item], partial: Path, out: Path, options: Options, progress: Progress,
        scratch: Path,
    ) -> None:  # fmt: skip
        self.partial, self.out, self.options, self.progress = partial, out, options, progress
        self.model, self.torch_model = model, torch_embedder(model)
        seen, self.unseen_items = _split(texts, options.samples)
        self.unseen = [as_text(item) for item in self.unseen_items]
        self.rows = calibration(
            map(as_text, seen), self.torch_model.tokenizer, max_length=model.manifest.max_length,
            samples=options.samples, say=progress.say,
        )  # fmt: skip
        encoder = load_encoder(model)
        self.manifest = write_model(partial, encoder, model, model.manifest)
        progress.start("export", 2)
        fp32 = _export(encoder, self.manifest, partial, progress)
        self.bundle = Bundle(partial, dataclasses.replace(self.manifest, artifacts=fp32), str(out))
        self.context = Context(
            scratch / "model.onnx", self.rows.rows, fp32["onnxruntime-fp32"].inputs,
            model.manifest.pad_token_id, scratch,
        )  # fmt: skip
        shutil.copyfile(partial / "onnx" / "model.onnx", self.context.exported)
        self.sensitivity: dict[str, float] = {}

    def run(self, *, layers: bool) -> Findings:
        """Everything from the reference to the sealed bundle."""
        options, progress = self.options, self.progress
        judged = options.task.reference(self.torch_model) if options.task is not None else Judged()
        own = self._own_answers()
        known = reference(self.torch_model, self.bundle, self.unseen, progress, judged=judged, own=own)
        if options.half:
            self._halve()
        found = self._fp32(known)
        search = Search(self.bundle, self.context, known, options.gates, options.task, self._ranked, progress)
        chosen = search.run(options.recipes, enough=1 if options.task is None or options.recipe else ENOUGH)
        if layers:
            self._ranked()
        found |= {name: attempt.measured[name] for name, attempt in chosen.items()}
        artifacts = {**self.bundle.manifest.artifacts, **keep(chosen, self.partial)}
        bundle = Bundle(self.partial, dataclasses.replace(self.manifest, artifacts=artifacts), str(self.out))
        parities = {name: one.parity for name, one in found.items()}
        table = _table(bundle, self.torch_model, parities, known.timed, progress)
        self._seal(bundle, found, chosen)
        return Findings(tuple(table), tuple(search.attempts), self.sensitivity, found)

    def _own_answers(self) -> OwnAnswers | None:
        """What the heads are asked where there are no labelled examples, and what they answer in torch."""
        if self.options.task is not None and self.options.task.metric == "task":
            return None
        return own_answers(self.torch_model, self.unseen_items, self.progress)

    def _fp32(self, known: Reference) -> dict[str, Measured]:
        """The fp32 artifacts, measured; they must be what torch is.

        Raises: BudgetError.
        """
        found = {}
        for name in self.bundle.manifest.artifacts:
            found[name] = measure(self.bundle, name, dataclasses.replace(known, own=None), None, self.progress)
            require({name: found[name].fault})
        return found

    def _halve(self) -> None:
        """The fp32 files again, with their weights in float16."""
        path = self.partial / "onnx" / "model.onnx"
        recipe = Recipe("float16", (Float16(),))
        onnx.save(recipe.run(self.context), path)
        inputs = self.context.inputs
        export_openvino(path, self.partial / "openvino" / "openvino_model.xml", "fp32", inputs, half=True)
        artifacts = {
            name: dataclasses.replace(artifact, recipe=recipe.facts())
            for name, artifact in self.bundle.manifest.artifacts.items()
        }
        self.bundle = dataclasses.replace(
            self.bundle, manifest=dataclasses.replace(self.bundle.manifest, artifacts=artifacts)
        )

    def _ranked(self) -> tuple[str, ...]:
        """The MatMul nodes of the linear layers, the most sensitive first."""
        if not self.sensitivity:
            self.sensitivity = sensitivity(
                load_encoder(self.model), self.rows, self.manifest.pad_token_id, self.progress
            )
        return node_names(self.context.original, self.sensitivity)

    def _seal(self, bundle: Bundle, found: dict[str, Measured], chosen: dict[str, Attempt]) -> None:
        task, parities = self.options.task, {name: one.parity for name, one in found.items()}
        facts = {
            "calibration_texts": self.rows.texts,
            "calibration_rows": len(self.rows.rows),
            "unknown_tokens": round(self.rows.unknown, 6),
            "recipe": " and ".join(dict.fromkeys(attempt.recipe.name for attempt in chosen.values())),
            "versions": {name: metadata.version(name) for name in ("onnx", "onnxruntime", "openvino")},
        }
        quality = [q for q in self.manifest.quality if q.artifact is None]
        quality += _quality(parities, len(self.unseen))
        names = "" if task is None else " and ".join(Path(file).name for file in task.files)
        if task is not None and task.metric != "agreement":
            quality += [
                Quality(f"{task.metric}_retention", round(found[name].retention, 6), names, name) for name in chosen
            ]
        for name in chosen:
            for value, data in ((found[name].answers, names), (found[name].own, _unseen(len(self.unseen)))):
                if value is not None:
                    quality.append(Quality("task_agreement", round(value, 6), data, name))
        manifest = dataclasses.replace(
            bundle.manifest,
            artifacts={n: dataclasses.replace(a, parity=parities[n]) for n, a in bundle.manifest.artifacts.items()},
            quality=tuple(quality),
            lineage={**self.manifest.lineage, "quantize": facts},
        )
        (self.partial / "README.md").write_text(model_card(manifest, self.out.name, self.partial), encoding="utf-8")
        seal(self.partial, manifest)


def _split(texts: Iterable[Item], samples: int) -> tuple[list[Item], list[Item]]:
    """Texts to calibrate on and texts to measure on, taken in turns from a stream of which enough is read.

    Raises: DataError when there are too few.
    """
    distinct = list(dict.fromkeys(t for t in itertools.islice(texts, _SCAN) if as_text(t).strip()))
    if len(distinct) < 16:
        raise DataError(f"the calibration text has {len(distinct)} distinct usable lines; at least 16 are needed")
    wanted = min(samples + AGREEMENT_TEXTS, len(distinct))
    chosen = [distinct[i * len(distinct) // wanted] for i in range(wanted)]  # from all of it, evenly
    measured = min(AGREEMENT_TEXTS, len(chosen) - min(samples, (len(chosen) + 1) // 2))
    every = len(chosen) / measured
    places = {int(i * every) for i in range(measured)}
    return [t for i, t in enumerate(chosen) if i not in places], [chosen[i] for i in sorted(places)]


def _export(encoder: SentenceEncoder, manifest: Manifest, folder: Path, progress: Progress) -> dict[str, Artifact]:
    """The two fp32 artifacts by name."""
    path = folder / "onnx" / "model.onnx"
    onnxruntime = export_onnx(encoder, manifest.architecture, path, manifest.heads)
    progress.advance()
    openvino = export_openvino(path, folder / "openvino" / "openvino_model.xml", "fp32", onnxruntime.inputs)
    progress.advance()
    return {"onnxruntime-fp32": onnxruntime, "openvino-fp32": openvino}


def _table(
    bundle: Bundle, torch_model: Embedder, parities: dict[str, Parity], timed: Sequence[str], progress: Progress
) -> list[Row]:
    progress.start("measure speed", 1)
    encoders = {name: Embedder(bundle, open_engine(bundle, name)) for name in parities}
    timings = side_by_side({"torch-fp32": torch_model, **encoders}, timed[:_SINGLES], timed)
    for encoder in encoders.values():
        encoder.close()
    progress.advance()

    def size(name: str) -> float:
        files = bundle.manifest.artifacts[name].files if name in parities else ("model.safetensors",)
        return sum((bundle.root / file).stat().st_size for file in files) / 1e6

    return [Row(name, size(name), parities.get(name), timing) for name, timing in timings.items()]


def _quality(parities: dict[str, Parity], texts: int) -> list[Quality]:
    return [
        Quality("agreement_with_fp32", round(parity.agreement, 6), _unseen(texts), name)
        for name, parity in parities.items()
        if parity.agreement is not None
    ]


def _unseen(texts: int) -> str:
    return f"{texts} texts of the calibration file that calibration did not see"
