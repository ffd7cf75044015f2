"""Is what was loaded back the edit itself? Compared layer by layer, whatever texts the edit acts on."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.backbone.sites import is_linear, is_transposed, weight_shape
from instructedit.delta import LowRankDelta, pair_sides
from instructedit.errors import ModelError

ROUNDING = 1e-5  # of an update's norm, in float32


def check_fit(delta: LowRankDelta, backbone: Backbone) -> None:
    """See that a delta is whole and that the model has its layers, in its sizes.

    Errors: `DataError` as `pair_sides`; `ModelError` for a layer that the model lacks or has in another size.
    """
    pair_sides(delta.a, delta.b, "the edit")
    modules = dict(backbone.model.named_modules())
    for name, a in delta.a.items():
        module, wanted = modules.get(name), (delta.b[name].shape[1], a.shape[2])
        known = weight_shape(module) if module is not None and is_linear(module) else None
        if known != wanted:
            here = f"of {known[0]} x {known[1]}" if known else "not there"
            raise ModelError(
                f"the edit changes {name}, {wanted[0]} x {wanted[1]}, which is {here} in {backbone.name!r}. "
                "It was made for another model: load that one (--model)."
            )


def check_updates(expected: LowRankDelta, found: LowRankDelta, what: str) -> None:
    """Compare ``dW`` itself, site by site, with the one that was found in `what`.

    Errors: `ModelError` when one differs by more than rounding, or is not a number.
    """
    left, right = (delta.to("cpu", torch.float64) for delta in (expected, found))
    norms = left.norms()
    for site, error in (left + -right).norms().items():
        precision = torch.finfo(found.a[site].dtype).eps if site in found.a else 0.0
        if not float(error) <= max(ROUNDING, precision) * float(norms.get(site, torch.zeros(()))):
            raise _differs(what, site, float(error))


def check_weights(model: Any, backbone: Backbone, delta: LowRankDelta, what: str) -> None:
    """Compare each edited weight of `model` with the backbone's own plus ``dW``, value by value.

    Errors: `ModelError` when one differs by more than its dtype explains, or is not a number.
    """
    precision = torch.finfo(backbone.dtype)
    for site in delta.a:
        old, new = (_weight(m.get_submodule(site), backbone.device) for m in (backbone.model, model))
        update = delta.dense(site)[0].to(old.device, torch.float32)
        error = (new - old - update).abs()
        allowed = precision.eps * (old.abs() + new.abs()) + precision.tiny + ROUNDING * update.abs().max()
        if not bool((error <= allowed).all()):
            raise _differs(what, site, float(error.max()))


def _weight(module: Any, device: torch.device) -> Float[Tensor, "d_out d_in"]:
    weight = module.weight.detach().to(device, torch.float32)
    return weight.T if is_transposed(module) else weight


def _differs(what: str, site: str, error: float) -> ModelError:
    return ModelError(
        f"{what} was loaded back and its update of {site} differs by {error:.2g} from the edit's. "
        "Nothing was kept; report this."
    )
