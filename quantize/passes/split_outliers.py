"""A few channels that reach far beyond all others are spread over several int8 channels, so that the rest gets finer
steps and every product stays in integers.

    before   x -> MatMul(W)
    after    x                                      -> Q -+
             x -> Gather(those channels) -> Sub(i R) -> Q -+-> Concat -> DQ -> MatMul(W and those rows again)

Let R be the range of all other channels, from lo to hi, which the 256 steps span. Rounding clips to it, so a channel
that reaches to n R is the sum of what is left of it in n windows, like the marks of a thermometer:

    x = clip(x, lo, hi) + sum over i = 1.. of (clip(x - i R, lo, hi) - lo)        and for large negative values
                        + sum over j = 1.. of (clip(x + j R, lo, hi) - hi)

The constants -lo and -hi go into the bias. In the feed-forward part of BERT a handful of channels reach 5 times further
than all others, so 400 columns are multiplied instead of 384. Where a linear layer made x, its columns are repeated
and nothing is gathered.

The split is decided here and written by static-int8, which knows the windows.
Source: outlier channel splitting, Zhao et al. 2019, arXiv:1901.09504, with windows instead of halves, which keeps the
step of every part; the choice of channels follows Dettmers et al. 2022, arXiv:2208.07339.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.graph import Graph
from edgebert.quantize.passes.outliers import outlier_channels
from edgebert.quantize.ranges import min_max, spanned, steps
from edgebert.quantize.windows import affordable


@dataclass(frozen=True)
class SplitOutliers:
    """The pass. channels: at most so many of one activation. gain: how many times finer the steps must get.

    Raises: RecipeError for a number below 1.
    """

    channels: int = 8
    gain: float = 1.5
    keeps_activations: ClassVar[bool] = True  # what was measured before it still holds

    def __post_init__(self) -> None:
        for name, value in (("channels", self.channels), ("gain", self.gain)):
            if not value >= 1:
                raise RecipeError(f"split-outliers: {name} is {value}; it must be 1 or more")

    def __call__(self, graph: Graph, context: Context) -> None:
        """Notes the channels of each tensor in `graph.split`. What would take too many columns is left as it is."""
        linears = graph.to_round("split-outliers")
        for name, seen in context.observe(graph, [linear.input for linear in linears]).items():
            channels = outlier_channels(seen, self.channels, self.gain)
            others = seen.without(channels)
            if len(channels) and affordable(seen, channels, *spanned(*steps(*min_max(others)))):
                graph.split[name] = channels
