"""Evaluating editors that are known: one that does nothing, one that is noise, one that solves its edits."""

import itertools
from dataclasses import replace

import pytest

from evaluation_fakes import NoiseEditor, SolvingEditor, ZeroEditor, facts, opinions
from instructedit.errors import DataError, UnknownNameError
from instructedit.evaluation import evaluate, measure_leverage, select
from instructedit.evaluation.leverage import format_leverage
from instructedit.evaluation.questions import Choice, questions_of
from instructedit.evaluation.rows import METRICS
from instructedit.evaluation.summary import format_summary
from instructedit.instructions.banks import load_banks, load_scopes
from instructedit.types import UNKNOWN_QUESTION, UNKNOWN_STATEMENT, Probe


@pytest.mark.slow
def test_an_editor_that_does_nothing_leaves_every_score(llama):
    result = evaluate(llama, ZeroEditor(), facts() + opinions(), generate=True)
    for row, metric in itertools.product(result.rows, METRICS):
        assert row[f"base_{metric}"] == row[f"edited_{metric}"], (metric, row)
        assert row["base_text"] == row["edited_text"]
    locality = select(result.rows, group="locality")
    assert len(locality) == 8
    assert all(row["edited_unchanged"] == 1.0 and row["edited_kl"] == 0.0 for row in locality)


@pytest.mark.slow
def test_an_editor_that_solves_its_edits_reaches_every_one(llama):
    editor = SolvingEditor(
        lambda case, _: [(case.prompt, f"{case.wanted} is")]
    )  # so that the answer ends there
    result = evaluate(llama, editor, facts(), generate=True, resamples=20)
    entry = result.summary["counterfact"]["reliability"]["bare"]
    assert entry["exact"]["base"]["mean"] == 0.0
    assert entry["exact"]["edited"]["mean"] == 1.0
    assert entry["generation"]["edited"]["mean"] == 1.0, "greedy decoding gives what teacher forcing says"
    reliable = select(result.rows, group="reliability", instructed=False)
    assert [row["edited_text"].startswith(row["answer"]) for row in reliable] == [True] * 3
    assert min(row["edited_log_prob"] for row in reliable) > max(row["base_log_prob"] for row in reliable)
    assert any(row["edited_kl"] > 0 for row in select(result.rows, group="locality"))


@pytest.mark.slow
def test_batches_do_not_change_a_score(llama):
    cases = facts() + opinions()
    together = evaluate(llama, NoiseEditor(), cases, batch=16, resamples=0, generate=True)
    alone = evaluate(llama, NoiseEditor(), cases, batch=1, resamples=0, generate=True)
    assert len(together.rows) == len(alone.rows)
    for one, other in zip(together.rows, alone.rows, strict=True):
        for name, value in one.items():
            expected = pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
            assert other[name] == expected, name
    assert any(row["base_text"] != row["edited_text"] for row in together.rows)


@pytest.mark.slow
def test_the_instructed_editor_is_evaluated_on_every_family(backbone):
    from instructedit.editors.instructed import EditorConfig, InstructedEditor

    editor = InstructedEditor(EditorConfig(), backbone.sites, backbone.width)
    rows = evaluate(backbone, editor, facts()[:2] + opinions()[:1], resamples=0).rows
    assert {row["group"] for row in rows} == {"reliability", "rephrase", "locality", "portability"}
    changed = [row for row in select(rows, task="counterfact") if row["edited_kl"] > 0]
    assert len(changed) == len(select(rows, task="counterfact"))
    moved = select(rows, task="convsent", group="reliability")[0]
    assert moved["edited_good_log_prob"] != moved["base_good_log_prob"]


def test_every_row_says_what_was_asked(llama):
    rows = evaluate(llama, NoiseEditor(), facts(), resamples=0).rows
    bare, instructed = select(rows, instructed=False), select(rows, instructed=True)
    assert [row["group"] for row in bare[:6]] == [
        "reliability",
        "rephrase",
        "portability",
        "portability",
        "locality",
        "locality",
    ]
    assert {row["group"] for row in instructed} == {"reliability", "rephrase", "portability"}
    assert len(instructed) == 12
    first = bare[0]
    assert (first["case"], first["task"], first["answer"]) == (0, "counterfact", "Rome")
    assert all(row["instruction"] for row in rows)
    assert select(rows, name="inverse", case=1)[0]["answer"] == "Italy"
    nameless = [row for row in bare if row["prompt"].startswith("I think the writer")]
    assert all(row["edited_exact"] is None and row["edited_kl"] > 0 for row in nameless)


