"""AlphaEdit: MEMIT's spread of an edit, kept to the directions that ordinary keys do not use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.editors.covariance import covariances, insert_pairs, remember
from instructedit.editors.memit import Pair, SpreadEdit
from instructedit.editors.registry import Result
from instructedit.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class AlphaEdit(SpreadEdit):
    """AlphaEdit with the settings of GPT2-XL, whose blocks 13 to 17 of 48 it edits.

    Made in single mode, so there are no keys of earlier edits. A sentiment is not told its polarity.
    """

    name: ClassVar[str] = "alphaedit"
    paper: ClassVar[str] = "Fang et al. 2025, arXiv 2410.02355"
    result: ClassVar[Result] = "delta"
    depth: ClassVar[float | None] = 0.36

    steps: int = 20
    layers: int = 5
    threshold: float = 2e-2  # eigenvalues of the preserved keys' covariance below it count as zero
    ridge: float = 10.0  # the identity of eq. 14 times this

    def prepare(self, backbone: Backbone, names: Sequence[str]) -> dict[str, Float[Tensor, "_ _"]]:
        """A basis of the null space of each site's preserved keys; they are those of ordinary text.

        Errors: `ModelError` when ordinary text uses every direction of a site.
        """

        def make() -> dict[str, Tensor]:
            moments = covariances(backbone, names, self.text)
            return {name: null_space(moment, self.threshold, name) for name, moment in moments.items()}

        return remember(backbone, ("null space", tuple(names), self.text, self.threshold), make)

    def solve(
        self,
        prepared: Float[Tensor, "d_in _"],
        keys: Float[Tensor, "b 1 d_in"],
        residuals: Float[Tensor, "b 1 d_out"],
    ) -> Pair:
        """R K.T P (K K.T P + ridge I)^-1, P projecting on the null space: eq. 14 without earlier edits."""
        return insert_pairs(keys, keys.double() @ prepared @ prepared.mT, residuals, self.ridge)


def null_space(
    moment: Float[Tensor, "d d"], threshold: float, name: str = "the site"
) -> Float[Tensor, "d m"]:
    """The eigenvectors of a covariance with eigenvalues below the threshold, in float64 (eq. 12).

    Errors: `ModelError` when there is none.
    """
    values, vectors = torch.linalg.eigh(moment.double())
    null = vectors[:, values < threshold]
    if not null.shape[1]:
        raise ModelError(
            f"ordinary text uses every direction of {name}: the smallest eigenvalue of its keys is "
            f"{float(values[0]):.3g}, the threshold {threshold:g}. Choose a higher threshold."
        )
    return null
