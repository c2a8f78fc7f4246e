"""The default models' recipes, and the command that makes one again, on a small model of the same form."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import sentences

import edgebert
from edgebert.bundle import Bundle
from edgebert.distill.defaults import build as building
from edgebert.distill.defaults.build import build, names, read_model
from edgebert.distill.defaults.corpus import CorpusMix, mixed, read_mix
from edgebert.distill.recipe import read_recipe
from edgebert.errors import DataError, RecipeError

JUDGED = {"scifact_abstracts", "banking77", "clinc150", "cmrc2018_contexts", "drcd"}  # sources of evaluation text


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.tsv.gz"
    rows = [f"{text}\t{'first' if i % 3 else 'second'}" for i, text in enumerate(sentences(300))]
    path.write_bytes(gzip.compress("\n".join(["text\tsource", *rows, "never\tjudged"]).encode()))
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A default model of two stages, each with its own text."""
    folder = tmp_path / "home" / "tiny-model"
    folder.mkdir(parents=True)
    for name, text in {
        "mix.toml": "[take]\nfirst = 120\n",
        "more.toml": "[take]\nfirst = 150\nsecond = 40\n[passages]\nfirst = 10\n",
        "1-recover.toml": "[student]\nlayers = 2\n[training]\nepochs = 0.5\nbatch_size = 16\n",
        "2-more.toml": "[student]\nlayers = 1\n[training]\nepochs = 0.5\nbatch_size = 16\n",
        "card.md": "# tiny-model\n",
        "model.toml": 'samples = 40\nmax_mb = 1.0\nquantize = "weight-only"\n'
        '[[stages]]\nrecipe = "1-recover.toml"\nteacher = "nobody/has-it"\n'
        '[[stages]]\nrecipe = "2-more.toml"\nteacher = "nobody/has-it"\nmix = "more.toml"\n',
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(building, "_HOME", folder.parent)
    return folder


@pytest.mark.parametrize("name", names())
def test_every_default_model_has_its_recipes_and_a_card(name: str) -> None:
    home = Path(building.__file__).parent / name
    assert f"# {name}" in (home / "card.md").read_text(encoding="utf-8")
    for stage in read_model(name).stages:
        read_recipe(home / stage.recipe)
        assert (home / stage.mix).exists()


@pytest.mark.parametrize(
    "path", sorted(Path(building.__file__).parent.glob("*/*mix.toml")), ids=lambda p: p.parent.name
)
def test_no_text_that_judges_a_default_model_trains_it(path: Path) -> None:
    mix = read_mix(path)
    assert mix.take
    assert not JUDGED & {*mix.take, *mix.passages}


def test_a_default_model_is_made_and_an_interrupted_build_goes_on(
    home: Path, table: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    work, out = tmp_path / "work", tmp_path / "tiny-model.edgebert"
    build("tiny-model", [table], work, out, teachers=[str(tiny_teacher)] * 2)
    texts = {name: (work / name).read_text(encoding="utf-8").splitlines() for name in ("mix.txt", "more.txt")}
    assert {name: len(lines) for name, lines in texts.items()} == {"mix.txt": 120, "more.txt": 200}
    assert "never" not in {*texts["mix.txt"], *texts["more.txt"]}
    student = Bundle.open(work / "2-more").manifest.lineage
    assert student["student"] == "layers 1 of 1-recover"
    assert student["corpus"]["kept"] == 200
    with zipfile.ZipFile(out) as package:
        assert package.read("README.md") == b"# tiny-model\n"
    assert {a.recipe["name"] for a in Bundle.from_pretrained(out).manifest.artifacts.values()} == {"weight-only"}
    with edgebert.load(out) as encoder:
        vectors = encoder.encode(sentences(3))
    made = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    again = tmp_path / "again.edgebert"
    build("tiny-model", [table], work, again, teachers=[str(tiny_teacher)] * 2)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    with edgebert.load(again) as encoder:
        assert np.array_equal(encoder.encode(sentences(3)), vectors)


def test_passages_are_neighbours_and_beyond_one_round_shuffled(tmp_path: Path) -> None:
    path = tmp_path / "zh.tsv"
    chinese = [f"\u7b2c{i}\u53e5\u3002" for i in range(100, 160)]
    rows = [f"{text}\tzh" for text in chinese] + [f"Sentence {i}.\ten" for i in range(60)]
    path.write_text("\n".join(["text\tsource", *rows]), encoding="utf-8")
    shape = {"join": 2, "join_most": 4, "characters": 24}
    few, many = (mixed([path], CorpusMix(take={}, passages={"zh": n, "en": 5}, **shape)) for n in (10, 90))  # type: ignore[arg-type]
    whole = "".join(chinese)
    assert [len([t for t in texts if t[0] == "\u7b2c"]) for texts in (few, many)] == [10, 90]
    assert all(text in whole for text in few if text[0] == "\u7b2c")
    assert len({text for text in many if text in whole and text[0] == "\u7b2c"}) < 60
    assert all(len(text) <= 24 for text in many)
    assert all(". Sentence" in text for text in few if text[0] == "S")


def test_what_is_too_large_is_no_default_model(home: Path, table: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    model = home / "model.toml"
    model.write_text(model.read_text(encoding="utf-8").replace("max_mb = 1.0", "max_mb = 0.01"), encoding="utf-8")
    with pytest.raises(edgebert.EdgeBertError, match=r"max_size_mb is 0\.01"):
        build("tiny-model", [table], tmp_path / "work", tmp_path / "out.edgebert", teachers=[str(tiny_teacher)] * 2)
    assert not (tmp_path / "out.edgebert").exists()


def test_where_no_passage_fits_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "long.tsv"
    path.write_text("text\tsource\n" + "".join(f"{'word ' * 9}{i}\tlong\n" for i in range(9)), encoding="utf-8")
    short = CorpusMix(take={"long": 2}, passages={"long": 5}, join=2, join_most=3, characters=20)
    assert len(mixed([path], short)) == 2


def test_wrong_names_teachers_and_sources_are_refused(home: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown default model 'other'; known are tiny-model"):
        build("other", [table], tmp_path / "work", tmp_path / "out.edgebert")
    with pytest.raises(RecipeError, match="1 teachers were given; tiny-model has 2 stages"):
        build("tiny-model", [table], tmp_path / "work", tmp_path / "out.edgebert", teachers=["one"])
    with pytest.raises(DataError, match="no text of the source 'third'"):
        mixed([table], CorpusMix(take={"third": 1}))
    with pytest.raises(RecipeError, match="first = -1; a number of texts is needed"):
        CorpusMix(take={"first": -1})
    with pytest.raises(RecipeError, match="join is 5 and join_most 4"):
        CorpusMix(take={"first": 1}, join=5, join_most=4)