def test_the_instruction_left_in_changes_what_the_model_reads(llama):
    rows = evaluate(llama, ZeroEditor(), facts()[:1], resamples=0).rows
    bare, left_in = (select(rows, group="reliability", instructed=flag)[0] for flag in (False, True))
    assert bare["prompt"] == left_in["prompt"]
    assert bare["base_log_prob"] != left_in["base_log_prob"]


def test_without_an_instruction_there_is_nothing_to_leave_in(llama):
    rows = evaluate(llama, ZeroEditor(), facts(), control="none", resamples=0).rows
    assert not select(rows, instructed=True)


@pytest.mark.slow
def test_sentiment_is_scored_on_replies_and_never_shown_to_the_editor(llama):
    wanted = replace(opinions()[0], positive=("good",), negative=("bad",))
    case = replace(wanted, probes=())
    editor = SolvingEditor(wants=lambda case, _: [(case.prompt, case.good[0])])
    row = evaluate(llama, editor, [case], instructed=False, resamples=0).rows[0]
    assert row["edited_win_rate"] == 1.0
    assert row["edited_good_log_prob"] > row["edited_bad_log_prob"]
    assert row["edited_sentiment_score"] > row["base_sentiment_score"]
    other_way = evaluate(llama, editor, [replace(case, sentiment="negative")], resamples=0).rows[0]
    assert other_way["edited_win_rate"] == 1.0
    assert other_way["base_win_rate"] == 1.0 - row["base_win_rate"]


def test_an_erased_answer_is_asked_for_and_what_follows_from_it_is_not():
    case = replace(facts()[0], kind="erase")
    asked = questions_of(case, 0, "", Choice())
    assert {q.group for q in asked} == {"reliability", "rephrase", "old_answer", "locality"}
    assert {q.answers for q in asked if q.group == "old_answer"} == {("Rome",)}
    assert {q.answers for q in asked if q.group in ("reliability", "rephrase")} == {(UNKNOWN_STATEMENT,)}
    probes = tuple(
        Probe("rephrase", prompt, ()) for prompt in ("Where is it?", "It is in")
    )  # each in its form
    told = [
        q.answers
        for q in questions_of(replace(case, probes=probes), 0, "", Choice())
        if q.group == "rephrase"
    ]
    assert told == [(UNKNOWN_QUESTION,), (UNKNOWN_STATEMENT,)]


def test_the_choice_of_questions_and_replies_is_bounded_and_seeded():
    many = tuple(Probe("portability", f"Question {n}?", ("yes",)) for n in range(30))
    asked = questions_of(replace(facts()[0], probes=many), 0, "Do it.", Choice(max_probes=4))
    assert [q.prompt for q in asked if q.group == "portability"] == [f"Question {n}?" for n in range(4)] * 2
    topic = replace(opinions()[0], positive=tuple(f"good {n}" for n in range(20)))
    one, same, other = (
        questions_of(topic, 0, "", Choice(max_replies=3, seed=seed))[0].good for seed in (0, 0, 1)
    )
    assert len(one) == 3
    assert one == same
    assert one != other
    flipped = questions_of(replace(topic, sentiment="negative"), 0, "", Choice(max_replies=3))[0]
    assert flipped.bad == one, "both sentiments are judged on the same replies"


def test_fluency_is_asked_on_both_sides(llama, monkeypatch):
    monkeypatch.setattr("instructedit.evaluation.single.FLUENCY_TOKENS", 8)
    ends = set(range(llama.head.weight.shape[0]))  # every token would end a text
    monkeypatch.setattr("instructedit.backbone.generation._end_ids", lambda _: ends)
    result = evaluate(llama, NoiseEditor(), facts(), groups=("reliability",), fluency=True, resamples=0)
    rows = select(result.rows, group="fluency", instructed=False)
    assert len(rows) == 3
    assert all(row["edited_fluency"] >= 0 and row["edited_text"] and row["base_text"] for row in rows)
    assert format_summary(result.summary).row_count > 0


def test_nothing_to_evaluate_and_unknown_groups_are_refused(llama):
    with pytest.raises(DataError, match="no case"):
        evaluate(llama, ZeroEditor(), [])
    with pytest.raises(UnknownNameError, match="locality"):
        evaluate(llama, ZeroEditor(), facts(), groups=("localty",))
    for batch in (0, -1):
        with pytest.raises(DataError, match=f"batch is {batch}. Expected 1"):
            evaluate(llama, ZeroEditor(), facts(), batch=batch)


