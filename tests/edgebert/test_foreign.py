"""Folders whose engine files others exported: what runs, what is told, and the vectors of sentence-transformers."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from architectures import make_headed
from foreign_folders import copied, export_tokens, keep, rename_output, take_int32
from helpers import make_teacher, sentences

import edgebert
from edgebert import engine_files
from edgebert.errors import BundleError, EngineError
from edgebert.models import open_model
from edgebert.variants import Wish

TEXTS = [*sentences(12, seed=5), "", "a", "今天我们", " ".join(sentences(9, seed=6))]
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def by_sentence_transformers(folder: Path, **options: object) -> np.ndarray:  # type: ignore[type-arg]
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return np.asarray(model.encode(TEXTS, batch_size=4, **options))  # type: ignore[call-overload]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with both engines' fp32 files; copy it to change it."""
    return export_tokens(make_teacher(tmp_path_factory.mktemp("foreign") / "tiny", layers=3, width=32))


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return copied(exported, tmp_path / "foreign")


def only_onnx(folder: Path) -> onnx.ModelProto:
    shutil.rmtree(folder / "openvino")
    return onnx.load(folder / "onnx" / "model.onnx")


@pytest.mark.parametrize("pooling", [*((mode,) for mode in MODES), ("cls", "mean"), ("max", "mean_sqrt_len_tokens")])
def test_every_pooling_gives_the_vectors_of_sentence_transformers(pooling: tuple[str, ...], tmp_path: Path) -> None:
    folder = export_tokens(make_headed(tmp_path / "m", pooling=pooling))
    wanted = by_sentence_transformers(folder)
    for engine in ("onnxruntime", "openvino"):
        with edgebert.load(folder, engine=engine, threads=1) as encoder:
            assert np.abs(encoder.encode(TEXTS, batch_size=4) - wanted).max() < 1e-5


@pytest.mark.parametrize("activation", ["Tanh", "Identity", "ReLU", "GELU", "Sigmoid", "SiLU"])
def test_dense_layers_give_the_vectors_of_sentence_transformers(activation: str, tmp_path: Path) -> None:
    folder = export_tokens(make_headed(tmp_path / "m", pooling=("mean", "max"), dense=24), openvino=False)
    config = folder / "2_Dense" / "config.json"
    kind = "linear" if activation == "Identity" else "activation"
    text = config.read_text(encoding="utf-8").replace("activation.Tanh", f"{kind}.{activation}")
    config.write_text(text, encoding="utf-8")
    wanted = by_sentence_transformers(folder)
    with edgebert.load(folder, threads=1) as encoder:
        assert encoder.dimension == 24
        assert np.abs(encoder.encode(TEXTS) - wanted).max() < 1e-5


def test_a_model_that_does_not_normalise_keeps_its_lengths(folder: Path) -> None:
    modules = (folder / "modules.json").read_text(encoding="utf-8")
    (folder / "modules.json").write_text(modules[: modules.rindex(", {")] + "]", encoding="utf-8")
    wanted = by_sentence_transformers(folder)
    assert np.ptp(np.linalg.norm(wanted, axis=1)) > 0.01
    with edgebert.load(folder, threads=1) as encoder:
        assert np.abs(encoder.encode(TEXTS, normalize_embeddings=False) - wanted).max() < 1e-5


def test_prompts_are_put_before_the_texts(folder: Path) -> None:
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "the old "}}', encoding="utf-8")
    wanted = by_sentence_transformers(folder, prompt_name="query")
    with edgebert.load(folder, threads=1) as encoder:
        assert np.abs(encoder.encode_query(TEXTS) - wanted).max() < 1e-5


