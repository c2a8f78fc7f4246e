"""What a stamp is keyed by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebert.stamps import engine_version


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that packages can be put into."""
    monkeypatch.syspath_prepend(tmp_path)
    engine_version.cache_clear()
    yield tmp_path
    engine_version.cache_clear()


def put(site: Path, package: str, version: str, module: str) -> None:
    (site / module).mkdir(exist_ok=True)
    (site / module / "__init__.py").touch()
    facts = site / f"{package.replace('-', '_')}-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (facts / "top_level.txt").write_text(f"{module}\n")


@pytest.mark.parametrize("package", ["pretended", "pretended-gpu", "pretended-directml"])
def test_the_version_of_an_engine_is_that_of_the_package_it_came_in(package: str, site: Path) -> None:
    put(site, package, "1.2.3", "pretended")
    assert engine_version("pretended") == "1.2.3"


def test_an_engine_that_is_not_installed_has_no_version(site: Path) -> None:
    assert engine_version("pretended") == ""
    engine_version.cache_clear()
    (site / "pretended").mkdir()
    (site / "pretended" / "__init__.py").touch()  # of no package
    assert engine_version("pretended") == ""
