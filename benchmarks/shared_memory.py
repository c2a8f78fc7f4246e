"""What two processes with the same model share in memory: what a model adds to the second one's pages, in MB.

    python benchmarks/shared_memory.py BUNDLE [--threads 1]

Linux only. A process's imports are counted apart, before the model is loaded; both processes are alive when the second
is measured; what was freed was given back. Of a mapped file only pages that were read are resident.
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
from edgebert.memory import give_back
print("imported", flush=True)
sys.stdin.readline()
model, engine, precision, threads = sys.argv[1:]
encoder = edgebert.load(model, engine=engine, precision=precision, threads=int(threads), tune=False)
encoder.encode(["the dog sees a cat " * n for n in range(1, 20)])
give_back()
print("loaded", flush=True)
sys.stdin.readline()
"""


def private(pid: int) -> float:
    """The resident memory that is the process's alone, in MB (10^6 bytes)."""
    text = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8")
    return sum(map(int, re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", text, re.MULTILINE))) * 1024 / 1e6


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
    print("| artifact | private MB | mapped from the compiled cache, shared, MB |\n| --- | ---: | ---: |")
    for engine, precision in ARTIFACTS:
        command = [sys.executable, "-c", WORK, given.bundle, engine, precision, str(given.threads)]
        subprocess.run(command, input="\n\n", text=True, capture_output=True, check=True)  # the cache is made
        both = [subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
        before_and_after: list[float] = []
        for _ in range(2):
            for process in both:
                assert process.stdin is not None and process.stdout is not None
                process.stdout.readline()
            before_and_after.append(private(both[1].pid))
            weights = mapped(both[1].pid, "compiled")
            for process in both:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
        for process in both:
            process.communicate()
        print(f"| {engine} {precision} | {before_and_after[1] - before_and_after[0]:.0f} | {weights:.0f} |", flush=True)


if __name__ == "__main__":
    main()
