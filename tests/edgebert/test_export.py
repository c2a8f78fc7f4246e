"""The way back to a plain Hugging Face folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgebert.bundle import Bundle
from edgebert.errors import BundleError
from edgebert.export import export
from edgebert.manifest import MANIFEST_NAME
from edgebert.targets.build import build_package


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_everything_but_manifest_and_golden_cases_is_written_unchanged_but_for_the_card(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "plain"
    export(Bundle.open(tiny_bundle), out)
    assert names(out) == {n for n in names(tiny_bundle) if n != MANIFEST_NAME and not n.startswith("golden/")}
    same = names(out) - {"README.md"}
    assert all((out / name).read_bytes() == (tiny_bundle / name).read_bytes() for name in same)
    card, own = ((folder / "README.md").read_text(encoding="utf-8") for folder in (out, tiny_bundle))
    assert "edgebert.load" in own
    assert "edgebert.load" not in card
    assert 'SentenceTransformer("THIS_FOLDER", backend="onnx"' in card
    assert [p.name for p in out.parent.iterdir()] == ["plain"]


def test_what_is_written_is_read_as_the_same_model(tiny_bundle: Path, tmp_path: Path) -> None:
    export(Bundle.open(tiny_bundle), tmp_path / "plain")
    plain, bundle = Bundle.from_pretrained(tmp_path / "plain").manifest, Bundle.open(tiny_bundle).manifest
    assert plain.lineage["assumed"] == []
    for fact in ("architecture", "pooling", "normalize", "dimension", "max_length", "prompts", "dense"):
        assert getattr(plain, fact) == getattr(bundle, fact)


def test_the_command_writes_the_folder_and_prints_its_name(
    tiny_bundle: Path, tmp_path: Path, cli: Callable[..., object]
) -> None:
    result = cli("export", tiny_bundle, "-o", tmp_path / "plain")
    assert (result.code, result.out, result.err) == (0, f"{tmp_path / 'plain'}\n", "")
    assert "model.safetensors" in names(tmp_path / "plain")


def test_a_damaged_bundle_is_refused(copied_bundle: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    data = bytearray((copied_bundle / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copied_bundle / "model.safetensors").write_bytes(data)
    out = tmp_path / "plain"
    refused("export", copied_bundle, "-o", out, says="model.safetensors was changed", out=out)


def test_an_existing_output_is_refused_and_kept(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "plain"
    out.mkdir()
    (out / "mine").write_text("x")
    with pytest.raises(BundleError, match=f"the output {out} exists already"):
        export(Bundle.open(tiny_bundle), out)
    assert names(out) == {"mine"}


def test_a_package_has_no_weights_to_write(tiny_bundle: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    package, out = tmp_path / "tiny.edgebert", tmp_path / "plain"
    build_package(Bundle.open(tiny_bundle), package)
    refused("export", package, "-o", out, says=f"{package} has no weights", out=out)


def test_a_plain_folder_is_one_already(tiny_teacher: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    out = tmp_path / "plain"
    refused("export", tiny_teacher, "-o", out, says=f"{tiny_teacher} is a plain folder already", out=out)


def test_a_fault_while_writing_leaves_nothing(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    genuine, done = shutil.copyfile, []

    def interrupted(source: Path, target: Path) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(genuine(source, target))

    monkeypatch.setattr("edgebert.export.shutil.copyfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(Bundle.open(tiny_bundle), tmp_path / "plain")
    assert len(done) == 3
    assert list(tmp_path.iterdir()) == []
