"""What an edit changes: a low-rank update of some linear layers, applied by hooks and never written."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn

from instructedit.errors import DataError
from instructedit.storage import load_tensors, save_tensors

FORMAT = "instructedit-delta-1"


@dataclass(frozen=True)
class LowRankDelta:
    """`b` updates side by side: at each site ``dW[i] = b[i] @ a[i]``, an ordinary LoRA pair.

    Shapes: ``a[site]`` is ``[b r d_in]``, ``b[site]`` is ``[b d_out r]``. A single or merged edit
    has b = 1. Addition is the addition of the dense updates: ranks are concatenated.
    """

    a: dict[str, Float[Tensor, "b r d_in"]]
    b: dict[str, Float[Tensor, "b d_out r"]]
    header: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.a.values()), ()))

    def __getitem__(self, index: int | slice | Sequence[int]) -> "LowRankDelta":
        rows = [index] if isinstance(index, int) else index
        return LowRankDelta(
            {n: x[rows] for n, x in self.a.items()}, {n: x[rows] for n, x in self.b.items()}, self.header
        )

    def __add__(self, other: "LowRankDelta") -> "LowRankDelta":
        return LowRankDelta(
            {n: torch.cat([x, other.a[n]], 1) if n in other.a else x for n, x in self.a.items()}
            | {n: x for n, x in other.a.items() if n not in self.a},
            {n: torch.cat([x, other.b[n]], 2) if n in other.b else x for n, x in self.b.items()}
            | {n: x for n, x in other.b.items() if n not in self.b},
            self.header,
        )

    def __neg__(self) -> "LowRankDelta":
        return self.scale(-1.0)

    def without(self, sites: Collection[str]) -> "LowRankDelta":
        """The same, with some sites left as they are."""
        return LowRankDelta(
            {n: x for n, x in self.a.items() if n not in sites},
            {n: x for n, x in self.b.items() if n not in sites},
            self.header,
        )

    def scale(self, factor: float | Float[Tensor, " b"]) -> "LowRankDelta":
        """Every update times one number, or each times its own."""
        each = factor[:, None, None] if isinstance(factor, Tensor) else factor
        return LowRankDelta(self.a, {n: x * each for n, x in self.b.items()}, self.header)

    def spread(self, places: Sequence[int], count: int) -> "LowRankDelta":
        """Put edit i at `places[i]` among `count` edits; the others change nothing."""
        a, b = (
            {
                name: x.new_zeros(count, *x.shape[1:]).index_copy(
                    0, torch.tensor(places, dtype=torch.long, device=x.device), x
                )
                for name, x in side.items()
            }
            for side in (self.a, self.b)
        )
        return LowRankDelta(a, b, self.header)

    @staticmethod
    def of_pairs(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> "LowRankDelta":
        """The updates whose two sides, a and b, are given for each site."""
        return LowRankDelta({n: a for n, (a, _) in pairs.items()}, {n: b for n, (_, b) in pairs.items()})

    @staticmethod
    def stack(deltas: Sequence["LowRankDelta"]) -> "LowRankDelta":
        """The edits of several deltas side by side, with the first's header; zeros fill up the ranks.

        A site that some of them have is left as it is by the others.
        """
        names = dict.fromkeys(name for delta in deltas for name in delta.a)
        counts = [len(delta) for delta in deltas]
        a, b = (
            {n: _stack_padded([side.get(n) for side in sides], counts, axis) for n in names}
            for sides, axis in (([delta.a for delta in deltas], 1), ([delta.b for delta in deltas], 2))
        )
        return LowRankDelta(a, b, deltas[0].header)

    def merge(self) -> "LowRankDelta":
        """One update that is the sum of all: their ranks side by side, b = 1."""
        return LowRankDelta(
            {n: x.flatten(0, 1)[None] for n, x in self.a.items()},
            {n: x.permute(1, 0, 2).flatten(1)[None] for n, x in self.b.items()},
            self.header,
        )

    def dense(self, site: str) -> Float[Tensor, "b d_out d_in"]:
        """The update of one site as full matrices."""
        return self.b[site] @ self.a[site]

    def norms(self) -> dict[str, Float[Tensor, " b"]]:
        """The Frobenius norm of every update, from the two Gram matrices and never from dW."""
        return {
            n: ((a @ a.mT) * (self.b[n].mT @ self.b[n])).sum((1, 2)).clamp(min=0).sqrt()
            for n, a in self.a.items()
        }

    def compress(
        self, rank: int | None = None, energy: float = 0.9999
    ) -> tuple["LowRankDelta", dict[str, float]]:
        """Cut every site to the smallest rank that keeps `energy` of its squared norm (or to `rank`).

        Returns the new delta and the share of squared norm kept per site. With b > 1 the largest
        rank that any edit needs is taken. Exact otherwise: QR of both factors and an SVD of r x r.
        """
        a: dict[str, Tensor] = {}
        b: dict[str, Tensor] = {}
        kept: dict[str, float] = {}
        for name, old in self.a.items():
            a[name], b[name], kept[name] = _compress(old, self.b[name], rank, energy)
        return LowRankDelta(a, b, self.header), kept

    @contextmanager
    def applied_to(self, model: Any, rows: Int[Tensor, " rows"] | None = None) -> Iterator[None]:
        """Let the model answer as edited for as long as the block lasts; no weight is written.

        `model` is a `transformers` model or a `Backbone`. `rows[i]` is the edit that row i of a
        batch is asked under. Without `rows` a batch holds equally many rows for each edit, in the
        edits' order. Errors: `DataError`, from the model, for a batch of another number of rows.
        """
        root: nn.Module = getattr(model, "model", model) if not isinstance(model, nn.Module) else model
        modules = {name: root.get_submodule(name) for name in self.a}
        with ExitStack() as hooks:
            for name, module in modules.items():
                hooks.enter_context(
                    module.register_forward_hook(_AddUpdate(self.a[name], self.b[name], rows))
                )
            yield

    def to(self, *args: Any, **kwargs: Any) -> "LowRankDelta":
        """The delta on another device or in another dtype, as `Tensor.to`."""
        return LowRankDelta(
            {n: x.to(*args, **kwargs) for n, x in self.a.items()},
            {n: x.to(*args, **kwargs) for n, x in self.b.items()},
            self.header,
        )

    def save(self, path: Path) -> None:
        """Write one safetensors file; `header` is kept with it."""
        tensors = {f"{n}.a": x for n, x in self.a.items()} | {f"{n}.b": x for n, x in self.b.items()}
        save_tensors(Path(path), tensors, {**self.header, "format": FORMAT})

    @staticmethod
    def load(path: Path) -> "LowRankDelta":
        """Read what `save` wrote.

        Errors: `DataError` when the file is missing, broken, or not a delta.
        """
        try:
            tensors, header = load_tensors(Path(path))
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"cannot read the delta {path}: {error}. Expected a file that `save` wrote."
            ) from error
        if header.pop("format", "") != FORMAT:
            raise DataError(f"{path} is a safetensors file but not a delta. Expected one that `save` wrote.")
        a, b = ({n[:-2]: x for n, x in tensors.items() if n.endswith(ending)} for ending in (".a", ".b"))
        return pair_sides(a, b, str(path), header)

    def save_lora(self, folder: Path, backbone: Any, **options: Any) -> Any:
        """Write a PEFT LoRA folder; see `instructedit.export.save_lora`."""
        from instructedit.export import save_lora

        return save_lora(self, folder, backbone, **options)


def pair_sides(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], what: str, header: Mapping[str, str] | None = None
) -> LowRankDelta:
    """A delta of the two sides that were read from `what`, by layer; half precision is for keeping only.

    Errors: `DataError` when a layer lacks a side, its sides do not fit each other, or its update is no
    finite number.
    """
    if not a or a.keys() != b.keys():
        raise DataError(f"{what} is not whole. Expected an A and a B for every layer.")
    edits = len(next(iter(a.values()))) if next(iter(a.values())).ndim else 0
    for name, x in a.items():
        y = b[name]
        fits = x.ndim == y.ndim == 3 and x.shape[1] == y.shape[2] and len(x) == len(y) == edits
        if not (fits and x.is_floating_point() and y.is_floating_point() and x.numel() and y.numel()):
            raise DataError(
                f"{what} holds for {name} an A of {list(x.shape)} in {x.dtype} and a B of {list(y.shape)} in "
                f"{y.dtype}. Expected [edits rank d_in] and [edits d_out rank] of one rank of at least 1, "
                "in floating point."
            )
    a, b = (
        {n: x.to(torch.promote_types(x.dtype, torch.float32)) for n, x in side.items()} for side in (a, b)
    )
    delta = LowRankDelta(a, b, dict(header or {}))
    wrong = [n for n, norms in delta.to(torch.float32).norms().items() if not norms.isfinite().all()]
    if wrong:
        raise DataError(
            f"{what} holds an update of {wrong[0]} that is no finite number. Make the edit again."
        )
    return delta


def _is_identity(side: Float[Tensor, "b _ _"]) -> bool:
    """Whether one side of a full update says nothing, as in `dense_delta`."""
    square = len(side) == 1 and side.shape[1] == side.shape[2] and not side.requires_grad
    return square and torch.equal(side[0], torch.eye(side.shape[1], dtype=side.dtype, device=side.device))


def _stack_padded(
    parts: Sequence[Float[Tensor, "_ _ _"] | None], counts: Sequence[int], axis: int
) -> Float[Tensor, "b _ _"]:
    """Tensors one behind the other, each filled up with zeros along `axis` to the longest.

    For a part that is missing there are as many edits, of rank 0, as its count says.
    """
    like = next(part for part in parts if part is not None)
    none = like.narrow(axis, 0, 0)[:1]
    pairs = zip(parts, counts, strict=True)
    known = [none.expand(count, -1, -1) if part is None else part for part, count in pairs]
    most = max(part.shape[axis] for part in known)
    pads = [[0, 0] * (2 - axis) + [0, most - part.shape[axis]] for part in known]
    return torch.cat([nn.functional.pad(part, pad) for part, pad in zip(known, pads, strict=True)])


class _AddUpdate:
    """A forward hook of one site: adds to each row of its output what the row's edit changes there."""

    def __init__(
        self, a: Float[Tensor, "b r d_in"], b: Float[Tensor, "b d_out r"], rows: Int[Tensor, " rows"] | None
    ) -> None:
        self.a, self.b, self.rows = a, b, rows
        self.ready: dict[torch.dtype, tuple[Tensor, ...]] = {}  # by the dtype that the model works in

    def __call__(self, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = args[0]
        sides = self.transposed(x)
        self.check(x, len(sides[0]))
        added = x.reshape(len(sides[0]), -1, x.shape[-1])
        for side in sides:
            added = added @ side
        return output + added.reshape(output.shape)

    def transposed(self, x: Float[Tensor, "... d_in"]) -> tuple[Tensor, ...]:
        """Both sides as `x` needs them, transposed: a pair a row, or one an edit. An identity is left out."""
        if x.dtype not in self.ready:
            a, b = (side.to(x.device, x.dtype) for side in (self.a, self.b))
            if self.rows is not None and len(a) > 1:
                rows = self.rows.to(x.device)
                a, b = a.index_select(0, rows), b.index_select(0, rows)
            self.ready[x.dtype] = tuple(side.mT for side in (a, b) if not _is_identity(side)) or (a.mT,)
        return self.ready[x.dtype]

    def check(self, x: Float[Tensor, "... d_in"], edits: int) -> None:
        """See that a batch is of the rows that were named, or can be shared out among so many edits."""
        each = (
            self.rows is not None and len(self.a) > 1 and x.ndim > 2
        )  # some models read all tokens in a row
        if len(x) != edits if each else len(x) % edits:
            told = f"`rows` names the edits of {edits}" if each else f"{edits} edits are to share it equally"
            raise DataError(
                f"a batch of {len(x)} rows was asked, and {told}. Ask as many rows for each edit in the "
                "edits' order, or say in `rows` which edit each row is asked under; one edit is delta[i]."
            )


def _compress(
    a: Float[Tensor, "b r d_in"], b: Float[Tensor, "b d_out r"], rank: int | None, energy: float
) -> tuple[Tensor, Tensor, float]:
    q_a, r_a = torch.linalg.qr(a.mT)
    q_b, r_b = torch.linalg.qr(b)
    u, s, vh = torch.linalg.svd(r_b @ r_a.mT)
    noise = 8 * torch.finfo(s.dtype).eps * s[..., :1]  # what rounding leaves in a place that holds nothing
    squares = torch.where(s > noise, s, 0).detach().cpu().double().square()  # small edits beside large ones
    sums = squares.cumsum(-1)
    total = sums[..., -1:]
    share = torch.where(total > 0, sums / total, 1.0)  # an empty edit needs no rank
    if rank is None:
        rank = int((share < energy).sum(-1).max()) + 1
    rank = max(1, min(rank, s.shape[-1]))
    root = s[:, :rank].sqrt()
    new_b = (q_b @ u[..., :rank]) * root[:, None]
    new_a = root[..., None] * (vh[:, :rank] @ q_a.mT)
    return new_a, new_b, float(share[:, rank - 1].min())
