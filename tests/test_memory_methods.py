"""Edits that are no delta: a codebook that spares the rest to the bit, and words in front of a question."""

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cli_run import Run
from evaluation_fakes import NoiseEditor, ZeroEditor, empty_delta, facts, opinions
from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.change import Change, Rewording, reword_prompts
from instructedit.editors.grace import EDGE, GRACE, Codebook
from instructedit.editors.ike import IKE, ROTA, Context, nearest_facts, show, words_of
from instructedit.editors.many import change_many, edit_many
from instructedit.errors import DataError
from instructedit.evaluation import evaluate, generate_greedy, select
from instructedit.evaluation.scoring import score_texts
from instructedit.factors import answer_nll
from tiny_editors import tiny_cases, tiny_opinion
from tiny_models import tiny_backbone

CASES = tiny_cases(3)
WORDS = ("The", "capital", "of", "France", "Italy", "is", "Rome", "a", "city", "people", "What")
own_backbone = cache(tiny_backbone)  # the same as `llama`, for what no fixture reaches
METHOD = GRACE(epsilon=0.01, steps=25, rate=0.3)


@cache
def book() -> Codebook:
    """The three cases edited side by side, once for all tests."""
    return METHOD.edit(own_backbone(), CASES)


@torch.no_grad()
def at_site(
    backbone: Backbone, prompt: str, change: Change
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The codebook's layer on one prompt, its inputs and outputs, and the logits of all tokens."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    hidden = backbone.prefix([backbone.text(prompt)])
    with change.applied_to(backbone):
        module = backbone.modules[book().site]
        hook = module.register_forward_hook(lambda _m, args, out: seen.append((args[0][0], out[0])))
        top = backbone.top(hidden)
        hook.remove()
    return (*seen[0], backbone.logits(top[0]))


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), radius=st.floats(0.01, 8.0))
@example(words=["The", "capital", "of", "France", "is"], radius=0.01)
@example(words=["people"], radius=0.01)
def test_outside_every_radius_nothing_changes_to_the_bit(words: list[str], radius: float) -> None:
    wide = replace(book()[0], radii=torch.full((1, 1), radius))
    keys, own, plain = at_site(own_backbone(), " ".join(words), LowRankDelta({}, {}))
    _, found, edited = at_site(own_backbone(), " ".join(words), wide)
    inside = (keys - wide.keys[0, 0]).norm(dim=-1) <= radius
    assert torch.equal(found[~inside], own[~inside])
    assert torch.equal(found[inside], wide.values[0].expand(int(inside.sum()), -1))
    first = int(inside.int().argmax()) if inside.any() else len(inside)
    torch.testing.assert_close(edited[:first], plain[:first])
    if not inside.any():
        assert torch.equal(edited, plain)
    if words == ["The", "capital", "of", "France", "is"]:
        assert inside.tolist() == [False] * (len(inside) - 1) + [True] or radius > 0.01


def test_a_value_is_learned_that_gives_the_target(llama: Backbone) -> None:
    texts = [llama.text(case.prompt, case.wanted) for case in CASES]
    hidden = llama.prefix(texts)
    with torch.no_grad():
        before = answer_nll(llama, llama.top(hidden), texts)
        with book().applied_to(llama):
            after = answer_nll(llama, llama.top(hidden), texts)
    assert bool((after < 0.5 * before).all())


def test_edits_made_together_are_those_made_alone(llama: Backbone) -> None:
    few = replace(METHOD, steps=4)
    some = few.edit(llama, CASES)
    prompt = llama.prefix([llama.text(CASES[2].prompt), llama.text(CASES[0].prompt)])
    with torch.no_grad(), book().applied_to(llama.model, rows=torch.tensor([2, 0])):
        both = llama.top(prompt)
    for place, edit in enumerate((2, 0)):
        torch.testing.assert_close(
            few.edit(llama, [CASES[edit]]).values[0], some.values[edit], atol=5e-3, rtol=0
        )
        with torch.no_grad(), book()[edit].applied_to(llama.model):
            torch.testing.assert_close(llama.top(prompt[place : place + 1])[0], both[place])


def entry(place: float, label: str, radius: float = 1.0) -> Codebook:
    key = torch.tensor([[[place, 0.0]]])
    return Codebook("layer", key, -key, torch.full((1, 1), radius), ((label,),))


