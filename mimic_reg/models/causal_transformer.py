"""The paper's Transformer, in which an hour attends to itself and to the hours before it alone.

It differs from `transformer` in two places: attention is causal, and the mean over time is over the
hours until the sample's last. So one pass over a stay gives the predictions of all its hours.
1,274,177 parameters with one output, 1,277,273 with 25.

Notes:
- As in `transformer` there is no positional encoding; `positional_encoding: true` adds sines.

Shapes: S rows, B samples, T hours, F channels, C outputs.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mimic_reg.models.base import Model, at_hours, check_hours, hourly, linear, require_sizes
from mimic_reg.models.transformer import Attention, Block, TransformerTrunk, sines


class CausalAttention(Attention):
    """Self-attention to an hour and the hours before it, (S, T, F) -> (S, T, F)."""

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Return (S, T, F); padding is at the end, where no valid hour looks."""
        query, key, value = (self._split(f(x)) for f in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(attended.transpose(1, 2).flatten(2))


class CausalTransformerTrunk(TransformerTrunk):
    """(S, T, F) -> (B, dense): the same layers; the mean is over the hours until now."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, dense)."""
        check_hours(x, "causal_transformer", self.dense.in_features)
        if self.positional_encoding:
            x = x + sines(x)
        for block in self.blocks:
            x = block(x, None)
        means = at_hours(mean_until_now(x), lengths)
        return self.site(self.dense(means).relu())


def mean_until_now(x: Tensor) -> Tensor:
    """Return the means (S, T, F) over each hour and those before it."""
    hours = torch.arange(1, x.shape[1] + 1, device=x.device)
    return x.cumsum(dim=1) / hours[:, None]


def build(
    *,
    n_outputs: int,
    shape: tuple[int, ...],
    generator: torch.Generator,
    blocks: int = 4,
    heads: int = 4,
    key_size: int = 256,
    filters: int = 8,
    dense: int = 128,
    positional_encoding: bool = False,
) -> Model:
    """Return the model; shape: (F,) of an hour.

    Raises:
        InputError: a size below 1.
    """
    n_features = hourly("causal_transformer", shape)
    sizes = {"blocks": blocks, "heads": heads, "key_size": key_size, "filters": filters}
    require_sizes("causal_transformer", **sizes, dense=dense)
    stack = [
        Block(n_features, heads, key_size, filters, "pre", generator, CausalAttention)
        for _ in range(blocks)
    ]
    trunk = CausalTransformerTrunk(stack, linear(n_features, dense, generator), positional_encoding)
    return Model(trunk, linear(dense, n_outputs, generator), causal=True)
