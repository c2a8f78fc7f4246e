"""Fine-tuning drops hidden states as the base's configuration says, and no attention weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES, make_architecture
from tasks import made

from edgebert.bundle import Bundle
from edgebert.distill import finetuning
from edgebert.distill.encoder import SentenceEncoder, load_encoder
from edgebert.tasks import task_named

NAMES = {"distilbert": ("attention_dropout", "dropout")}
BERTS = ("attention_probs_dropout_prob", "hidden_dropout_prob")


def base_of(folder: Path, architecture: str, *, attention: float, hidden: float) -> Bundle:
    """A base whose configuration drops so much."""
    made_base = make_architecture(folder, architecture)
    path = made_base / "config.json"
    names = NAMES.get(architecture, BERTS)
    told = json.loads(path.read_text()) | dict(zip(names, (attention, hidden), strict=True))
    path.write_text(json.dumps(told))
    return Bundle.from_pretrained(made_base)


def differs(encoder: SentenceEncoder) -> bool:
    """Whether two passes in training say different things."""
    encoder.train()
    ids = torch.arange(10, 26).reshape(2, 8)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with torch.no_grad():
        one, other = (encoder(ids, mask).last_hidden_state for _ in range(2))
    return not torch.equal(one, other)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_is_dropped_on_demand_and_the_configuration_stays(tmp_path: Path, architecture: str) -> None:
    base = base_of(tmp_path / "base", architecture, attention=0.4, hidden=0.0)
    assert differs(load_encoder(base, fused_attention=True))
    for fused in (True, False):
        encoder = load_encoder(base, fused_attention=fused, attention_dropout=False)
        assert not differs(encoder)
        assert getattr(encoder.backbone.config, NAMES.get(architecture, BERTS)[0]) == 0.4


@pytest.mark.parametrize(("hidden", "expected"), [(0.0, False), (0.4, True)])
def test_finetuning_drops_hidden_states_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: float, expected: bool
) -> None:
    base = base_of(tmp_path / "base", "bert", attention=0.4, hidden=hidden)
    found: list[bool] = []

    def spied(*given: Any, **options: Any) -> SentenceEncoder:
        encoder = load_encoder(*given, **options)
        found.append(differs(encoder))
        return encoder.eval()

    monkeypatch.setattr(finetuning, "load_encoder", spied)
    train = made.write_rows(tmp_path / "train.jsonl", made.class_rows(32, seed=1))
    dev = made.write_rows(tmp_path / "dev.jsonl", made.class_rows(16, seed=2))
    one = finetuning.Assignment(task_named("classify"), (str(train),), (str(dev),))
    bundle = finetuning.finetune(base, [one], tmp_path / "out", finetuning.Training(epochs=1, batch_size=16))
    assert found == [expected]
    assert bundle.manifest.lineage["attention_dropout"] == 0.0
    assert json.loads((bundle.root / "config.json").read_text())["attention_probs_dropout_prob"] == 0.4