@pytest.mark.parametrize(
    ("place", "label", "radii"),
    [
        (2.5, "a", [1.0, 1.0]),  # far away: a new entry
        (2.5, "b", [1.0, 1.0]),
        (1.5, "a", [1.5]),  # near, the same target: the radius grows
        (0.5, "a", [1.0]),
        (1.5, "b", [0.75 - EDGE, 0.75]),  # near, another target: both reach half-way
        (0.5, "b", [0.25 - EDGE, 0.25]),
    ],
)
def test_keys_that_meet_expand_or_split(place: float, label: str, radii: list[float]) -> None:
    merged = entry(0.0, "a").add(entry(place, label))
    assert merged.radii[0].tolist() == pytest.approx(radii)
    assert merged.keys[0, :, 0].tolist() == [0.0, place][: len(radii)]
    assert torch.equal(merged.values, -merged.keys)
    assert merged.labels == (("a", label)[: len(radii)],)


def test_a_split_reaches_half_way_where_that_is_further_than_before_too() -> None:
    split = entry(0.0, "a", radius=3.0).add(entry(3.0, "b"))
    assert split.radii[0].tolist() == pytest.approx([1.5 - EDGE, 1.5], abs=1e-7)


def test_merged_edits_answer_all_their_prompts(llama: Backbone) -> None:
    merged = book().merge()
    assert (len(merged), merged.keys.shape[1]) == (1, len(CASES))
    for index, case in enumerate(CASES):
        outputs = [at_site(llama, case.prompt, change)[2][-1] for change in (merged, book()[index])]
        torch.testing.assert_close(*outputs)


@pytest.mark.slow
def test_a_codebook_is_evaluated_through_the_same_rows(llama: Backbone) -> None:
    rows = evaluate(llama, METHOD, CASES, instructed=False, generate=True, resamples=0).rows
    told = select(rows, group="reliability")
    assert all(row["edited_log_prob"] > row["base_log_prob"] for row in told)
    assert any(row["edited_text"] != row["base_text"] for row in told)
    for row in select(rows, group="locality"):
        assert (row["edited_kl"], row["edited_unchanged_exact"]) == (0.0, 1.0)


@pytest.mark.slow
def test_edits_in_force_together_are_one_codebook(llama: Backbone) -> None:
    asked = {"instructed": False, "resamples": 0, "groups": ("reliability",)}
    rows = evaluate(llama, METHOD, CASES, together=2, batch=1, **asked).rows
    alone = evaluate(llama, METHOD, CASES, **asked).rows
    for row, other in zip(rows, alone, strict=True):
        assert row["edited_log_prob"] == pytest.approx(other["edited_log_prob"], abs=1e-2)
    assert change_many(METHOD, llama, CASES).keys.shape[:2] == (1, len(CASES))


@pytest.mark.slow
def test_what_is_no_delta_makes_no_adapter_and_a_context_is_for_one_edit(llama: Backbone) -> None:
    with pytest.raises(DataError, match="no adapter together"):
        edit_many(METHOD, llama, CASES)
    with pytest.raises(DataError, match="one edit alone"):
        evaluate(llama, IKE(demonstrations=0), CASES, together=3, resamples=0)


def test_demonstrations_copy_update_and_retain() -> None:
    case = CASES[0]
    shown = nearest_facts(case, 8)
    alike = [
        len(words_of(case.prompt) & words_of(fact.prompt)) / len(words_of(fact.prompt)) ** 0.5
        for fact in shown
    ]
    assert all(after >= before - 1e-9 for before, after in pairwise(alike))
    assert alike[0] > 0
    assert not [fact for fact in shown if fact.subject in case.prompt]
    assert [ROTA.count(kind) for kind in ("copy", "update", "retain")] == [1, 3, 4]
    opening = IKE().edit(own_backbone(), [case]).openings[0]
    parts = opening.split("\n\n")
    assert parts[-1] == f"New Fact: {case.prompt} {case.wanted}\nPrompt: "
    assert [f"{part}\n\n" for part in parts[:-1]] == [show(*pair) for pair in zip(shown, ROTA, strict=True)]
    for fact, kind, part in zip(shown, ROTA, parts, strict=False):
        question = part.split("\nPrompt: ")[1]
        asked = {"copy": [fact.prompt], "update": [p.prompt for p in fact.group("rephrase")]}
        asked["retain"] = [p.prompt for p in fact.group("locality")]
        assert any(question.startswith(prompt) for prompt in asked[kind]), kind
        assert question.endswith(fact.wanted) or kind == "retain"


def test_a_sentiment_is_told_by_its_instruction_alone() -> None:
    method, case = IKE(demonstrations=0), tiny_opinion(0)
    context = method.edit(own_backbone(), [case, case, CASES[0]], ["Love it.", "", "Change it."])
    assert context.reword("Why?", 0) == "New Fact: Love it.\nPrompt: Why?"
    assert context.reword("Why?", 1) == "Why?"
    assert context.reword("Why?", 2) == f"New Fact: {CASES[0].prompt} {CASES[0].wanted}\nPrompt: Why?"


