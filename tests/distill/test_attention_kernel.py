"""Training takes the faster attention kernel for the batch's length, and both say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES, make_architecture

from edgebert.bundle import Bundle
from edgebert.distill import encoder as module
from edgebert.distill.encoder import load_encoder


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_kernels_say_the_same_and_have_the_same_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    base = Bundle.from_pretrained(make_architecture(tmp_path / "base", architecture))
    encoder = load_encoder(base, fused_attention=True)
    chosen = encoder.backbone.config._attn_implementation
    # Of transformers 4.57 layers choose once, and so does mpnet.
    plain = "eager" if getattr(encoder.backbone, "_supports_attention_backend", False) else chosen
    ids = torch.arange(10, 26).reshape(2, 8)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    found = []
    for limit, expected in ((9, plain), (8, chosen)):
        monkeypatch.setattr(module, "_FUSED_FROM", limit)
        with torch.autocast("cpu", torch.bfloat16):
            vectors = encoder(ids, mask).sentence_embedding
        assert encoder.backbone.config._attn_implementation == expected
        vectors.float()[:, 0].sum().backward()
        gradients = torch.cat([one.grad.flatten() for one in encoder.parameters() if one.grad is not None])
        found.append((vectors.detach().float(), gradients))
        encoder.zero_grad()
    (one, its), (other, others) = found
    assert torch.allclose(one, other, atol=0.02)
    assert torch.nn.functional.cosine_similarity(its, others, dim=0) > 0.995
    monkeypatch.setattr(module, "_FUSED_FROM", 1000)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        encoder(ids, mask)
    assert encoder.backbone.config._attn_implementation == chosen  # nothing is trained
    encoder(ids, mask)
    assert encoder.backbone.config._attn_implementation == chosen  # in fp32 the kernel is as fast
