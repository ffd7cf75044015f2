"""AlphaEdit: MEMIT's spread of an edit, kept to the directions that ordinary keys do not use."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.covariance import covariances, insert_pairs, remember
from instructedit.editors.memit import Pair, SpreadEdit, read_together
from instructedit.editors.registry import Result
from instructedit.errors import ModelError
from instructedit.types import EditCase


@dataclass(frozen=True, kw_only=True)
class AlphaEdit(SpreadEdit):
    """AlphaEdit with the settings of GPT2-XL, whose blocks 13 to 17 of 48 it edits.

    Single edits have no keys of earlier ones; `in_sequence` keeps them. A sentiment is not told its polarity.
    """

    name: ClassVar[str] = "alphaedit"
    paper: ClassVar[str] = "Fang et al. 2025, arXiv 2410.02355"
    result: ClassVar[Result] = "delta"
    depth: ClassVar[float | None] = 0.36

    steps: int = 20
    layers: int = 5
    threshold: float = 2e-2  # eigenvalues of ordinary keys' E[k k.T] below it count as zero; see `null_space`
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
        keys: Float[Tensor, "b n d_in"],
        residuals: Float[Tensor, "b n d_out"],
    ) -> Pair:
        """R K.T P (K K.T P + ridge I)^-1, P projecting on the null space: eq. 14 without earlier edits."""
        return insert_pairs(keys, keys.double() @ prepared @ prepared.mT, residuals, self.ridge)

    def in_sequence(self, backbone: Backbone) -> "AlphaEditSequence":
        """The method for one batch of edits after another; ordinary text is read here, by the model as it is.

        Errors: as `prepare`.
        """
        names = [site.name for site in self.place(backbone)[0]]
        return AlphaEditSequence(self, self.prepare(backbone, names))


@dataclass
class AlphaEditSequence:
    """AlphaEdit for one batch after another, which leaves the keys of earlier batches as they are.

    `null` is the basis N of each site's null space ``[d_in m]``; `grams` is N.T Kp.T Kp N over the keys of
    all edits so far ``[m m]``, in float64: as much for a thousand edits as for one.
    """

    method: AlphaEdit
    null: dict[str, Float[Tensor, "_ _"]]
    grams: dict[str, Float[Tensor, "_ _"]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The method's."""
        return self.method.name

    @property
    def memory(self) -> dict[str, Tensor]:
        """Kp.T Kp of each site within the null space, ``[d_in d_in]``: the same whatever basis it has."""
        return {name: self.null[name] @ gram @ self.null[name].mT for name, gram in self.grams.items()}

    @memory.setter
    def memory(self, tensors: dict[str, Tensor]) -> None:
        self.grams = {name: self.null[name].mT @ x @ self.null[name] for name, x in tensors.items()}

    @torch.no_grad()
    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> LowRankDelta:
        """One delta, b = 1, of all cases together, for the model as it is now; instructions are not read.

        Block after block, as `SpreadEdit.insert_together`; the keys kept are those of the edited model.
        """
        delta = self.method.insert_together(backbone, cases, self.solve)
        (sites, last), parts = self.method.place(backbone), self.method.locate(backbone, cases)
        for site in sites:
            keys, _ = read_together(backbone, parts, site, last, delta)
            inside = keys[0].double() @ self.null[site.name]
            self.grams[site.name] = inside.mT @ inside + self.grams.get(site.name, 0)
        return delta

    def solve(
        self, name: str, keys: Float[Tensor, "1 n d_in"], residuals: Float[Tensor, "1 n d_out"]
    ) -> Pair:
        """As `AlphaEdit.solve`, with the keys of earlier batches in Kp: all of eq. 14."""
        null = self.null[name]
        a = solve_inside(keys[0].double() @ null, self.grams.get(name), self.method.ridge) @ null.mT
        return a[None].to(keys.dtype), residuals.mT


def solve_inside(
    keys: Float[Tensor, "n m"], kept: Float[Tensor, "m m"] | None, ridge: float
) -> Float[Tensor, "n m"]:
    """K (Kp.T Kp + K.T K + ridge I)^-1 for keys that are told in a basis of the null space.

    With N that basis, R.T K N.T (...)^-1 is eq. 14: R K.T P (Kp Kp.T P + K K.T P + ridge I)^-1, P = N N.T.
    """
    system = keys.mT @ keys + ridge * torch.eye(keys.shape[1], dtype=keys.dtype, device=keys.device)
    factor = torch.linalg.cholesky(system if kept is None else system + kept)
    return torch.cholesky_solve(keys.mT, factor).mT


def null_space(
    moment: Float[Tensor, "d d"], threshold: float, name: str = "the site"
) -> Float[Tensor, "d m"]:
    """The eigenvectors of a covariance with eigenvalues below the threshold, in float64.

    The threshold is a number and not a share of the largest, so how many of the d directions are left, m,
    depends on how large the model's keys are: nearly all where they are small, none where they are large.
    Errors: `ModelError` when there is none. Source: what AlphaEdit makes its projection P of; the threshold
    as its authors' code has it.
    """
    values, vectors = torch.linalg.eigh(moment.double())
    null = vectors[:, values < threshold]
    if not null.shape[1]:
        raise ModelError(
            f"ordinary text uses every direction of {name}: the smallest eigenvalue of its keys is "
            f"{float(values[0]):.3g}, the threshold {threshold:g}. Choose a higher threshold."
        )
    return null
