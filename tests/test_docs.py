"""The documents say what is true: commands, links, and the README's code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_the_command_reference_is_what_help_says() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_documents_have_options_that_exist(page: Path) -> None:
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    sections = {part.split("\n", 1)[0]: part for part in reference.split("## edgebert ")[1:]}
    for command, rest in re.findall(r"^(?:\$ )?edgebert ([a-z]+)(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        assert command in sections, command
        for option in re.findall(r"(?<= )(--?[a-z][a-z-]*)", rest.split("#")[0]):
            assert f" {option}" in sections[command], f"{command} {option}"


def test_the_code_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert getattr(names["vectors"], "shape", None) == (2, 768)
    assert getattr(names["scores"], "shape", None) == (1, 2)


def test_the_code_about_vectors_runs(tiny_bundle: Path) -> None:
    import edgebert

    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "vectors.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code) == 2
    with edgebert.load(tiny_bundle, threads=1) as encoder:
        names: dict[str, object] = {"encoder": encoder, "texts": ["reset", "the dog", "a cat"]}
        exec(compile("\n".join(code), "vectors.md", "exec"), names)
    assert getattr(names["found"], "indices", None) is not None and names["found"].indices[0] == 0  # type: ignore[attr-defined]
