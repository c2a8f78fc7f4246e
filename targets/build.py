"""Building a package: the artifacts a profile names, what they need to run and to prove themselves, nothing else."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

from edgebert.bundle import Bundle, seal
from edgebert.errors import TargetError
from edgebert.files import disk_errors, make_parent, refuse_existing
from edgebert.manifest import PACKAGE_SUFFIX, Artifact
from edgebert.package import pack
from edgebert.targets.profile import Profile

_TOKENIZER = "tokenizer.json"
_COMMON = ("config.json", _TOKENIZER, "README.md")


def build_package(bundle: Bundle, out: Path, profile: Profile | None = None) -> None:
    """Writes the package `out` of `bundle` for the device that `profile` describes.

    profile: without one the int8 artifacts are taken, or the fp32 ones where there is no int8.
    Raises: TargetError when the bundle lacks an artifact or the package is too large; BundleError when a file of the
    bundle is damaged or `out` exists.
    """
    if out.suffix != PACKAGE_SUFFIX:
        raise TargetError(f"the output {out} must end in {PACKAGE_SUFFIX}")
    refuse_existing(out)
    names = _artifact_names(bundle, profile)
    bundle.check()
    with disk_errors(out):
        make_parent(out)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            chosen = _gather(bundle, names, Path(folder), profile)
            size = sum(fact.size for fact in chosen.manifest.files.values()) / 1e6
            if profile and profile.max_size_mb is not None and size > profile.max_size_mb:
                raise TargetError(
                    f"the package for {profile.name} would have {size:.1f} MB; max_size_mb is {profile.max_size_mb}"
                )
            pack(chosen, out)


def _artifact_names(bundle: Bundle, profile: Profile | None) -> tuple[str, ...]:
    there = bundle.manifest.artifacts
    if not there:
        raise TargetError(f"{bundle.source} has no files for an engine yet: run `edgebert quantize {bundle.source}`")
    if profile is None:
        return tuple(n for n, a in there.items() if a.precision == "int8") or tuple(there)
    if missing := [name for name in profile.artifacts if name not in there]:
        raise TargetError(
            f"target {profile.name} needs the artifact {missing[0]}; {bundle.source} has {', '.join(there)}"
        )
    return profile.artifacts


def _gather(bundle: Bundle, names: tuple[str, ...], folder: Path, profile: Profile | None) -> Bundle:
    """The reduced bundle, sealed in `folder`."""
    manifest = bundle.manifest
    artifacts: dict[str, Artifact] = {}
    for name in names:
        artifact = manifest.artifacts[name]
        if profile is not None and profile.one_file:
            artifact = dataclasses.replace(artifact, files=_onnx(bundle, names, artifact, profile).files)
        if profile is not None and profile.static:
            # The same file, weights once: the device gives it each shape of the ladder when it loads it.
            name, artifact = f"{name}-static", dataclasses.replace(artifact, shapes="static")
        _copy(bundle, artifact.files, folder)
        artifacts[name] = artifact
    assert manifest.golden is not None
    common = [name for name in _COMMON if name in manifest.files]
    _copy(bundle, (*common, *manifest.golden.names), folder)
    if _TOKENIZER in common:
        _pack_json(folder / _TOKENIZER)
    quality = tuple(q for q in manifest.quality if q.artifact is None or q.artifact in artifacts)
    return seal(
        folder,
        dataclasses.replace(manifest, artifacts=artifacts, quality=quality, target=profile.name if profile else None),
    )


def _onnx(bundle: Bundle, names: tuple[str, ...], artifact: Artifact, profile: Profile) -> Artifact:
    """The artifact whose file `artifact` can be read from: its own, or the one that it was converted from.

    Raises: TargetError when there is none among `names`.
    """
    for other in (bundle.manifest.artifacts[name] for name in names):
        same = (other.precision, other.recipe, other.inputs) == (artifact.precision, artifact.recipe, artifact.inputs)
        if other.engine == "onnxruntime" and same:
            return other
    raise TargetError(
        f"target {profile.name} has one_file, and {bundle.source} has no artifact of onnxruntime with the precision "
        f"{artifact.precision} and the recipe of {artifact.engine}'s among {', '.join(names)}"
    )


def _pack_json(path: Path) -> None:
    """Rewrites the JSON file `path` without blanks and escapes: of a vocabulary they are a third to a half."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8", newline="\n")


def _copy(bundle: Bundle, names: tuple[str, ...], folder: Path) -> None:
    for name in names:
        path = Bundle.inside(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path(name), path)