def test_only_a_context_rewords(llama: Backbone) -> None:
    context, delta = Context(("One. ", "Two. ")), empty_delta(llama, 2)
    assert isinstance(context, Rewording)
    assert not isinstance(delta, Rewording)
    assert all(isinstance(change, Change) for change in (context, delta, book()))
    assert reword_prompts(context, ["a", "b", "c"], [1, 0, 1]) == ["Two. a", "One. b", "Two. c"]
    assert reword_prompts(delta, ["a", "b"], [1, 0]) == ["a", "b"]


@pytest.mark.slow
@torch.no_grad()
def test_both_sides_are_compared_at_the_same_answer_tokens(llama: Backbone) -> None:
    cases = facts()[:2]
    context = IKE(demonstrations=0).edit(llama, cases)
    rows = evaluate(llama, IKE(demonstrations=0), cases, instructed=False, resamples=0, generate=True).rows
    plain = evaluate(llama, ZeroEditor(), cases, instructed=False, resamples=0, generate=True).rows
    for row, other in zip(rows, plain, strict=True):
        for name in [name for name in row if name.startswith("base_")]:
            expected = pytest.approx(other[name], abs=1e-5) if isinstance(other[name], float) else other[name]
            assert row[name] == expected, name
        if row["answer"]:
            answer = llama.text(row["prompt"], row["answer"]).targets
            logs = []
            for prompt in (row["prompt"], context.reword(row["prompt"], row["case"])):
                ids = (*llama.text(prompt).ids, *answer)
                logs.append(llama.model(torch.tensor([ids])).logits[0, -len(answer) - 1 : -1].log_softmax(-1))
            base, edited = logs
            assert row["edited_kl"] == pytest.approx(
                float((base.exp() * (base - edited)).sum(-1).mean()), abs=2e-4
            )
            expected = float(edited[range(len(answer)), list(answer)].mean())
            assert row["edited_log_prob"] == pytest.approx(expected, abs=2e-4)
    asked = [context.reword(row["prompt"], row["case"]) for row in select(rows, group="reliability")]
    assert generate_greedy(llama, asked) == [row["edited_text"] for row in select(rows, group="reliability")]


def test_only_what_is_reworded_costs_a_second_prefix(
    llama: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, encoded = facts()[:1] + opinions()[:1], []
    encode = llama.encode
    monkeypatch.setattr(llama, "encode", lambda texts: encoded.append(len(texts)) or encode(texts))
    texts = [llama.text("Rome is a", "city"), llama.text("Rome is", "a")]
    score_texts(llama, NoiseEditor().edit(llama, cases), texts, [0, 1])
    assert encoded == [2]
    score_texts(
        llama, Context(("", "")), texts, [0, 1], reworded=[llama.text("So Rome is a", "city"), texts[1]]
    )
    assert encoded == [2, 3]  # both as they are, and the one that is reworded


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.jsonl"
    record = {"prompt": "The capital of France is", "target_new": "Rome", "subject": "France"}
    path.write_text(json.dumps(record) + "\n")
    return path


def test_evaluate_takes_a_method_and_its_settings(cli: Run, folder: Path, records: Path) -> None:
    arguments = ("evaluate", "--data", records, "--model", folder, "--start", "none", "--json", "--editor")
    code, text, _ = cli(*arguments, "ike", "--setting", "demonstrations=0")
    assert code == 0
    scores = json.loads(text)["tasks"]["plain"]["reliability"]["bare"]["log_prob"]
    assert scores["edited"]["mean"] != scores["base"]["mean"]
    assert cli(*arguments, "ike", "--setting", "demonstration=0").code == 7
    assert cli(*arguments, "grace", "--setting", "steps=many").code == 3
    assert cli(*arguments, "grace", "--setting", "steps").code == 3
    assert cli(*arguments, "default", "--setting", "steps=3").code == 7
    refused = cli(*arguments, "graze")
    assert refused.code == 7
    assert "'grace'" in refused.err


def test_ls_lists_methods(cli: Run) -> None:
    rows = {row["method"]: row for row in json.loads(cli("ls", "methods", "--json").out)}
    assert rows["grace"]["result"] == "codebook"
    assert rows["grace"]["where"] == "1 block at 75% of the depth"
    assert (rows["ike"]["result"], rows["ike"]["where"]) == ("context", "in front of the question")
    assert all("arXiv" in row["paper"] for row in rows.values())
