"""Makes a default model again: its text, its students one after the other, int8, and the package.

    python -m edgebert.distill.defaults.build edgebert-mini-en TABLE.tsv.gz... --work FOLDER -o OUT.edgebert

What is in --work already is kept, so that an interrupted build goes on. The recipes, the mix of the text and the card
lie in the folder of the model's name beside this file. On a machine without the Hub give the teachers' folders, in the
order of `model.toml`: --teacher FOLDER --teacher FOLDER.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from edgebert.bundle import Bundle, seal
from edgebert.distill.defaults.corpus import mixed, read_mix
from edgebert.distill.recipe import override, read_recipe
from edgebert.distill.stage import distill
from edgebert.errors import RecipeError
from edgebert.files import new_file
from edgebert.progress import Progress, TerminalProgress
from edgebert.quantize.recipe import find_recipe
from edgebert.quantize.stage import Options, quantize
from edgebert.schema import parse, read_toml
from edgebert.targets.build import build_package
from edgebert.targets.profile import read_profile

_HOME = Path(__file__).parent


@dataclass(frozen=True)
class Stage:
    """A student: its recipe's file, its teacher, a Hub id or a folder, and the file of its text's mix.

    From the second on it starts from the one before.
    """

    recipe: str
    teacher: str
    revision: str | None = None
    mix: str = "mix.toml"


@dataclass(frozen=True)
class Model:
    """stages: one after the other. quantize: the recipe of the package's file, by default the ladder. samples: texts of
    calibration. max_mb: what the package may have.
    """

    stages: tuple[Stage, ...]
    quantize: str | None = None
    samples: int = 400
    max_mb: float | None = None


def names() -> list[str]:
    """The default models that can be made, sorted."""
    return sorted(path.parent.name for path in _HOME.glob("*/model.toml"))


def read_model(name: str) -> Model:
    """Raises: RecipeError for an unknown name or a wrong key."""
    if name not in names():
        raise RecipeError(f"unknown default model {name!r}; known are {', '.join(names())}")
    path = _HOME / name / "model.toml"
    model = parse(Model, read_toml(path, what="model", error=RecipeError), where=str(path), error=RecipeError)
    if model.quantize is not None:
        find_recipe(model.quantize)  # a wrong name is told before hours of training
    return model


def build(
    name: str, tables: Sequence[Path], work: Path, out: Path, *, teachers: Sequence[str] = (),
    progress: Progress | None = None,
) -> None:  # fmt: skip
    """Writes the package `out` of the default model called `name`, trained on the text of `tables`.

    teachers: in place of those that the stages name.
    Raises: RecipeError; DataError, BundleError, BudgetError and TargetError of the parts.
    """
    model, home, progress = read_model(name), _HOME / name, progress or Progress()
    if teachers and len(teachers) != len(model.stages):
        raise RecipeError(f"{len(teachers)} teachers were given; {name} has {len(model.stages)} stages")
    work.mkdir(parents=True, exist_ok=True)
    student: Path | None = None
    for place, stage in enumerate(model.stages):
        recipe = read_recipe(home / stage.recipe)
        if student is not None:
            recipe = override(recipe, "student", start=str(student))
        student, corpus = work / Path(stage.recipe).stem, _text(tables, home / stage.mix, work)
        if not student.exists():
            teacher = teachers[place] if teachers else stage.teacher
            revision = None if teachers else stage.revision
            distill(Bundle.from_pretrained(teacher, revision=revision), [corpus], student, recipe, progress=progress)
    assert student is not None
    bundle = work / "int8"
    if not bundle.exists():
        lines = corpus.read_text(encoding="utf-8").splitlines()
        options = Options(samples=model.samples, recipe=find_recipe(model.quantize) if model.quantize else None)
        quantize(Bundle.open(student), lines, bundle, options, progress=progress)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        profile = dataclasses.replace(read_profile("any-cpu"), max_size_mb=model.max_mb)
        build_package(_with_card(Bundle.open(bundle), home / "card.md", Path(folder) / name), out, profile)


def _text(tables: Sequence[Path], mix: Path, work: Path) -> Path:
    """The text of the file `mix`, one text a line, in a file of `work` by its name; what is there already is taken."""
    path = work / f"{mix.stem}.txt"
    if not path.exists():
        with new_file(path) as partial:
            partial.write_text("".join(f"{text}\n" for text in mixed(tables, read_mix(mix))), encoding="utf-8")
    return path


def _with_card(bundle: Bundle, card: Path, folder: Path) -> Bundle:
    """A copy of the bundle with that README.md."""
    shutil.copytree(bundle.root, folder)
    shutil.copyfile(card, folder / "README.md")
    return seal(folder, bundle.manifest)


@click.command(help=__doc__)
@click.argument("name")
@click.argument("tables", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--work", required=True, type=click.Path(path_type=Path))
@click.option("--teacher", "teachers", multiple=True)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
def main(name: str, tables: tuple[Path, ...], work: Path, teachers: tuple[str, ...], out: Path) -> None:
    """See the module."""
    with TerminalProgress() as progress:
        build(name, tables, work, out, teachers=teachers, progress=progress)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
