"""What an instruction asks for, read off the model's own state by ridge regression on the banks' wordings."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

SHARP = 4.0  # a reading of a quarter is nearly as good as a sure one


class Reader(nn.Module):
    """Tells two sides of instructions apart, such as positive from negative, once it has learned them."""

    mean: Tensor
    spread: Tensor
    slope: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("slope", torch.zeros(width))

    @torch.no_grad()
    def learn(self, states: Float[Tensor, "n d"], sides: Float[Tensor, " n"], ridge: float) -> None:
        """Fit the sides, 1 and -1, of instructions to their standardised states."""
        self.mean.copy_(states.mean(0))
        self.spread.copy_(states.std(0) + 1e-3)
        x = ((states - self.mean) / self.spread).double()
        gram = x.mT @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        self.slope.copy_(torch.linalg.solve(gram, x.mT @ sides.double()))

    def forward(self, state: Float[Tensor, "b d"], absent: Bool[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Which side instructions are on, from -1 to 1; 0 where there is no instruction."""
        side = torch.tanh(SHARP * ((state - self.mean) / self.spread) @ self.slope)
        return torch.where(absent, 0.0, side)
