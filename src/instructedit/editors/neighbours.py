"""The neighbours of an edit: names that the model reads most like the edit's own subject."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.data.anchors import load_names
from instructedit.editors.kept import keep


class Neighbours:
    """Finds, among the package's names, those whose prefix state is most like that of a subject.

    A name's state is what enters the first edited block at its last token, standardised over all names;
    likeness is the cosine. The names are read once a backbone, on first use, and kept in the cache.
    """

    def __init__(self) -> None:
        self._read: WeakKeyDictionary[Backbone, tuple[Tensor, Tensor, Tensor]] = WeakKeyDictionary()
        self._found: WeakKeyDictionary[Backbone, dict[str, list[str]]] = WeakKeyDictionary()

    @torch.no_grad()
    def of(self, backbone: Backbone, subject: str, count: int) -> list[str]:
        """The `count` names nearest to a subject, none a part of it or it a part of one; none without one.

        They are looked for once a subject, in the model as it is then.
        """
        if not subject or not count:
            return []
        found = self._found.setdefault(backbone, {})
        if subject not in found:
            found[subject] = self._find(backbone, subject)
        return found[subject][:count]

    def _find(self, backbone: Backbone, subject: str) -> list[str]:
        """All names that are none of the subject's, the nearest first."""
        if backbone not in self._read:
            states = _read_names(backbone)
            mean, spread = states.mean(0), states.std(0).clamp(min=1e-6)
            self._read[backbone] = mean, spread, _unit((states - mean) / spread)
        mean, spread, known = self._read[backbone]
        likeness = known @ _unit((_last_states(backbone, [subject])[0] - mean) / spread)
        order = likeness.argsort(descending=True).tolist()
        names, own = (load_names()[place] for place in order), subject.casefold()
        return [name for name in names if name.casefold() not in own and own not in name.casefold()]


def _read_names(backbone: Backbone) -> Float[Tensor, "n d"]:
    names = load_names()
    told = [backbone.first_block, *(backbone.text(name).ids for name in names)]
    return keep(backbone, "names", told, lambda: {"states": _last_states(backbone, names)})["states"]


def _last_states(backbone: Backbone, names: Sequence[str]) -> Float[Tensor, "n d"]:
    rows = backbone.encode([backbone.text(name) for name in names])
    return torch.stack([row[-1].float() for row in rows]).to(backbone.device)


def _unit(states: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    return torch.nn.functional.normalize(states, dim=-1)
