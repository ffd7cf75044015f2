"""What ordinary inputs and gradients of a site look like: the scales that factors are measured in."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

EPSILON = 1e-6


class SiteStatistics(nn.Module):
    """Running moments of one site; buffers, so they are stored with the editor.

    `spread` is the standard deviation of each input, `gradient_spread` the root mean square of each
    output gradient after division by the edit's own RMS, `output_size` the RMS of the site's output.
    `directions` and `moments` are the leading eigenpairs of E[k k.T], k in units of `spread`, over
    ordinary text: the directions in which unrelated prompts live.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor
    gradient_squares: Tensor
    output_squares: Tensor
    directions: Tensor
    moments: Tensor

    def __init__(self, d_in: int, d_out: int, directions: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(d_in))
        self.register_buffer("squares", torch.zeros(d_in))  # sum of squared deviations
        self.register_buffer("gradient_squares", torch.zeros(d_out))
        self.register_buffer("output_squares", torch.zeros(()))
        self.register_buffer("directions", torch.zeros(d_in, min(directions, d_in)))
        self.register_buffer("moments", torch.zeros(min(directions, d_in)))

    @torch.no_grad()
    def update(
        self,
        inputs: Float[Tensor, "m d_in"],
        gradients: Float[Tensor, "m d_out"],
        outputs: Float[Tensor, "m d_out"],
    ) -> None:
        """Merge a batch of rows into the moments (Chan, Golub and LeVeque 1979, for mean and squares)."""
        rows = len(inputs)
        total = self.count + rows
        shift = inputs.mean(0) - self.mean
        self.squares += (inputs - inputs.mean(0)).square().sum(0) + shift.square() * self.count * rows / total
        self.mean += shift * rows / total
        self.gradient_squares += gradients.square().sum(0)
        self.output_squares += outputs.square().mean(-1).sum()
        self.count.copy_(total)

    @torch.no_grad()
    def set_directions(self, second_moment: Float[Tensor, "d_in d_in"]) -> None:
        """Keep the leading eigenpairs of E[x x.T], given for raw inputs x."""
        scaled = second_moment.double() / self.spread.double().outer(self.spread.double())
        values, vectors = torch.linalg.eigh(scaled)
        keep = len(self.moments)
        self.moments.copy_(values[-keep:].clamp(min=0) if keep else self.moments)
        self.directions.copy_(vectors[:, -keep:] if keep else self.directions)

    @property
    def spread(self) -> Float[Tensor, " d_in"]:
        return (self.squares / self.count.clamp(min=1)).sqrt() + EPSILON

    @property
    def gradient_spread(self) -> Float[Tensor, " d_out"]:
        return (self.gradient_squares / self.count.clamp(min=1)).sqrt() + EPSILON

    @property
    def output_size(self) -> Float[Tensor, ""]:
        return (self.output_squares / self.count.clamp(min=1)).sqrt() + EPSILON

    def normalise(
        self,
        inputs: Float[Tensor, "b n d_in"],
        gradients: Float[Tensor, "b n d_out"],
        mask: Bool[Tensor, "b n"],
    ) -> tuple[Float[Tensor, "b n d_in"], Float[Tensor, "b n d_out"]]:
        """Inputs standardised; gradients divided by the edit's own RMS, then by their spread."""
        scaled = scale_by_edit(gradients, mask) / self.gradient_spread
        return (inputs - self.mean) / self.spread * mask[..., None], scaled

    def damp(
        self, keys: Float[Tensor, "b n d_in"], log_damping: Float[Tensor, ""]
    ) -> Float[Tensor, "b n d_in"]:
        """Multiply keys by (I + beta Sigma)^-1 on the stored directions, with beta = exp(log_damping)."""
        weight = log_damping.exp() * self.moments
        return keys - ((keys @ self.directions) * (weight / (1 + weight))) @ self.directions.mT


def scale_by_edit(gradients: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
    """Divide each edit's gradients by their root mean square over its rows."""
    count = mask.sum(1).clamp(min=1)[:, None, None] * gradients.shape[-1]
    return gradients / (gradients.square().sum((1, 2), keepdim=True) / count).sqrt().clamp(min=1e-20)
