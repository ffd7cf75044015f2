"""Measures of directions on made-up vectors whose answers are known."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.analysis import (
    correlate,
    mean_cosines,
    measure_labels,
    measure_turn,
    principal_angles,
    principal_components,
    probe_labels,
    silhouette,
    sketch_delta,
)
from instructedit.analysis.geometry import leading_basis, normalise_rows, rotate_down
from instructedit.analysis.pictures import embed_tsne
from instructedit.analysis.sketch import draw_hash
from instructedit.errors import DataError


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_silhouette_by_hand() -> None:
    """Points 0, 1 | 4, 6 on a line, and a label's only point."""
    points = torch.tensor([0.0, 1.0, 4.0, 6.0])
    distances = (points[:, None] - points).abs()
    scores = silhouette(distances, torch.tensor([0, 0, 1, 1]))
    assert scores.tolist() == pytest.approx([4 / 5, 3 / 4, 1.5 / 3.5, 3.5 / 5.5])
    assert silhouette(distances, torch.tensor([0, 1, 0, 0])).tolist() == pytest.approx(
        [(1 - 5) / 5, 0, (3 - 3) / 3, (5 - 4) / 5]
    )


def test_components_of_points_on_a_line() -> None:
    points = torch.tensor([0.0, 1.0, 2.0, 5.0])[:, None] * torch.tensor([3.0, 4.0]) + 7
    coordinates, shares = principal_components(points)
    assert coordinates[:, 0].tolist() == pytest.approx([-10, -5, 0, 15])
    assert coordinates[:, 1].tolist() == pytest.approx([0] * 4, abs=1e-5)
    assert shares.tolist() == pytest.approx([1, 0], abs=1e-9)


def test_components_explain_what_the_singular_values_do() -> None:
    points = draw(9, 40)
    values = torch.linalg.svdvals(points - points.mean(0)).square()
    coordinates, shares = principal_components(points, 3)
    torch.testing.assert_close(shares, values[:3] / values.sum())
    torch.testing.assert_close(coordinates.square().sum(0), values[:3])


def test_rotating_down_keeps_inner_products() -> None:
    for points in (draw(5, 40), draw(40, 5)):
        less = rotate_down(points)
        assert less.shape[1] == 5
        torch.testing.assert_close(less @ less.mT, points @ points.mT)


