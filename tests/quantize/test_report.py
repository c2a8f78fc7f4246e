"""The report: what it says, that it loads and runs nothing foreign, is whole or not there, and that its plots draw."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import shown
from conftest import Result

from edgebert.bundle import Bundle
from edgebert.errors import BundleError, EdgeBertError, MissingExtraError
from edgebert.manifest import Artifact, Manifest, Parity
from edgebert.quantize import report
from edgebert.quantize.parity import Gates, Measured
from edgebert.quantize.passes import PASSES
from edgebert.quantize.recipe import LADDER, RECIPES, Recipe
from edgebert.quantize.report import check_report, machine, page, write_report
from edgebert.quantize.report_plots import Point, front, in_float, points, short
from edgebert.quantize.search import INT8, Attempt
from edgebert.quantize.stage import Findings, Options, Row
from edgebert.quantize.task_gate import TaskGate
from edgebert.timing import Timing

Cli = Callable[..., Result]
EVIL = '<script>alert("x")</script>&模型'
LAYERS = [f"encoder.layer.{i}.{part}" for i in range(6) for part in
          ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
           "intermediate.dense", "output.dense")]  # fmt: skip
PLOTS = ("plot-size", "plot-speed", "plot-layers", "plot-lengths")


def measured(retention: float, low: float) -> Measured:
    lengths = [(n, kind, 1 - (1 - low) * 8 / (n + 4) * (1.5 if kind == "degenerate" else 1))
               for n in range(3, 65) for kind in ("ordinary", "degenerate")]  # fmt: skip
    parity = Parity(low, (1 + low) / 2, low - 0.01, low, agreement=retention - 0.0005)
    return Measured(parity, "", retention, tuple(lengths))


def attempt(recipe: Recipe, kept: float, speed: float, size: float, status: Any = "passed", why: str = "") -> Attempt:
    found = {INT8[0]: measured(kept, 0.985), INT8[1]: measured(kept + 0.0004, 0.986)}
    timing = {INT8[0]: Timing(1.6, 2, 3, speed * 0.6), INT8[1]: Timing(1.1, 2, 3, speed)}
    faults = dict.fromkeys(INT8, why if status == "rejected" else "")
    return Attempt(recipe, {}, size, found, timing, status, why, faults, INT8 if status == "chosen" else ())


@pytest.fixture
def findings() -> Findings:
    """A search with every status; two layers of the chosen recipe stay in float."""
    float_2 = LADDER[5].excluding(tuple(f"/encoder/backbone/{n.replace('.', '/')}/MatMul" for n in LAYERS[:2]))
    tried = (
        attempt(LADDER[0], 0.6123, 2900, 22.8, "rejected", "onnxruntime-int8: keeps 0.6123 of the similarity, "
                "at least 0.995 is needed; openvino-int8: cosine 0.61234 on ordinary text (12 tokens)"),
        attempt(replace(LADDER[1], name=EVIL), 0.9961, 2640, 23.4),
        Attempt(LADDER[2], status="failed", why="the engine's process ended with SIGSEGV, a crash of the engine"),
        attempt(LADDER[3], 0.9977, 2600, 24.0),
        attempt(float_2, 0.9988, 2652, 26.1, "chosen", "the fastest one that passes"),
        Attempt(LADDER[6], why="3 cheaper ones pass"),
        Attempt(LADDER[7], why="3 cheaper ones pass"),
    )  # fmt: skip
    known = {"onnxruntime-fp32": measured(0.99999, 0.99999), "openvino-fp32": measured(0.99998, 0.99999)}
    found = {**known, **tried[4].measured}
    sizes = {"onnxruntime-fp32": (91.0, 700.0), "openvino-fp32": (91.4, 800.0), INT8[0]: (26.0, 1600.0),
             INT8[1]: (26.1, 2660.0)}  # fmt: skip
    rows = [Row("torch-fp32", 90.9, None, Timing(6.321, 8, 9, 671))]
    rows += [Row(n, mb, found[n].parity, Timing(1.234, 2, 3, speed)) for n, (mb, speed) in sizes.items()]
    costs = {name: 3e-3 * 0.85**i for i, name in enumerate(LAYERS)}
    return Findings(tuple(rows), tried, costs, found)


@pytest.fixture
def options() -> Options:
    return Options(task=TaskGate("similarity", (f"/data/{EVIL.replace('/', '')}.jsonl",), 0.995))


@pytest.fixture
def bundle() -> Bundle:
    facts = {"calibration_texts": 200, "calibration_rows": 723, "unknown_tokens": 0.0123, "recipe": "x",
             "versions": {"onnx": "1.17.9", "onnxruntime": "1.20.9", "openvino": "2025.9"}}  # fmt: skip
    manifest = Manifest(1, "embedding", "bert", ("mean",), True, 384, 256,
                        lineage={"source": EVIL, "quantize": facts},
                        artifacts={name: Artifact("openvino", "int8", (), ()) for name in INT8})  # fmt: skip
    return Bundle(Path("somewhere/my-bundle"), manifest, "somewhere/my-bundle")


class Read(HTMLParser):
    """A page's text outside scripts, its tags with attributes, and its table rows."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self._inside: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self._inside.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self._inside and self._inside[-1] not in ("script", "style"):
            self.words.append(data)

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row[0] == first)


