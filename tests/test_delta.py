"""A delta keeps the laws of the matrices it stands for, and leaves the model as it was."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from instructedit.delta import LowRankDelta
from instructedit.editors.descent import dense_delta, sparse_delta
from instructedit.errors import DataError
from instructedit.storage import save_tensors

SITE = "up"
law = settings(max_examples=15, deadline=None)


def make(
    seed: int, edits: int = 1, rank: int = 2, d_in: int = 5, d_out: int = 4, site: str = SITE
) -> LowRankDelta:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(edits, rank, d_in, generator=generator, dtype=torch.float64)
    b = torch.randn(edits, d_out, rank, generator=generator, dtype=torch.float64)
    return LowRankDelta({site: a}, {site: b}, {"from": str(seed)})


@st.composite
def deltas(draw: st.DrawFn, edits: int | None = None, d_in: int | None = None, d_out: int | None = None):
    small = st.integers(1, 6)
    return make(
        draw(st.integers(0, 10**6)),
        edits or draw(small),
        draw(small),
        d_in or draw(small),
        d_out or draw(small),
    )


def pairs():
    sizes = {"edits": 3, "d_in": 4, "d_out": 5}
    return st.tuples(deltas(**sizes), deltas(**sizes))


def close(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


def test_pairs_of_sides_make_a_delta() -> None:
    one, two = make(0), make(1, site="down")
    made = LowRankDelta.of_pairs({SITE: (one.a[SITE], one.b[SITE]), "down": (two.a["down"], two.b["down"])})
    assert list(made.a) == list(made.b) == [SITE, "down"]
    close(made.dense(SITE), one.dense(SITE))
    close(made.dense("down"), two.dense("down"))


@law
@given(pair=pairs())
def test_the_sum_is_the_sum_of_the_matrices(pair: tuple[LowRankDelta, LowRankDelta]) -> None:
    left, right = pair
    close((left + right).dense(SITE), left.dense(SITE) + right.dense(SITE))
    close((left + -left).dense(SITE), torch.zeros_like(left.dense(SITE)))
    close(left.scale(2.5).dense(SITE), 2.5 * left.dense(SITE))


def test_sites_that_only_one_side_has_are_kept() -> None:
    left, right = make(0), make(1, site="down")
    both = left + right
    close(both.dense("up"), left.dense("up"))
    close(both.dense("down"), right.dense("down"))
    assert set(both.a) == {"up", "down"}


@law
@given(delta=deltas())
def test_merging_adds_the_edits(delta: LowRankDelta) -> None:
    merged = delta.merge()
    assert len(merged) == 1
    close(merged.dense(SITE)[0], delta.dense(SITE).sum(0))


@law
@given(delta=deltas(), data=st.data())
def test_edits_are_picked_by_number(delta: LowRankDelta, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(delta) - 1), min_size=1, max_size=4))
    close(delta[rows].dense(SITE), delta.dense(SITE)[rows])
    close(delta[rows[0]].dense(SITE), delta.dense(SITE)[rows[:1]])
    assert len(delta[:1]) == 1


@law
@given(delta=deltas())
def test_norms_are_those_of_the_matrices(delta: LowRankDelta) -> None:
    close(delta.norms()[SITE], torch.linalg.matrix_norm(delta.dense(SITE)))


@law
@given(delta=deltas())
def test_compression_to_the_full_rank_is_exact(delta: LowRankDelta) -> None:
    small, kept = delta.compress(energy=1.0)
    close(small.dense(SITE), delta.dense(SITE))
    assert kept[SITE] == pytest.approx(1.0)
    assert small.a[SITE].shape[1] <= min(delta.a[SITE].shape[1:] + delta.b[SITE].shape[1:2])


@law
@given(delta=deltas(), rank=st.integers(1, 6))
def test_compression_to_a_rank_is_the_best_there_is(delta: LowRankDelta, rank: int) -> None:
    small, kept = delta.compress(rank=rank)
    u, s, vh = torch.linalg.svd(delta.dense(SITE), full_matrices=False)
    close(small.dense(SITE), (u[..., :rank] * s[:, None, :rank]) @ vh[:, :rank])
    share = s[:, :rank].square().sum(-1) / s.square().sum(-1)
    assert kept[SITE] == pytest.approx(float(share.min()))


@law
@given(delta=deltas(), energy=st.floats(0.05, 0.999))
def test_compression_to_an_energy_keeps_that_much_and_no_rank_more(
    delta: LowRankDelta, energy: float
) -> None:
    small, kept = delta.compress(energy=energy)
    left = small.norms()[SITE].square() / delta.norms()[SITE].square()
    assert float(left.min()) >= energy - 1e-9
    assert kept[SITE] == pytest.approx(float(left.min()))
    rank = small.a[SITE].shape[1]
    if rank > 1:
        assert delta.compress(rank=rank - 1)[1][SITE] < energy


def test_nothing_compresses_to_nothing() -> None:
    small, kept = make(0).scale(0.0).compress()
    assert small.a[SITE].shape[1] == 1
    assert kept[SITE] == 1.0
    close(small.dense(SITE), torch.zeros_like(small.dense(SITE)))


def test_all_of_the_energy_keeps_a_small_edit_beside_a_large_one() -> None:
    """Its share of the squared norm is less than float32 tells from nothing."""
    a = torch.eye(4)[None, :3]
    b = torch.eye(5)[None, :, :3] * torch.tensor([1.0, 1e-4, 1e-4])
    small, kept = LowRankDelta({SITE: a}, {SITE: b}).compress(energy=1.0)
    assert small.a[SITE].shape[1] == 3
    assert kept[SITE] == 1.0


class Net(nn.Module):
    """One linear layer of either kind, so that what a delta does to it can be counted."""

    def __init__(self, kind: str, d_in: int = 5, d_out: int = 4) -> None:
        super().__init__()
        self.up = nn.Linear(d_in, d_out) if kind == "linear" else Conv1D(d_out, d_in)
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(x)

    def add(self, matrix: torch.Tensor) -> None:
        self.up.weight.data += matrix if isinstance(self.up, nn.Linear) else matrix.T


KINDS = ("linear", "conv1d")


@pytest.mark.parametrize("kind", KINDS)
@law
@given(delta=deltas(d_in=5, d_out=4), per=st.integers(1, 3), seed=st.integers(0, 99))
def test_applying_is_adding_to_the_weight(kind: str, delta: LowRankDelta, per: int, seed: int) -> None:
    net = Net(kind)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(delta) * per, 3, 5, generator=generator, dtype=torch.float64)
    rows = torch.arange(len(delta)).repeat_interleave(per)
    mixed = torch.randperm(len(rows), generator=generator)
    with delta.applied_to(net):
        grouped = net(x)
    with delta.applied_to(net, rows[mixed]):
        named = net(x[mixed])
    with delta.merge().applied_to(net, torch.zeros(len(x), dtype=torch.long)):
        merged = net(x)
    close(named, grouped[mixed])
    before = net.up.weight.clone()
    for index in range(len(delta)):
        net.add(delta.dense(SITE)[index])
        close(net(x)[rows == index], grouped[rows == index])
        net.up.weight.data.copy_(before)
    net.add(delta.dense(SITE).sum(0))
    close(net(x), merged)


@pytest.mark.parametrize(("count", "rows"), [(1, None), (3, None), (1, [1, 0]), (4, [1, 0])])
def test_a_batch_that_edits_do_not_share_out_is_refused(count: int, rows: list[int] | None) -> None:
    net, named = Net("linear"), None if rows is None else torch.tensor(rows)
    with make(0, edits=2).applied_to(net, named):
        net(torch.ones(2, 4, 5, dtype=torch.float64))
        with pytest.raises(DataError, match=rf"a batch of {count} rows was asked"):
            net(torch.ones(count, 4, 5, dtype=torch.float64))


def test_a_layer_gets_its_update_where_it_is() -> None:
    net = Net("linear").to("meta")
    with make(0, edits=2).applied_to(net, torch.tensor([1, 0])):
        assert net(torch.ones(2, 3, 5, dtype=torch.float64, device="meta")).is_meta


def test_nothing_at_all_is_no_edit() -> None:
    assert len(LowRankDelta({}, {})) == 0


def test_the_model_is_the_same_afterwards_to_the_bit(llama) -> None:
    model = llama.model
    site = llama.sites[0]
    delta = make(0, 1, 2, site.d_in, site.d_out, site.name).to(torch.float32)
    ids = torch.arange(6)[None]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before = model(ids).logits
    with delta.applied_to(llama):
        assert not torch.equal(model(ids).logits, before)
    assert torch.equal(model(ids).logits, before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in net.modules())


def test_hooks_are_removed_after_an_error() -> None:
    net = Net("linear")
    with pytest.raises(RuntimeError), make(0).applied_to(net):
        net(torch.ones(1, 6, dtype=torch.float64))
    assert hooks(net) == 0


def test_a_site_that_the_model_lacks_leaves_no_hook() -> None:
    net = Net("linear")
    with pytest.raises(AttributeError), (make(0) + make(1, site="down")).applied_to(net):
        pass
    assert hooks(net) == 0


def test_applying_twice_adds_both() -> None:
    net, x = Net("linear"), torch.ones(1, 5, dtype=torch.float64)
    left, right = make(0), make(1)
    with left.applied_to(net), right.applied_to(net):
        nested = net(x)
    with (left + right).applied_to(net):
        close(net(x), nested)


@pytest.mark.parametrize(("d_in", "d_out"), [(5, 4), (4, 5), (4, 4)])
@pytest.mark.parametrize("identity", [False, True])
def test_a_full_update_acts_as_its_matrix(d_in: int, d_out: int, identity: bool) -> None:
    """Its identity is left out where it is one; two of them are one as well."""
    net, noise = Net("linear", d_in, d_out), torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, d_in, generator=noise, dtype=torch.float64)
    update = torch.randn(1, d_out, d_in, generator=noise, dtype=torch.float64)
    update = torch.eye(d_out, d_in, dtype=torch.float64)[None] if identity else update
    delta = dense_delta({SITE: update})
    before = net(x)
    with delta.applied_to(net):
        close(net(x), before + x @ update[0].T)


def test_a_saved_delta_comes_back(tmp_path: Path) -> None:
    delta = make(3, edits=2) + make(4, edits=2, site="a.b")
    delta.save(tmp_path / "edit.safetensors")
    loaded = LowRankDelta.load(tmp_path / "edit.safetensors")
    assert loaded.header == delta.header
    assert all(torch.equal(loaded.a[n], delta.a[n]) and torch.equal(loaded.b[n], delta.b[n]) for n in delta.a)
    assert loaded.a.keys() == delta.a.keys()


def test_what_is_no_delta_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "edit.safetensors"
    with pytest.raises(DataError, match="cannot read the delta"):
        LowRankDelta.load(path)
    make(0).save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="cannot read the delta"):
        LowRankDelta.load(path)
    save_tensors(path, {"weight": torch.zeros(1)})
    with pytest.raises(DataError, match="not a delta"):
        LowRankDelta.load(path)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(3, 40, 3), (30, 2, 2), (30, 40, 30), (0, 0, 1)])
def test_rows_and_columns_of_zeros_take_no_rank(rows: int, columns: int, rank: int) -> None:
    noise = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    update = torch.where((torch.arange(30) < rows)[:, None] & (torch.arange(40) < columns), noise, 0)
    delta = sparse_delta({SITE: update})
    assert delta.a[SITE].shape == (1, rank, 40)
    torch.testing.assert_close(delta.dense(SITE)[0], update, rtol=0, atol=0)
