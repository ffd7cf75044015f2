"""MALMEN: MEND's network, and the shifts it gives put together by the normal equation of the keys as read."""

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from instructedit.editors.instructed import EditorConfig, InstructedEditor
from instructedit.editors.mend import MENDTransform
from instructedit.factors import Anchors, Factors
from instructedit.hypernetwork import Hypernetwork, TransformConfig
from instructedit.site_rows import SiteRows


@dataclass(frozen=True)
class MALMENConfig(EditorConfig):
    """The settings of a MALMEN editor, as `MENDConfig`."""

    paper: ClassVar[str] = "Tan et al. 2024, arXiv 2311.04661"

    name: str = "malmen"
    transform: TransformConfig = field(default_factory=lambda: TransformConfig(code=0, directions=0))
    kind: str = "malmen"  # type: ignore[misc]  # a field here, so that files say it


class MALMENTransform(MENDTransform):
    """The least squares of all edits' shifts: S = (U U.T + e^lambda I)^-1 U D.T, U the keys as read.

    Row j is a key u_j and the shift d_j = -step (u_j . k_j) g_j that the pair k_j, g_j of the transform alone
    would bring to that key. Keys are told in units of the site, one number each: step and lambda, both
    learned, are told in the same. Source: MALMEN (arXiv 2311.04661), its normal equation; the shift as in the
    authors' code.
    """

    def rows(
        self, factors: Factors, z: Float[Tensor, "b z"], anchors: Anchors | None = None
    ) -> list[SiteRows]:
        """Keys as read and their shifts; anchors have no part in it."""
        made = super().rows(factors, z)
        return [self._shift(factors, index, row) for index, row in enumerate(made)]

    def _shift(self, factors: Factors, index: int, row: SiteRows) -> SiteRows:
        read = factors.inputs[self.sites[index].name] * factors.mask[..., None]
        keys = read / self.unit(index)
        share = (keys * row.keys).sum(-1, keepdim=True) / self.d_in
        return SiteRows(keys, share * row.values)


class MALMENNetwork(Hypernetwork):
    """MALMEN's transforms, one a weight shape."""

    transform: ClassVar[type[nn.Module]] = MALMENTransform


class MALMENEditor(InstructedEditor):
    """MALMEN (Tan et al. 2024, arXiv 2311.04661), trained as every editor here; instructions are not read.

    Edits that are made together are solved in one equation, in training too; one made alone has its own.
    Factors are normalised as in `MENDEditor`.
    """

    settings: ClassVar[type[EditorConfig]] = MALMENConfig
    network: ClassVar[type[Hypernetwork]] = MALMENNetwork
