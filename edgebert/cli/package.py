"""`edgebert package`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("package")
@click.argument("bundle")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="A new file that ends in .edgebert.")
@click.option("--target", help="A device profile: linux-x86-vnni, linux-x86-avx2, linux-arm64, intel-npu, or a TOML "
              "file; without one the int8 files of both engines are taken.")  # fmt: skip
@click.option("--revision", help="The bundle's revision on the Hub.")
def command(bundle: str, out: Path, target: str | None, revision: str | None) -> None:
    """Build from BUNDLE the archive that one kind of device loads. The same bundle gives the same bytes."""
    from edgebert.bundle import Bundle
    from edgebert.files import refuse_existing, sha256
    from edgebert.targets.build import build_package
    from edgebert.targets.profile import read_profile

    profile = read_profile(target) if target else None
    refuse_existing(out)
    build_package(Bundle.from_pretrained(bundle, revision=revision), out, profile)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, sha256 {sha256(out)}")