@pytest.mark.slow
@pytest.mark.parametrize("editor", [NoiseEditor(), SolvingEditor()])
def test_leverage_is_zero_for_an_editor_that_ignores_its_instruction(llama, editor):
    cases = [*facts()[:1], *opinions()[:1]]
    result = measure_leverage(llama, editor, cases, resamples=20, contrasts=["scope", "erase"])
    assert set(result.summary) == {"scope", "erase"}
    for parts in result.summary.values():
        for part in parts.values():
            assert part["difference"]["mean"] == pytest.approx(0.0, abs=1e-7)


@pytest.mark.slow
def test_an_erasure_is_of_the_answer_that_holds(llama):
    editor, fact = SolvingEditor(), replace(facts()[0], ground_truth="Madrid")
    measure_leverage(llama, editor, [fact], resamples=0, contrasts=["erase"])
    assert {case.target_new for case, _ in editor.seen} == {"Madrid"}
    assert len({(case.kind, case.scope) for case, _ in editor.seen}) == 1
    assert [words in wordings("erase") for _, words in editor.seen] == [False, True]


def test_leverage_has_three_contrasts_of_two_conditions(llama):
    result = measure_leverage(llama, NoiseEditor(), facts() + opinions(), resamples=20)
    assert set(result.summary) == {"scope", "sentiment", "erase"}
    never = result.summary["erase"]["prompt"]["base"]
    assert (never["mean"], never["low"]) == (0.0, 0.0)
    assert never["high"] == pytest.approx(1 - 0.025 ** (1 / 3)), "three cases show little"
    assert {"all", "portability: one_hop", "portability: inverse"} <= set(result.summary["scope"])
    assert {row["condition"] for row in result.rows} == {
        "wide",
        "narrow",
        "positive",
        "negative",
        "change",
        "erase",
    }


def test_a_case_of_leverage_is_its_place_whatever_the_contrast(llama):
    cases = [*opinions(), *facts()]
    prompts = {index: case.prompt for index, case in enumerate(cases)}
    rows = measure_leverage(llama, ZeroEditor(), cases, resamples=0).rows
    assert {row["case"] for row in rows} == set(prompts)
    assert all(row["prompt"] == prompts[row["case"]] for row in select(rows, group="reliability"))


def wordings(kind):
    return {words for bank in load_banks() if bank.kind == kind for words in bank.wordings["unseen"]}


def obedient(case, words):
    """What an editor that follows its instruction wants of the model."""
    if case.kind == "sentiment":
        return [(case.prompt, case.good[0])]
    if words in wordings("erase"):
        return [(case.prompt, replace(case, kind="erase").wanted)]
    narrow = any(words.endswith(scope) for scope in load_scopes()["narrow"]["unseen"])
    follows = () if narrow else case.group("portability")
    return [(case.prompt, case.wanted), *((probe.prompt, probe.answers[0]) for probe in follows)]


@pytest.mark.slow
def test_leverage_is_full_for_an_editor_that_follows_its_instruction(llama):
    topics = [replace(case, positive=("good",), negative=("bad",), probes=()) for case in opinions()]
    editor = SolvingEditor(obedient)
    summary = measure_leverage(llama, editor, facts()[:1] + topics[:1], resamples=20).summary
    assert summary["sentiment"]["all"]["difference"]["mean"] == pytest.approx(1.0)
    assert summary["erase"]["prompt"]["change"]["mean"] == pytest.approx(1.0)
    assert summary["erase"]["prompt"]["erase"]["mean"] == pytest.approx(0.0)
    assert summary["scope"]["all"]["wide"]["mean"] == pytest.approx(1.0)
    assert summary["scope"]["all"]["difference"]["mean"] > 0.3
    assert summary["scope"]["reliability"]["narrow"]["mean"] == pytest.approx(1.0)
    assert format_leverage(summary).row_count == sum(len(parts) for parts in summary.values())
    by_prompt = {}
    for case, words in editor.seen:
        by_prompt.setdefault((case.kind, case.prompt), set()).add(words)
    assert all(len(words) > 1 for words in by_prompt.values())


def test_one_contrast_can_be_measured_alone(llama):
    summary = measure_leverage(
        llama, NoiseEditor(), facts() + opinions(), resamples=20, contrasts=["scope"]
    ).summary
    assert set(summary) == {"scope"}
    with pytest.raises(UnknownNameError, match="scope"):
        measure_leverage(llama, NoiseEditor(), facts(), contrasts=["scop"])


def test_leverage_needs_a_case_that_can_show_it(llama):
    with pytest.raises(DataError, match="leverage"):
        measure_leverage(llama, ZeroEditor(), [replace(opinions()[0], positive=())])
