"""What two processes with the same model share in memory: private and shared pages of one and of two, in MB.

    python benchmarks/shared_memory.py BUNDLE [--threads 1]

Linux only. A process's imports are counted apart, before the model is loaded; both processes are alive when the second
is measured. "shared" is what other processes could use too: pages of mapped files.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ARTIFACTS = [(engine, precision) for engine in ("onnxruntime", "openvino") for precision in ("int8", "fp32")]
WORK = """
import sys
import numpy, onnxruntime, openvino, tokenizers
import edgebert
print("imported", flush=True)
sys.stdin.readline()
model, engine, precision, threads = sys.argv[1:]
encoder = edgebert.load(model, engine=engine, precision=precision, threads=int(threads), tune=False)
encoder.encode(["the dog sees a cat " * n for n in range(1, 20)])
print("loaded", flush=True)
sys.stdin.readline()
"""


def pages(pid: int) -> tuple[float, float]:
    """Private and shared resident memory of a process in MB (10^6 bytes)."""
    text = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8")
    sums = dict.fromkeys(("Private", "Shared"), 0)
    for kind, size in re.findall(r"^(Private|Shared)_(?:Clean|Dirty): +(\d+) kB", text, re.MULTILINE):
        sums[kind] += int(size)
    return sums["Private"] * 1024 / 1e6, sums["Shared"] * 1024 / 1e6


def mapped(pid: int, folder: str) -> float:
    """Resident MB of the files of the compiled cache that the process maps."""
    text = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8")
    found = re.findall(rf"^[0-9a-f]+-[0-9a-f]+ .*{folder}.*\n(?:\w+: .*\n)*?Rss: +(\d+) kB", text, re.MULTILINE)
    return sum(map(int, found)) * 1024 / 1e6


def main() -> None:
    """Prints a line for each artifact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    print(
        "| artifact | model's memory, private MB | shared MB | of these the weights file |\n| --- | ---: | ---: | ---: |"
    )
    for engine, precision in ARTIFACTS:
        command = [sys.executable, "-c", WORK, given.bundle, engine, precision, str(given.threads)]
        subprocess.run(command, input="\n\n", text=True, capture_output=True, check=True)  # the cache is made
        both = [subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
        before, after = [], []
        for measured in (before, after):
            for process in both:
                assert process.stdin is not None and process.stdout is not None
                process.stdout.readline()
            measured.append([pages(process.pid) for process in both][1])
            weights = mapped(both[1].pid, "compiled")
            for process in both:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
        for process in both:
            process.communicate()
        private, shared = (after[0][i] - before[0][i] for i in (0, 1))
        print(f"| {engine} {precision} | {private:.0f} | {shared:.0f} | {weights:.0f} |", flush=True)


if __name__ == "__main__":
    main()