@pytest.mark.parametrize("change", ["int32", "token_embeddings", "flat", "no modules"])
def test_other_inputs_outputs_and_places_are_read_from_the_folder(
    change: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = by_sentence_transformers(folder)
    model, path = only_onnx(folder), folder / "onnx" / "model.onnx"
    if change == "int32":
        take_int32(model)
    elif change == "token_embeddings":
        rename_output(model, "token_embeddings")
    elif change == "no modules":
        (folder / "modules.json").unlink()
    onnx.save(model, path)
    if change == "flat":
        path.rename(folder / "model.onnx")
        (folder / "onnx").rmdir()
        (folder / "model.safetensors").unlink()
    with caplog.at_level(logging.WARNING), edgebert.load(folder, threads=1) as encoder:
        assert np.abs(encoder.encode(TEXTS) - wanted).max() < 1e-5
    told = [record.message for record in caplog.records if record.name.startswith("edgebert")]
    assert told == [f"{folder}: assumed, as its files do not say: pooling: mean over tokens (no modules.json)"] * (
        change == "no modules"
    )


def test_our_own_bundle_without_its_manifest_runs_by_its_sentence_embedding(copied_bundle: Path) -> None:
    with edgebert.load(copied_bundle, engine="onnxruntime", precision="fp32") as encoder:
        wanted = encoder.encode(TEXTS)
    (copied_bundle / "edgebert.json").unlink()
    for engine in ("onnxruntime", "openvino"):
        with edgebert.load(copied_bundle, engine=engine) as encoder:
            assert encoder.precision == "fp32"
            assert np.abs(encoder.encode(TEXTS) - wanted).max() < 1e-5
    with edgebert.load(copied_bundle, precision="int8", engine="onnxruntime") as encoder:
        assert encoder.runs == "onnxruntime int8 (onnx/model_qint8.onnx, not proven)"
        assert (encoder.encode(TEXTS[:5]) * wanted[:5]).sum(axis=1).min() > 0.97


@pytest.mark.parametrize("change", ["written over", "longer", "gone"])
def test_files_that_change_under_a_loaded_model_are_not_opened_as_its_second_layout(change: str, folder: Path) -> None:
    only_onnx(folder)
    path = folder / "onnx" / "model.onnx"
    with edgebert.load(folder, threads=4) as encoder:
        assert len(encoder.plan.layouts) == 2
        assert encoder.encode("dog").shape == (32,)
        before, data = path.stat(), path.read_bytes()
        path.unlink() if change == "gone" else path.write_bytes(data + bytes(change == "longer"))
        if change == "longer":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        elif change == "written over":
            os.utime(path, ns=(0, 0))
        with pytest.raises(EngineError, match="was changed or removed while it was in use: load it again"):
            encoder.encode(TEXTS * 10)


def test_what_runs_is_told_with_its_file_and_that_it_is_not_proven(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "edgebert.foreign"), edgebert.load(folder, engine="onnxruntime") as encoder:
        assert encoder.runs == "onnxruntime fp32 (onnx/model.onnx, not proven)"
        assert "unproven='onnx/model.onnx'" in repr(encoder)
    assert "onnx/model.onnx runs as fp32; it is not proven" in caplog.text


def test_less_than_fp32_is_never_taken_unasked(folder: Path) -> None:
    only_onnx(folder)
    (folder / "onnx" / "model.onnx").rename(folder / "onnx" / "model_quantized.onnx")
    shutil.copy(folder / "onnx" / "model_quantized.onnx", folder / "onnx" / "model_fp16.onnx")
    with pytest.raises(
        EngineError, match=r"has no fp32 file .*model_quantized.onnx \(int8\).*ask with precision=\"int8\""
    ):
        edgebert.load(folder)
    with edgebert.load(folder, precision="int8") as encoder:
        assert (encoder.precision, encoder.unproven) == ("int8", "onnx/model_quantized.onnx")
    with edgebert.load(folder, artifact="onnx/model_fp16.onnx") as encoder:
        assert (encoder.precision, encoder.unproven) == ("fp16", "onnx/model_fp16.onnx")
    with pytest.raises(EngineError, match="no golden vectors to prove bf16 with"):
        edgebert.load(folder, precision="bf16")
    with pytest.raises(EngineError, match="has no artifact 'onnx/absent.onnx' for auto-auto; it has onnx/model_fp16"):
        edgebert.load(folder, artifact="onnx/absent.onnx")


def test_an_artifact_of_a_bundle_is_asked_for_by_its_name(copied_bundle: Path) -> None:
    with edgebert.load(copied_bundle, artifact="onnxruntime-fp32") as encoder:
        assert (encoder.engine, encoder.precision, encoder.unproven) == ("onnxruntime", "fp32", "")
    with pytest.raises(EngineError, match="has no artifact 'tflite'; it has .*onnxruntime-fp32"):
        edgebert.load(copied_bundle, artifact="tflite")
    with pytest.raises(EngineError, match="no artifact for auto-int8 named onnxruntime-fp32"):
        edgebert.load(copied_bundle, artifact="onnxruntime-fp32", precision="int8")


def test_an_int8_file_called_model_is_not_taken_for_fp32(copied_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    (copied_bundle / "edgebert.json").unlink()
    shutil.rmtree(copied_bundle / "openvino")
    (copied_bundle / "onnx" / "model_qint8.onnx").replace(copied_bundle / "onnx" / "model.onnx")
    config = copied_bundle / "config.json"  # of tiny weights, what is not weights is most of a file
    config.write_text(
        config.read_text(encoding="utf-8").replace('"intermediate_size": 128', '"intermediate_size": 900')
    )
    with pytest.raises(EngineError, match=r"has no fp32 file .*onnx/model.onnx \(unknown\)"):
        edgebert.load(copied_bundle)
    assert "onnx/model.onnx is too small for its weights in fp32" in caplog.text


def test_two_files_of_which_none_is_the_plainer_are_an_error(folder: Path) -> None:
    only_onnx(folder)
    shutil.copy(folder / "onnx" / "model.onnx", folder / "model.onnx")
    with pytest.raises(EngineError, match="has model.onnx and onnx/model.onnx: say which with artifact=NAME"):
        edgebert.load(folder)
    edgebert.load(folder, artifact="model.onnx").close()


def test_links_are_followed_and_one_that_leads_nowhere_is_named(folder: Path, tmp_path: Path) -> None:
    only_onnx(folder)
    path, blob = folder / "onnx" / "model.onnx", tmp_path / "blob"
    path.rename(blob)
    path.symlink_to(blob)
    edgebert.load(folder).close()
    blob.unlink()
    with pytest.raises(EngineError, match="onnx/model.onnx is a link to what is not there"):
        edgebert.load(folder)


def test_a_broken_file_is_refused_with_a_warning_and_the_other_engine_taken(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "openvino" / "openvino_model.bin").unlink()
    with edgebert.load(folder) as encoder:
        assert encoder.engine == "onnxruntime"
    assert "openvino/openvino_model.xml is refused" in caplog.text
    assert "openvino_model.bin is missing" in caplog.text


def test_damage_and_graphs_that_do_not_fit_name_the_file(folder: Path) -> None:
    model, path = only_onnx(folder), folder / "onnx" / "model.onnx"
    whole = path.read_bytes()

    def refused(message: str) -> None:
        with pytest.raises(EngineError, match=message):
            edgebert.load(folder)

    path.write_bytes(whole[: len(whole) - 500])
    refused("ONNX Runtime cannot load .*onnx/model.onnx")
    renamed = onnx.ModelProto.FromString(whole)
    rename_output(renamed, "logits")
    onnx.save(renamed, path)
    refused("onnx/model.onnx gives logits; it must give sentence_embedding or last_hidden_state or token_embeddings")
    more = onnx.ModelProto.FromString(whole)
    more.graph.input.append(onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [1]))
    onnx.save(more, path)
    refused(r"onnx/model.onnx takes .*pixels \(tensor\(float\)\); it must take input_ids, attention_mask")
    onnx.save(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=64)
    edgebert.load(folder).close()
    (folder / "onnx" / "model.onnx_data").unlink()
    refused(r"onnx/model.onnx \(unknown\).*a part is missing, such as .onnx_data")
    path.write_bytes(whole)
    config = folder / "config.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"hidden_size": 32', '"hidden_size": 16'))
    refused(r"onnx/model.onnx gives last_hidden_state of shape \(2, 5, 32\); it must be \(2, 5, 16\)")


def test_dense_weights_that_only_torch_reads_are_one_clear_error(tmp_path: Path) -> None:
    folder = export_tokens(make_headed(tmp_path / "m", pooling=("mean",), dense=8), openvino=False)
    weights = folder / "2_Dense" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4])
    with pytest.raises(BundleError, match="model.safetensors is damaged, it is not safetensors"):
        edgebert.load(folder)
    weights.rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(
        BundleError, match="pytorch_model.bin is a pickle, which only torch reads: save the model again"
    ):
        edgebert.load(folder)


