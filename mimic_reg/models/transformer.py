"""The paper's Transformer: keras-io's "Timeseries classification with a Transformer model".

Four blocks of self-attention (4 heads of key size 256) and a point-wise network (8 filters), the
mean over time, a dense layer of 128 units. 1,274,177 parameters with one output, 1,277,273 with 25.

Notes:
- Layer norms come first in a block, as in the example when the paper was written; `norm:
  post_branch` is its later revision.
- The mean is over valid hours. The example pools over channels, which would fix the number of
  hours.
- As in the example there is no positional encoding, so the model does not see the order of hours;
  `positional_encoding: true` adds sines.
- It does not use `nn.MultiheadAttention`, whose inner width is the number of channels; here it is
  heads x key size.

Shapes: B samples, T hours, F channels, N heads, K key size, C outputs.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimic_reg.models.base import Model, Site, check_hours, hourly, linear, require_sizes

Norm = Literal["pre", "post_branch"]

EPSILON = 1e-6  # of the example's layer norms


class Attention(nn.Module):
    """Self-attention over valid hours, (B, T, F) -> (B, T, F)."""

    def __init__(self, dim: int, heads: int, key_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * key_size
        # Keras's kernel is (F, N, K); its Glorot limit treats F as the field of a convolution
        fans = (heads * dim, key_size * dim)
        self.query = linear(dim, inner, generator, fans)
        self.key = linear(dim, inner, generator, fans)
        self.value = linear(dim, inner, generator, fans)
        self.out = linear(inner, dim, generator, fans=(inner, heads * dim))  # kernel (N, K, F)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Return (B, T, F).

        valid: (B, T), False beyond a sample's length; None if everything is valid
        """
        mask = None if valid is None else valid[:, None, None, :]
        query, key, value = (self._split(f(x)) for f in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(attended.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """Return (B, N, T, K) of (B, T, N x K)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """Attention and point-wise network, each with a layer norm, added to its input."""

    def __init__(
        self,
        dim: int,
        heads: int,
        key_size: int,
        filters: int,
        norm: Norm,
        generator: torch.Generator,
        attention: type[Attention] = Attention,
    ) -> None:
        super().__init__()
        self.attention = attention(dim, heads, key_size, generator)
        self.site = Site(dim)
        self.contract = linear(dim, filters, generator)
        self.expand = linear(filters, dim, generator)
        self.attention_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.pointwise_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.pre = norm == "pre"

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Return (B, T, F)."""
        if self.pre:
            x = x + self.site(self.attention(self.attention_norm(x), valid))
            branch = self._pointwise(self.pointwise_norm(x))
        else:
            x = x + self.attention_norm(self.site(self.attention(x, valid)))
            branch = self.pointwise_norm(self._pointwise(x))
        return x + branch

    def _pointwise(self, x: Tensor) -> Tensor:
        return self.expand(self.contract(x).relu())


class TransformerTrunk(nn.Module):
    """(B, T, F) -> (B, dense): blocks, mean over valid hours, dense layer.

    There is a site in each block and one after the dense layer.
    """

    def __init__(self, blocks: list[Block], dense: nn.Linear, positional_encoding: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.dense = dense
        self.site = Site(dense.out_features)
        self.positional_encoding = positional_encoding

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, dense)."""
        check_hours(x, "transformer", self.dense.in_features)
        x = x[:, : int(lengths.max())]
        valid = valid_hours(x, lengths)
        if self.positional_encoding:
            x = x + sines(x)
        for block in self.blocks:
            x = block(x, valid)
        return self.site(self.dense(mean_over_time(x, valid)).relu())


def valid_hours(x: Tensor, lengths: Tensor) -> Tensor | None:
    """Return (B, T), True within a sample's length; None if it is True everywhere."""
    if int(lengths.min()) == x.shape[1]:
        return None
    hours = torch.arange(x.shape[1], device=x.device)
    return hours < lengths.to(x.device, non_blocking=True)[:, None]


def mean_over_time(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean (B, F) over valid hours."""
    if valid is None:
        return x.mean(dim=1)
    total = x.masked_fill(~valid[..., None], 0).sum(dim=1)
    return total / valid.sum(dim=1, keepdim=True)


def sines(x: Tensor) -> Tensor:
    """Return (T, F): sine and cosine of the hour at wavelengths from 2 pi to 10,000 x 2 pi."""
    _, num_hours, dim = x.shape
    hours = torch.arange(num_hours, device=x.device)[:, None]
    rates = torch.exp(torch.arange(0, dim, 2, device=x.device) * (-math.log(10_000) / dim))
    return torch.stack([(hours * rates).sin(), (hours * rates).cos()], -1).flatten(1)[:, :dim]


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
    norm: Norm = "pre",
    positional_encoding: bool = False,
) -> Model:
    """Return the model, by default the paper's; shape: (F,) of an hour.

    Raises:
        InputError: a size below 1.
    """
    n_features = hourly("transformer", shape)
    sizes = {"blocks": blocks, "heads": heads, "key_size": key_size, "filters": filters}
    require_sizes("transformer", **sizes, dense=dense)
    stack = [Block(n_features, heads, key_size, filters, norm, generator) for _ in range(blocks)]
    trunk = TransformerTrunk(stack, linear(n_features, dense, generator), positional_encoding)
    return Model(trunk, linear(dense, n_outputs, generator))
