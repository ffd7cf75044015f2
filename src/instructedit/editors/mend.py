"""MEND: an edit's gradients through a rectified residual network at full width, and the sum of their rows."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from instructedit.editors.instructed import EditorConfig, InstructedEditor
from instructedit.hypernetwork import Hypernetwork, ShapeTransform, TransformConfig
from instructedit.statistics import SiteStatistics


@dataclass(frozen=True)
class MENDConfig(EditorConfig):
    """The settings of a MEND editor; `transform.depth` layers, two in the paper, of rank `transform.rank`."""

    paper: ClassVar[str] = "Mitchell et al. 2022, arXiv 2110.11309"

    name: str = "mend"
    transform: TransformConfig = field(
        default_factory=lambda: TransformConfig(code=0, aggregation="sum", directions=0)
    )
    kind: str = "mend"  # type: ignore[misc]  # a field here, so that files say it


class RectifiedBlock(nn.Module):
    """One layer, shared by sites of one shape: h + relu(s * (U V h + b) + o); no instruction is read.

    Scale s and shift o are each site's own, of the full width. U, b and o start at zero and s at one, V as
    Glorot's: the layer starts as the identity. The relu's slope at zero is one here, else it stayed there.
    Source: MEND (arXiv 2110.11309), eq. 3; b in both layers, and that slope, as in the authors' code.
    """

    def __init__(self, width: int, sites: int, config: TransformConfig) -> None:
        super().__init__()
        self.down = nn.Parameter(nn.init.xavier_uniform_(torch.empty(width, config.rank)))
        self.up = nn.Parameter(torch.zeros(config.rank, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(sites, 1, width))
        self.shift = nn.Parameter(torch.zeros(sites, 1, width))

    def forward(self, h: Float[Tensor, "s n w"], z: Float[Tensor, "n z"]) -> Float[Tensor, "s n w"]:
        return h + (self.scale * (h @ self.down @ self.up + self.bias) + self.shift).clamp(min=0)


class MENDTransform(ShapeTransform):
    """Rows are transformed as in MEND and summed in units of the whole site: dW = -step sum of d_j u_j.T.

    Source: MEND, eq. 2 and 3.
    """

    block: ClassVar[type[nn.Module]] = RectifiedBlock

    def unit(self, index: int) -> Float[Tensor, ""]:
        """The root mean square of the site's inputs: one number, so that no dimension counts for more."""
        stats: SiteStatistics = self.statistics[index]  # type: ignore[assignment]
        return (stats.mean.square() + stats.spread.square()).mean().sqrt()


class MENDNetwork(Hypernetwork):
    """MEND's transforms, one a weight shape."""

    transform: ClassVar[type[nn.Module]] = MENDTransform


class MENDEditor(InstructedEditor):
    """MEND (Mitchell et al. 2022, arXiv 2110.11309), trained as every editor here; instructions are not read.

    Inputs are standardised in each dimension. Gradients are divided by their edit's own size first and then
    by their root mean square in each dimension, and not centred, which the paper's are.
    """

    settings: ClassVar[type[EditorConfig]] = MENDConfig
    network: ClassVar[type[Hypernetwork]] = MENDNetwork