def assert_loads_nothing(content: str) -> Read:
    """Every tag closed, plotly's code once, and nothing fetched."""
    read = Read(content)
    assert not read._inside
    policy = next(a["content"] for t, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    for tag, attributes in read.tags:
        assert tag not in ("link", "img", "iframe", "object", "base")
        assert not {"src", "href", "srcset", "data"} & set(attributes), (tag, attributes)
    style = content[content.index("<style>") : content.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert content.count("plotly.js v") == 1
    return read


def test_it_says_everything_and_loads_nothing(bundle: Bundle, findings: Findings, options: Options) -> None:
    read = assert_loads_nothing(page(bundle, findings, options))
    text = " ".join(" ".join(read.words).split())
    assert ("html", {"lang": "en"}) in read.tags
    for part in ("bert, 384 dimensions, up to 256 tokens", "smooth-outliers-32-float-2: the fastest one that passes",
                 "outliers (channels 32, gain 1.5): keeps input channels",
                 "split-outliers (channels 32, gain 1.5): spreads input channels", "at least 0.97 on ordinary",
                 "200 texts of the file, 723 rows", "1.23 % unknown tokens", "onnxruntime 1.20.9", machine(), " UTC",
                 "similarity on ", "onnxruntime-int8 0.9988, openvino-int8 0.9992", "all 36",
                 "leaves 2 of them"):  # fmt: skip
        assert part in text, part
    assert "/data/" not in text  # files by their names, not where they lie
    assert read.row("torch-fp32") == ["torch-fp32", "90.9", "1", "1", "1", "1", "6.32", "671"]
    assert read.row("openvino-int8") == [
        "openvino-int8", "26.1", "0.98600", "0.99300", "0.97600", "0.9987", "1.23", "2660",
    ]  # fmt: skip
    assert read.row(LAYERS[0])[1:] == ["3.000e-03", "float"]
    assert read.row(LAYERS[2])[1:] == ["2.167e-03", "int8"]


def test_every_recipe_is_there_with_its_reason(bundle: Bundle, findings: Findings, options: Options) -> None:
    read = Read(page(bundle, findings, options))
    for one in findings.attempts:
        row = read.row(one.recipe.name)
        assert row[2] == one.status
        assert row[-1] == one.why or (one.status == "passed" and row[-1])
    assert read.row(EVIL)[3:] == ["23.4", "0.98500", "0.97500", "0.99610", "1584", "2640",
                                  "passes, but 2640 sentences/s against 2652"]  # fmt: skip
    assert read.row("outliers-16")[3:-1] == [""] * 6
    untimed = replace(findings, attempts=tuple(replace(a, timing={}) for a in findings.attempts))
    read = Read(page(bundle, untimed, options))
    assert read.row(EVIL)[-1] == "passes, but a cheaper one does too; it was not timed"
    assert "these are the table's speeds" in " ".join(read.words)


def test_text_from_outside_is_never_code(bundle: Bundle, findings: Findings, options: Options) -> None:
    content = page(bundle, findings, options)
    assert "<script>alert" not in content
    read = Read(content)
    text = " ".join(read.words)
    assert f"Quantization of {EVIL}" in text  # as it is, once unescaped
    assert EVIL in [row[0] for row in read.rows]
    assert f"{EVIL.replace('/', '')}.jsonl" in text


def test_layers_that_were_not_measured_and_a_recipe_in_float(
    bundle: Bundle, findings: Findings, options: Options
) -> None:
    none = page(bundle, replace(findings, sensitivity={}), options)
    assert "It was not measured: no recipe that was tried leaves layers in float." in none
    assert "plot-layers" not in none
    tried = tuple(replace(a, recipe=RECIPES["weight-only"]) if a.status == "chosen" else a for a in findings.attempts)
    many = {f"encoder.layer.{i}.dense": 1e-3 / (i + 1) for i in range(72)} | {"encoder.layer.99.dense": 0.0}
    packed = page(bundle, replace(findings, attempts=tried, sensitivity=many), options)
    assert "The chosen recipe leaves all of them in float" in packed
    assert "the 40 most sensitive of 73" in packed


def test_a_recipe_that_depends_on_the_batch_is_warned_of_and_gates_without_a_task_are_told(
    bundle: Bundle, findings: Findings
) -> None:
    tried = tuple(replace(a, recipe=RECIPES["dynamic"]) if a.status == "chosen" else a for a in findings.attempts)
    content = page(bundle, replace(findings, attempts=tried), Options(gates=Gates(0.9, 0.8, 0.7)))
    assert "with dynamic int8 a text&#x27;s vector depends on what shares its batch" in content
    assert "cosine at least 0.9 on ordinary and 0.8 on degenerate text, agreement at least 0.7" in content
    assert "Height is the agreement with torch fp32" in content
    assert "<th scope=\"row\">Task</th>" not in content  # fmt: skip


def test_every_pass_has_its_words() -> None:
    assert set(report.WORDS) == set(PASSES)


def test_points_are_all_that_was_measured_and_the_front_is_what_none_beats(findings: Findings) -> None:
    made = points(findings)
    assert len(made) == 3 + 2 * 4  # torch and fp32 files, four recipes that ran in two engines
    chosen = {p.engine: p for p in made if p.status == "chosen"}
    assert (chosen["onnxruntime"].size_mb, chosen["openvino"].size_mb) == (26.0, 26.1)
    assert chosen["openvino"].sentences_s == 2652
    best = front(made, "sentences_s")
    assert [p.name for p in best] == [
        "torch-fp32", "onnxruntime-fp32", "openvino-fp32", "smooth-outliers-32-float-2",
    ]  # fmt: skip
    usable = [p for p in made if p.usable]
    assert len(usable) == len(made) - 2
    for one in usable:
        beaten = any(
            o.size_mb <= one.size_mb and o.retention >= one.retention
            and (o.size_mb, o.retention) != (one.size_mb, one.retention) for o in usable
        )  # fmt: skip
        assert (one in front(made, "size_mb")) is not beaten
    untimed = points(replace(findings, attempts=tuple(replace(a, timing={}) for a in findings.attempts)))
    assert {p.status for p in untimed if isinstance(p, Point) and p.sentences_s is not None} == {"chosen", "fp32"}


def test_two_recipes_one_for_each_engine_are_both_told(findings: Findings, options: Options, bundle: Bundle) -> None:
    halves = (
        replace(findings.attempts[3], status="chosen", why="the fastest in one", taken=INT8[:1]),
        replace(findings.attempts[4], why="the fastest in the other", taken=INT8[1:]),
    )
    both = replace(findings, attempts=(*findings.attempts[:3], *halves, *findings.attempts[5:]))
    chosen = {p.engine: p.label for p in points(both) if p.status == "chosen"}
    assert chosen == {"onnxruntime": "4", "openvino": "5"}
    rows = {tuple(row) for row in Read(page(bundle, both, options)).rows}
    assert {("Recipe", f"{one.recipe.name}: {one.why}") for one in halves} <= rows
    told = " ".join(Read(page(bundle, both, options)).words)
    assert f"{halves[0].recipe.name} leaves none of them in float." in told
    assert f"{halves[1].recipe.name} leaves 2 of them in float." in told
    assert [row[-1] for row in rows if row[0] == LAYERS[0]] == ["both"]
    assert "2640 sentences/s against 2652" in told


def test_layers_are_named_shortly_and_found_in_the_recipe() -> None:
    assert short("encoder.layer.3.attention.self.query") == "3 attention query"
    assert short("encoder.layer.11.attention.attn.q") == "11 attention q"
    assert short("pooler.dense") == "pooler dense"
    names = ["encoder.layer.0.output.dense", "encoder.layer.1.output.dense"]
    assert in_float(LADDER[0], names) == set()
    assert in_float(LADDER[0].excluding(("/encoder/backbone/encoder.layer.1/output/dense/MatMul",)), names) == {
        names[1]
    }
    assert in_float(RECIPES["weight-only"], names) == set(names)


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_report(tmp_path / "new" / "deep" / "a.html")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.html").write_text("mine")
    (tmp_path / "folder").mkdir()
    for name in ("a.html", "folder"):
        with pytest.raises(BundleError, match=f"the output {tmp_path / name} exists already: choose another"):
            check_report(tmp_path / name)
    with pytest.raises(EdgeBertError, match=f"cannot write {tmp_path}/a.html/b.html: "):
        check_report(tmp_path / "a.html" / "b.html")
    with pytest.raises(EdgeBertError, match="cannot write .*: File name too long"):
        check_report(tmp_path / ("a" * 300))

    def forbidden(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", forbidden)
    with pytest.raises(EdgeBertError, match=f"cannot write {tmp_path}/b.html: Permission denied"):
        check_report(tmp_path / "b.html")


def test_without_plotly_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def bare(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == "plotly":
            raise ImportError("no plotly", name="plotly")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", bare)
    with pytest.raises(MissingExtraError, match="--report needs the package 'plotly'.*edgebert\\[workshop\\]"):
        check_report(tmp_path / "a.html")


def test_it_is_whole_or_not_there(
    bundle: Bundle, findings: Findings, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new" / "a.html"
    write_report(out, bundle, findings, options)
    assert [path.name for path in out.parent.iterdir()] == ["a.html"]
    assert out.read_text(encoding="utf-8").endswith("</html>\n")
    with pytest.raises(BundleError, match="exists already"):
        write_report(out, bundle, findings, options)

    def interrupted(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "page", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path / "none" / "b.html", bundle, findings, options)
    assert list((tmp_path / "none").iterdir()) == []


def assert_drawn(document: str, log: str, plots: tuple[str, ...]) -> None:
    """Every plot is an image with marks, and no script failed or was refused."""
    assert "Uncaught" not in log
    assert "Refused to" not in log
    assert "violates the following Content Security Policy" not in log
    places = [document.index(f'id="{name}"') for name in plots] + [len(document)]
    for name, start, end in zip(plots, places, places[1:], strict=False):
        part = document[start:end]
        assert '<svg class="main-svg"' in part, name
        marks = re.findall(r'<g class="trace [^"]*"|<path class="point"|<g class="point"', part)
        assert len(marks) >= 2, name
    drawn = re.findall(r'id="(plot-[a-z]+)" class="[^"]*js-plotly-plot', document)
    assert sorted(set(drawn)) == sorted(plots)


def test_a_browser_draws_every_plot(bundle: Bundle, findings: Findings, options: Options, tmp_path: Path) -> None:
    out = tmp_path / "a.html"
    write_report(out, bundle, findings, options)
    document, log = shown(out, tmp_path / "browser")
    assert_drawn(document, log, PLOTS)
    assert "<script>alert" not in document
    for engine in ("ONNX Runtime, passed", "OpenVINO, chosen", "torch fp32", "Pareto front", "gate 0.995"):
        assert engine in document[document.index('id="plot-speed"') :], engine


def test_the_command_writes_it_beside_the_bundle(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out, file = tmp_path / "bundle", tmp_path / "bundle.html"
    result = cli("quantize", tiny_teacher, "--calibration", corpus_file, "-o", out, "--samples", "40",
                 "--min-cosine", "0.8", "--min-degenerate", "0.7", "--min-agreement", "0.5",
                 "--report", file)  # fmt: skip
    assert result.code == 0, result.err
    read = assert_loads_nothing(file.read_text(encoding="utf-8"))
    parity = Bundle.open(out).manifest.artifacts["openvino-int8"].parity
    assert parity is not None
    assert read.row("openvino-int8")[2:5] == [
        f"{v:.5f}" for v in (parity.ordinary_min, parity.ordinary_mean, parity.degenerate_min)
    ]
    assert read.row("outliers-8")[2] == "chosen"
    assert len([row for row in read.rows if row[0].startswith("encoder.layer.")]) == 4 * 6
    assert_drawn(*shown(file, tmp_path / "browser"), PLOTS)


def test_the_command_refuses_a_report_that_exists(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out, file = tmp_path / "out" / "bundle", tmp_path / "bundle.html"
    file.write_text("mine")
    result = cli("quantize", tiny_teacher, "--calibration", corpus_file, "-o", out, "--report", file)
    assert result.code == 1
    assert result.err == f"edgebert: the output {file} exists already: choose another name or remove it first\n"
    assert file.read_text() == "mine"
    assert not out.parent.exists()


@pytest.mark.parametrize("place", ["out", "out/sub/r.html", "."])
def test_a_report_in_the_bundle_or_around_it_is_refused_before_the_work(
    place: str, tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    out, report = tmp_path / "new" / "out", tmp_path / "new" / place
    result = cli("quantize", tiny_teacher, "--calibration", corpus_file, "-o", out, "--report", report)
    assert result.code == 2
    assert "lie in each other" in result.err
    assert not out.parent.exists()