def test_mean_cosines_leave_a_point_with_itself_out() -> None:
    cosines = torch.tensor([[1.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.0]])
    table = mean_cosines(cosines, torch.tensor([0, 0, 1]))
    assert table.flatten().tolist() == pytest.approx([0.5, 0.2, 0.2, 0.0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_the_same_subspace_has_no_angle_and_orthogonal_ones_a_right_one(seed: int, p: int, q: int) -> None:
    basis = torch.linalg.qr(draw(9, p + q, seed=seed)).Q
    first, second = basis[:, :p], basis[:, p:]
    mixed = first @ (draw(p, p, seed=seed + 1) + 4 * torch.eye(p, dtype=torch.float64))
    assert principal_angles(first, mixed).tolist() == pytest.approx([0] * p, abs=1e-6)
    assert principal_angles(first, second).tolist() == pytest.approx([90] * min(p, q), abs=1e-6)
    part = principal_angles(mixed, basis)
    assert part.tolist() == pytest.approx([0] * p, abs=1e-6)


@pytest.mark.parametrize("degrees", [1e-5, 3.0, 44.9, 45.1, 88.0])
def test_a_turned_plane_has_the_angle_of_the_turn(degrees: float) -> None:
    turn = math.radians(degrees)
    first = torch.eye(4, dtype=torch.float64)[:, :2]
    second = first.clone()
    second[1, 1], second[2, 1] = math.cos(turn), math.sin(turn)
    assert principal_angles(first, second).tolist() == pytest.approx([0, degrees], rel=1e-6, abs=1e-9)


def test_a_basis_has_no_more_dimensions_than_the_points() -> None:
    line = torch.tensor([[1.0, 2.0, 0.0]]) * torch.tensor([[1.0], [2.0], [-3.0]])
    basis = leading_basis(line, 3)
    assert basis.shape == (3, 1)
    assert basis[:, 0].abs().tolist() == pytest.approx([5**-0.5, 2 * 5**-0.5, 0], abs=1e-6)


def test_the_probe_reads_what_is_there_and_nothing_else() -> None:
    labels = torch.arange(120) % 3
    separable = torch.nn.functional.one_hot(labels, 20).double() + 0.05 * draw(120, 20)
    assert probe_labels(separable, labels).tolist() == [1, 1, 1]
    assert 0.15 < float(probe_labels(draw(120, 20), labels).mean()) < 0.5


def test_the_probe_gains_nothing_by_the_larger_label() -> None:
    labels = (torch.arange(150) % 10 == 0).long()  # always 0 would be right 90 times of 100
    assert float(probe_labels(draw(150, 10), labels).mean()) < 0.7


@pytest.mark.slow
def test_numbers_stand_out_from_shuffled_labels_only_where_labels_are_in_the_vectors() -> None:
    labels = [("a", "b", "c")[i % 3] for i in range(45)]
    means = torch.eye(3, 30, dtype=torch.float64)[[ord(x) - ord("a") for x in labels]]
    clear = measure_labels(means + 0.05 * draw(45, 30), labels, permutations=4)
    blind = measure_labels(draw(45, 30), labels, permutations=4)
    assert clear["n"] == 45
    for name in ("probe", "silhouette", "gap", "angle"):
        assert clear[name]["value"] > clear[name]["shuffled_high"], name
        assert clear[name]["p"] == 0.2
    assert sum(blind[name]["p"] == 0.2 for name in ("probe", "silhouette", "gap", "angle")) < 4
    assert abs(blind["gap"]["value"]) < 0.1
    assert clear["within"] - clear["between"] == pytest.approx(clear["gap"]["value"])
    assert {label: facts["n"] for label, facts in clear["by_label"].items()} == {"a": 15, "b": 15, "c": 15}
    assert [pair["labels"] for pair in clear["pairs"]] == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert json.dumps(clear)


@pytest.mark.slow
def test_numbers_are_the_same_for_turned_vectors_and_the_same_seed() -> None:
    labels, vectors = ["a", "b"] * 8, draw(16, 12)
    turned = vectors @ torch.linalg.qr(draw(12, 12, seed=5)).Q
    first, second = (measure_labels(x, labels, permutations=3, seed=2) for x in (vectors, turned))
    for name in ("silhouette", "gap", "angle"):
        assert first[name] == pytest.approx(second[name])
    assert first == measure_labels(vectors, labels, permutations=3, seed=2)
    assert first["silhouette"] != measure_labels(vectors, labels, permutations=3, seed=3)["silhouette"]


@pytest.mark.parametrize("labels", [["a"] * 4, ["a", "a", "a", "b"]])
def test_too_few_labels_are_refused(labels: list[str]) -> None:
    with pytest.raises(DataError, match="at least two labels"):
        measure_labels(draw(4, 3), labels)


def test_without_shuffles_there_is_no_chance() -> None:
    found = measure_labels(draw(8, 3), ["a", "b"] * 4, permutations=0)
    assert found["probe"]["shuffled"] is None
    assert found["probe"]["p"] is None


def test_a_turn_is_one_where_nothing_turns() -> None:
    vectors = draw(30, 8)
    same = measure_turn(vectors, 3 * vectors)
    assert same["cosine"] == pytest.approx(1)
    assert abs(same["shuffled"]) < 0.3
    assert measure_turn(vectors, -vectors)["cosine"] == pytest.approx(-1)


# Correlation


@pytest.mark.slow
def test_correlation_by_hand() -> None:
    found = correlate([1.0, 2.0, 3.0, 4.0, 5.0], [20.0, 10.0, 40.0, 30.0, 50.0])
    assert found.rho == pytest.approx(0.8)  # 1 - 6 * 4 / (5 * 24)
    assert found.low <= found.rho <= found.high
    assert found.cells == 5
    assert correlate([1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 2.0, 9.0]).rho == pytest.approx(1)


@pytest.mark.slow
def test_correlation_over_many_cells_and_by_chance() -> None:
    numbers = [float(number) for number in range(40)]
    rising = correlate(numbers, [number**3 for number in numbers], resamples=200)
    assert (rising.rho, rising.low, rising.high) == pytest.approx((1, 1, 1))
    assert rising.p == pytest.approx(1 / 201)
    noise = correlate(numbers, draw(40).tolist(), resamples=200)
    assert noise.p > 0.01
    assert noise.low < noise.rho < noise.high
    assert noise == correlate(numbers, draw(40).tolist(), resamples=200)


def test_cells_without_a_number_and_constant_ones_say_nothing() -> None:
    assert correlate([1.0, None, 2.0, 3.0], [1.0, 5.0, 2.0, math.nan]).cells == 2
    assert correlate([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).rho is None
    with pytest.raises(ValueError, match="zip"):
        correlate([1.0], [1.0, 2.0])


# Sketches


def test_a_sketch_is_the_hashed_dense_update() -> None:
    a, b, size = draw(2, 3, 7), draw(2, 5, 3, seed=1), 16
    generator = torch.Generator().manual_seed(4)
    (left, left_sign), (right, right_sign) = draw_hash(5, size, generator), draw_hash(7, size, generator)
    places = (left[:, None] + right) % size
    signed = (b @ a) * left_sign[:, None] * right_sign
    expected = torch.zeros(2, size, dtype=torch.float64).index_add(1, places.flatten(), signed.flatten(1))
    torch.testing.assert_close(sketch_delta(a, b, size, seed=4), expected)


def test_sketches_keep_cosines() -> None:
    a, b = draw(6, 4, 40), draw(6, 30, 4, seed=1)
    a[1:3], b[1] = a[:1], b[0]  # the second edit is the first, the third shares its inputs
    dense = normalise_rows((b @ a).flatten(1))
    sketched = normalise_rows(sketch_delta(a, b, 4096))
    error = (sketched @ sketched.mT - dense @ dense.mT).abs()
    assert float(error.max()) < 0.15
    assert float((dense @ dense.mT)[0, 2].abs()) < 0.9
    torch.testing.assert_close(sketched[0], sketched[1])


def test_t_sne_is_the_same_for_the_same_seed_and_keeps_neighbours() -> None:
    points = torch.cat([0.01 * draw(8, 5), 0.01 * draw(8, 5, seed=1) + 1])
    first = embed_tsne(points, seed=1)
    assert torch.equal(first, embed_tsne(points, seed=1))
    labels = torch.arange(16) // 8
    assert float(silhouette(torch.cdist(first, first), labels).mean()) > 0.3
