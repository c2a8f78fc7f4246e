"""`python -m edgebert`, which is also what `torchrun` starts."""

from edgebert.cli import main

main()
