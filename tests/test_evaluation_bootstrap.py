"""Intervals and summaries: numbers worked out by hand, and the laws of a cluster bootstrap."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.errors import DataError
from instructedit.evaluation.bootstrap import clusters_of, estimate, paired_difference
from instructedit.evaluation.rows import LABELS, VALUES, make_row, read_rows, select, write_rows
from instructedit.evaluation.summary import format_summary, summarise


def row(case: int, edited: float, base: float = 0.0, **labels):
    values = {"base_exact": base, "edited_exact": edited}
    return make_row({"case": case, "task": "facts", "group": "reliability", **labels}, values)


def test_the_mean_is_over_cases_and_the_pooled_mean_over_probes():
    result = estimate({"many": [1.0, 1.0, 1.0, 0.0], "one": [0.0]})
    assert result.mean == pytest.approx((0.75 + 0.0) / 2)
    assert result.pooled == pytest.approx(3 / 5)
    assert (result.cases, result.probes) == (2, 5)


def test_the_interval_of_a_rate_is_the_binomial_one():
    # 60 of 100 cases: the normal interval is 0.6 ± 1.96 · sqrt(0.6 · 0.4 / 100)
    result = estimate({case: [float(case < 60)] for case in range(100)}, resamples=4000, seed=3)
    half = 1.96 * math.sqrt(0.6 * 0.4 / 100)
    assert result.low == pytest.approx(0.6 - half, abs=0.015)
    assert result.high == pytest.approx(0.6 + half, abs=0.015)


def test_probes_that_agree_within_a_case_do_not_narrow_the_interval():
    single = estimate({case: [float(case % 2)] for case in range(40)}, seed=1)
    repeated = estimate({case: [float(case % 2)] * 50 for case in range(40)}, seed=1)
    assert (single.low, single.high) == (repeated.low, repeated.high)
    assert repeated.probes == 2000


def test_edits_of_one_subject_are_resampled_together():
    """Two subjects, of 3 and 1 cases: resamples hold 3/4, 1 and 0 with chances 1/2, 1/4 and 1/4."""
    rows = [row(case, 1.0, subject="Oslo") for case in range(2)] + [row(2, 1.0, subject="OSLO")]
    result = estimate(clusters_of([*rows, row(3, 0.0, subject="Rome")], "edited_exact"))
    assert (result.mean, result.low, result.high, result.cases) == (0.75, 0.0, 1.0, 4)
    alone = estimate(clusters_of([*rows, row(3, 0.0, subject="oslo")], "edited_exact"))
    assert (alone.mean, alone.low, alone.high) == (0.75, None, None)
    single = estimate(clusters_of([row(case, float(case > 0)) for case in range(4)], "edited_exact"))
    assert single.low == 0.25, "without a subject each case stands for itself"


def test_a_paired_difference_resamples_subjects_too():
    edited = [row(case, 1.0, subject="Oslo") for case in range(3)] + [row(3, 0.0, subject="Rome")]
    found = summarise(edited)["facts"]["reliability"]["bare"]["exact"]["difference"]
    assert (found["mean"], found["low"], found["high"]) == (0.75, 0.0, 1.0)


def test_a_share_of_all_or_none_has_the_exact_interval():
    """24 of 24: the share p with p^24 = 0.025 is 0.8575; 0 of 2: 1 - 0.025^(1/2) = 0.8419."""
    whole = estimate({case: [1.0, 1.0] for case in range(24)}, share=True)
    assert (whole.low, whole.high) == (pytest.approx(0.8575, abs=5e-5), 1.0)
    none = estimate({0: [0.0], 1: [0.0]}, share=True)
    assert (none.low, none.high) == (0.0, pytest.approx(0.8419, abs=5e-5))
    five = estimate(
        clusters_of([row(i, 1.0, subject=f"s{i % 2}") for i in range(5)], "edited_exact"), share=True
    )
    assert five.low == pytest.approx(0.1581, abs=5e-5), "two subjects"
    assert estimate({0: [0.5], 1: [0.5]}, share=True).low == 0.5
    assert estimate({0: [0.0], 1: [0.0]}).high == 0.0, "nats are no share"
    assert estimate({0: [1.0], 1: [1.0]}, share=True, resamples=0).low is None


def test_a_summary_tells_shares_from_nats_and_from_what_is_so_by_definition():
    values = {
        f"{side}_{name}": float(name != "kl") for side in ("base", "edited") for name in ("unchanged", "kl")
    }
    rows = [make_row({"case": i, "task": "t", "group": "locality"}, values) for i in range(24)]
    found = summarise(rows)["t"]["locality"]["bare"]
    lows = [found["unchanged"][side]["low"] for side in ("base", "edited", "difference")]
    assert lows == [1.0, pytest.approx(0.8575, abs=5e-5), 0.0]
    assert [found["kl"][side]["high"] for side in ("base", "edited")] == [0.0, 0.0]


def test_one_case_has_no_interval_and_no_case_no_estimate():
    one = estimate({0: [0.25, 0.75]})
    assert (one.mean, one.low, one.high) == (0.5, None, None)
    assert estimate({}) is None
    assert estimate({0: [1.0], 1: [0.0]}, resamples=0).low is None


def test_a_paired_difference_forgets_how_hard_each_case_is():
    first = {case: [case / 10 + 0.2] for case in range(10)}
    second = {case: [case / 10] for case in range(1, 12)}
    result = paired_difference(first, second)
    assert result.cases == 9, "only cases that both have are compared"
    assert [result.mean, result.low, result.high] == pytest.approx([0.2] * 3)
    assert paired_difference({0: [1.0]}, {1: [1.0]}) is None


clusters = st.dictionaries(
    st.integers(0, 50), st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=2, max_size=12
)


@settings(max_examples=40)
@given(clusters, st.integers(0, 5))
def test_intervals_stay_within_the_values_and_repeat_with_their_seed(cases, seed):
    result = estimate(cases, resamples=50, seed=seed)
    values = [value for part in cases.values() for value in part]
    assert min(values) - 1e-9 <= result.low <= result.high <= max(values) + 1e-9
    assert result == estimate(cases, resamples=50, seed=seed)
    backward = estimate(dict(reversed(cases.items())), resamples=50, seed=seed)
    assert (backward.mean, backward.pooled) == pytest.approx((result.mean, result.pooled))


def test_a_summary_shows_both_sides_and_their_difference():
    rows = [row(0, 1.0), row(0, 0.0), row(1, 1.0, base=1.0), row(1, 1.0, instructed=True)]
    summary = summarise(rows, resamples=20)
    entry = summary["facts"]["reliability"]["bare"]["exact"]
    assert entry["edited"]["mean"] == pytest.approx(0.75)
    assert entry["base"]["mean"] == pytest.approx(0.5)
    assert entry["difference"]["mean"] == pytest.approx(0.25)
    assert entry["edited"]["pooled"] == pytest.approx(2 / 3)
    assert summary["facts"]["reliability"]["instructed"]["exact"]["edited"]["cases"] == 1
    assert "kl" not in summary["facts"]["reliability"]["bare"]
    assert json.loads(json.dumps(summary)) == summary


def test_cases_of_two_tasks_with_one_number_are_two_cases():
    rows = [row(0, 1.0), row(0, 0.0, task="other")]
    assert len(clusters_of(rows, "edited_exact")) == 2


def test_the_table_prints_percentages(capsys):
    from rich.console import Console

    summary = summarise([row(0, 1.0), row(1, 0.0), row(2, 1.0)], resamples=20)
    Console(width=140).print(format_summary(summary))
    printed = capsys.readouterr().out
    assert "Reliability" in printed
    assert "66.7" in printed


def test_rows_come_back_from_parquet_as_they_were(tmp_path):
    rows = [row(0, 1.0, prompt="Où?", instructed=True), row(1, 0.5, base=0.25)]
    rows[1]["edited_text"] = "Paris"
    path = tmp_path / "folder" / "rows.parquet"
    write_rows(path, rows)
    assert read_rows(path) == rows
    assert list(path.parent.iterdir()) == [path], "a temporary file was left behind"


def test_an_empty_result_keeps_its_columns(tmp_path):
    import pyarrow.parquet as pq

    write_rows(tmp_path / "rows.parquet", [])
    assert read_rows(tmp_path / "rows.parquet") == []
    assert {*LABELS, *VALUES} <= set(pq.read_schema(tmp_path / "rows.parquet").names)


def test_rows_that_cannot_be_read_say_what_to_do(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    broken, other = tmp_path / "broken.parquet", tmp_path / "other.parquet"
    broken.write_text("no rows")
    pq.write_table(pa.table({"case": [1]}), other)
    for path in (broken, tmp_path / "missing.parquet"):
        with pytest.raises(DataError, match="cannot read the rows"):
            read_rows(path)
    with pytest.raises(DataError, match="lacks the columns"):
        read_rows(other)
    write_rows(tmp_path / "whole.parquet", [row(0, 1.0)])
    pq.write_table(pq.read_table(tmp_path / "whole.parquet").drop_columns(["edited_text"]), other)
    with pytest.raises(DataError, match="lacks the columns edited_text"):
        read_rows(other)


def test_a_metric_that_is_not_a_number_is_kept_as_none():
    assert make_row({"case": 0}, {"edited_kl": math.nan})["edited_kl"] is None


def test_select_takes_rows_by_their_labels():
    rows = [row(0, 1.0), row(1, 1.0, instructed=True)]
    assert [r["case"] for r in select(rows, instructed=True, group="reliability")] == [1]
