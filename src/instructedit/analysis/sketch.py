"""A delta as one short vector, made from its factors: inner products of dense updates without any of them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sketch_delta(
    a: Float[Tensor, "b r d_in"], b: Float[Tensor, "b d_out r"], size: int = 2048, seed: int = 0
) -> Float[Tensor, "b s"]:
    """Random projections of dW = b @ a to `size` numbers, the same projection for the same sizes and seed.

    Linear in dW; the inner product of two sketches is that of the two updates on the average, with a standard
    error of a few times 1 / sqrt(size) of their norms' product. Each entry dW[i, j] goes, with a sign,
    to place g(i) + h(j) modulo `size`; for an outer product that is a circular convolution of its two sides'
    count sketches, so dW is never formed. Source: Pham and Pagh 2013 (TensorSketch).
    """
    draw = torch.Generator().manual_seed(seed)
    left = _count(b.mT, *draw_hash(b.shape[1], size, draw), size)  # b r s
    right = _count(a, *draw_hash(a.shape[2], size, draw), size)
    return torch.fft.irfft((torch.fft.rfft(left) * torch.fft.rfft(right)).sum(1), size)


def draw_hash(
    width: int, size: int, draw: torch.Generator
) -> tuple[Int[Tensor, " width"], Int[Tensor, " width"]]:
    """A place below `size` and a sign for each of `width` coordinates."""
    return torch.randint(size, (width,), generator=draw), torch.randint(2, (width,), generator=draw) * 2 - 1


def _count(
    rows: Float[Tensor, "b r d"], places: Int[Tensor, " d"], signs: Int[Tensor, " d"], size: int
) -> Float[Tensor, "b r s"]:
    signed = rows * signs.to(rows.device, rows.dtype)
    return rows.new_zeros(*rows.shape[:-1], size).index_add(-1, places.to(rows.device), signed)