def test_torch_runs_what_has_weights_and_an_engine_what_is_asked_for(folder: Path) -> None:
    for options, engine in (({}, "torch"), ({"engine": "onnxruntime"}, "onnxruntime"), ({"engine": "torch"}, "torch")):
        with open_model(folder, **options) as encoder:  # type: ignore[arg-type]
            assert encoder.engine == engine
    (folder / "model.safetensors").unlink()
    with open_model(folder) as encoder:
        assert encoder.unproven == "openvino/openvino_model.xml"


def test_verify_compares_the_files_with_torch_and_finds_a_wrong_one(folder: Path, cli: Callable[..., object]) -> None:
    result = cli("verify", folder)
    assert result.code == 0, result  # type: ignore[attr-defined]
    assert "onnx/model.onnx: fp32; compared with torch on 10 texts" in result.out  # type: ignore[attr-defined]
    assert "edgebert.load takes openvino/openvino_model.xml here" in result.out  # type: ignore[attr-defined]
    model = onnx.load(folder / "onnx" / "model.onnx")
    keep(model, ["last_hidden_state"])
    (value,) = model.graph.output
    model.graph.node.append(onnx.helper.make_node("Abs", [value.name], ["changed"]))
    value.name = "changed"
    rename_output(model, "token_embeddings")
    onnx.save(model, folder / "onnx" / "model_quantized.onnx")
    result = cli("verify", folder)
    assert result.code == 1, result  # type: ignore[attr-defined]
    assert result.err.endswith("fails on this machine: onnx/model_quantized.onnx\n")  # type: ignore[attr-defined]
    assert "at least 0.97 is needed" in result.out  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("processors", "taken"),
    [
        (("avx512_vnni", "avx512", "avx2"), "onnx/model_qint8_avx512_vnni.onnx"),
        (("avx512", "avx2"), "onnx/model_qint8_avx512.onnx"),
        (("avx2",), "onnx/model_quint8_avx2.onnx"),
        (("arm64",), "onnx/model_qint8_arm64.onnx"),
    ],
)
def test_the_int8_file_of_this_processor_is_taken(
    processors: tuple[str, ...], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_files, "fitting_processors", lambda: processors)
    tags = ("qint8_arm64", "qint8_avx512", "qint8_avx512_vnni", "quint8_avx2")
    files = engine_files.known_files([f"onnx/model_{tag}.onnx" for tag in tags] + ["onnx/model_quantized.onnx"])
    chosen = engine_files.choose(files, Wish(precision="int8"), "m")
    assert chosen[0].name == taken
    assert chosen[-1].name == "onnx/model_quantized.onnx"


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("onnx/model.onnx", "fp32"), ("model.onnx", "fp32"), ("onnx/model_O2.onnx", "fp32"),
        ("openvino/openvino_model.xml", "fp32"), ("openvino_model.xml", "fp32"), ("onnx/model_O3.onnx", "unknown"),
        ("onnx/model_O4.onnx", "fp16"), ("onnx/model_fp16.onnx", "fp16"), ("onnx/model_q4f16.onnx", "int4"),
        ("onnx/model_bnb4.onnx", "int4"), ("onnx/model_uint8.onnx", "int8"), ("onnx/model_int8.onnx", "int8"),
        ("openvino/openvino_model_qint8_quantized.xml", "int8"), ("onnx/model_optimized.onnx", "unknown"),
    ],
)  # fmt: skip
def test_a_name_says_what_is_inside(name: str, precision: str) -> None:
    (file,) = engine_files.known_files([name, "onnx/deep/model.onnx", "openvino/tokenizer.xml", "onnx/config.json"])
    assert (file.name, file.precision) == (name, precision)
