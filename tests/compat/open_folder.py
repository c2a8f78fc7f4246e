"""Run by the Python of another environment: opens a bundle with that environment's libraries, without EdgeBERT.

    python open_folder.py BUNDLE BACKEND FILE        BACKEND: torch, onnx or openvino; FILE: "" for the default

Prints JSON: the least cosine to the golden vectors on ordinary and degenerate cases, and the largest difference.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")


def main(folder: Path, backend: str, file: str) -> None:
    from sentence_transformers import SentenceTransformer

    settings: dict[str, object] = {"file_name": file} if file else {}
    if backend == "onnx":
        settings["provider"] = "CPUExecutionProvider"
    if backend == "openvino":
        settings["ov_config"] = {"INFERENCE_PRECISION_HINT": "f32"}
    model = SentenceTransformer(
        str(folder), backend=backend, model_kwargs=settings, local_files_only=True, device="cpu"
    )
    cases = json.loads((folder / "golden" / "cases.json").read_text(encoding="utf-8"))
    golden = np.load(folder / "golden" / "vectors.npy")
    texts = [case["text"] for case in cases]
    alone = np.stack([model.encode([text])[0] for text in texts])
    together = model.encode(texts, batch_size=16)
    found = {}
    for kind in ("ordinary", "degenerate"):
        rows = [i for i, case in enumerate(cases) if case["kind"] == kind]
        cosines = [float((v[rows] * golden[rows]).sum(axis=1).min()) for v in (alone, together)]
        found[kind] = min(cosines)
    found["max_difference"] = float(max(np.abs(alone - golden).max(), np.abs(together - golden).max()))
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
