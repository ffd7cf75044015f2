"""Making instructions: the loop, its trace and resumption, the trial, the bank, and the command."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

from chat_stand_in import StandIn, listing, say, stand_in, tiny_chat
from cli_run import PatientEditor
from instructedit.backbone import Backbone
from instructedit.errors import DataError, ModelError, OutputError
from instructedit.evaluation import evaluate, select
from instructedit.making import (
    Examiner,
    Making,
    MakingConfig,
    Retraining,
    Score,
    keep_editor,
    open_trace,
    prepare_cases,
    split_records,
)
from instructedit.making.choosing import one_task_bank
from instructedit.making.server import ChatServer
from instructedit.making.trace import TRACE
from instructedit.training.config import named_config
from tiny_editors import CONFIG, tiny_cases, tiny_opinion

WORDINGS = (
    "Change it.",
    "Put another answer in its place.",
    "This fact is no longer so.",
    "Overwrite what was learned.",
    "Kindly exchange the ending.",
    "A correction of memory.",
    "Swap them, please.",
)
SMALL = MakingConfig(candidates=3, shown=2, cases=2, rounds=9, patience=2)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with stand_in() as told:
        yield told


class Judge(Examiner):
    """Gives every description the value it has in `values`, and remembers the order."""

    values: Mapping[str, float]
    seen: list[str]

    def score(self, editor, bank, split="train", control="right") -> Score:
        (text,) = bank.wordings["train"]
        self.seen.append(text)
        if self.values.get(text, 0.5) < 0:
            raise KeyboardInterrupt
        return Score(self.values.get(text, 0.5), 0.5, None, 0.0)


def judge(backbone: Backbone, of: tuple[float, ...]) -> Judge:
    """The judge whose values are those `of` the first wordings."""
    made = Judge(backbone, tiny_cases(2))
    object.__setattr__(made, "values", dict(zip(WORDINGS, of, strict=False)))
    object.__setattr__(made, "seen", [])
    return made


def making(server: StandIn, examiner: Examiner, folder: Path, config: MakingConfig = SMALL) -> Making:
    records = split_records(prepare_cases(tiny_cases(), "counterfact", "change"), config)
    trace = open_trace(folder, {"task": "counterfact", **config.lasting()})
    writer = ChatServer(server.url, "m", pause=0.0)
    trial = keep_editor(PatientEditor(0))
    return Making("counterfact", "change", config, records, writer, examiner, trial, trace)


def test_scores_go_back_to_the_writer_until_they_stop_rising(
    llama: Backbone, server: StandIn, tmp_path: Path
) -> None:
    server.play(
        listing(*WORDINGS[:2]), listing(*WORDINGS[2:4]), listing(*WORDINGS[4:5]), listing(*WORDINGS[5:])
    )
    bank = making(server, judge(llama, of=(0.5, 0.25, 0.75, 0.5, 0.75, 0.0, 0.0)), tmp_path).finish()
    first, second, third, fourth = server.asked()  # the second is the best
    assert "score" not in first
    assert second.index(f"{WORDINGS[1]} (score 25.0)") < second.index(f"{WORDINGS[0]} (score 50.0)")
    assert f"{WORDINGS[2]} (score 75.0)" in third
    assert all(text in fourth for text in WORDINGS[:5])
    used = [*bank.wordings["train"], *bank.wordings["unseen"]]
    assert sorted(used) == sorted(WORDINGS)
    assert used[0] == WORDINGS[2]
    lines = [json.loads(line) for line in (tmp_path / TRACE).read_text().splitlines()]
    assert [line["number"] for line in lines[1:]] == [1, 2, 3, 4]
    assert lines[1]["attempts"][0]["answer"].startswith("Sure! Here")
    assert lines[1]["attempts"][0]["messages"][0]["content"] == first
    assert lines[2]["scores"][WORDINGS[2]]["value"] == 0.75


def test_rounds_end_it_too(llama: Backbone, server: StandIn, tmp_path: Path) -> None:
    server.play(listing(*WORDINGS[:3]))
    made = making(server, judge(llama, of=(0.1, 0.2, 0.3)), tmp_path, replace(SMALL, rounds=1))
    assert made.finish().wordings["train"][0] == WORDINGS[2]
    assert len(server.bodies) == 1


def test_an_interrupted_making_goes_on_where_it_was(llama: Backbone, server: StandIn, tmp_path: Path) -> None:
    server.play(listing(*WORDINGS[:3]))
    config = replace(SMALL, rounds=1)
    with pytest.raises(KeyboardInterrupt):
        making(server, judge(llama, of=(0.5, -1.0, 0.2)), tmp_path, config).finish()
    again = judge(llama, of=(0.5, 0.9, 0.2))
    bank = making(server, again, tmp_path, config).finish()
    assert again.seen == list(WORDINGS[1:3])  # what was scored stays so
    assert len(server.bodies) == 1  # and so does what was written
    assert bank.wordings["train"][0] == WORDINGS[1]
    done = judge(llama, of=())
    making(server, done, tmp_path, config).finish()
    assert done.seen == []


def test_another_making_is_not_continued(llama: Backbone, server: StandIn, tmp_path: Path) -> None:
    server.play(listing(*WORDINGS[:3]))
    making(server, judge(llama, of=(0.5, 0.1, 0.2)), tmp_path, replace(SMALL, rounds=1)).finish()
    with pytest.raises(DataError, match=r"other settings \(shown\)"):
        making(server, judge(llama, of=()), tmp_path, replace(SMALL, shown=1))
    (tmp_path / TRACE).write_text("{broken")
    with pytest.raises(DataError, match="remove it"):
        making(server, judge(llama, of=()), tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="no trace"):
        open_trace(tmp_path / "other", {})


def test_a_writer_of_nothing_usable_is_one_error(llama: Backbone, server: StandIn, tmp_path: Path) -> None:
    subject = making(server, judge(llama, of=()), tmp_path).records.shown[0].subject
    server.play(say(""), say(f"- Change what is said of {subject}."), say("No"), listing(*WORDINGS[:3]))
    made = making(server, judge(llama, of=(0.1, 0.1, 0.2)), tmp_path, replace(SMALL, rounds=1))
    with pytest.raises(ModelError, match="m wrote nothing usable in 3 attempts of round 1: 1 words"):
        made.finish()
    attempts = json.loads((tmp_path / TRACE).read_text().splitlines()[1])["attempts"]
    assert [part["answer"] for part in attempts] == ["", f"- Change what is said of {subject}.", "No"]
    assert [part["refused"] for part in attempts][1][0]["reason"] == f"repeats {subject!r} from a record"
    assert "it was empty" in server.asked()[1]
    again = making(server, judge(llama, of=(0.1, 0.1, 0.2)), tmp_path, replace(SMALL, rounds=1))
    again.finish()
    assert len({body["seed"] for body in server.bodies}) == 4


@pytest.mark.slow
def test_a_local_model_writes_what_it_would_write_again(
    llama: Backbone, server: StandIn, tmp_path: Path
) -> None:
    config, local = replace(SMALL, rounds=1), tiny_chat()
    made = replace(making(server, judge(llama, of=()), tmp_path, config), writer=local)
    with suppress(ModelError, DataError):  # a model of noise may write nothing usable
        made.finish()
    (first, *_rest) = json.loads((tmp_path / TRACE).read_text().split("\n")[1])["attempts"]
    assert first["answer"] == local.reply(first["messages"], first["seed"])
    assert server.bodies == []


def test_records_are_shared_out_without_a_common_subject() -> None:
    cases = prepare_cases([*tiny_cases(), tiny_opinion(0)], "counterfact", "change")
    records = split_records(cases, SMALL)
    parts = [{case.subject for case in part} for part in (records.rest, records.validation, records.check)]
    assert all(parts)
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert {case.subject for case in records.shown} <= parts[0]
    assert len(records.shown) == 2
    with pytest.raises(DataError, match="four subjects"):
        split_records(cases[:2], SMALL)
    with pytest.raises(DataError, match="erase"):
        prepare_cases(cases, "erase", "erase")
    with pytest.raises(DataError, match="patience is 0"):
        MakingConfig(patience=0)


def test_the_writer_is_shown_edits_that_change_something() -> None:
    cases = prepare_cases(tiny_cases(), "counterfact", "change")
    rest = split_records(cases, SMALL).rest
    telling = rest[0]
    same = [case if case is telling else replace(case, ground_truth=case.target_new) for case in cases]
    assert split_records(same, replace(SMALL, shown=9)).shown == [telling]
    nothing = [replace(case, ground_truth=case.target_new) for case in cases]
    assert len(split_records(nothing, SMALL).shown) == 2


class Listener(PatientEditor):
    """An editor that changes nothing and remembers what it was told."""

    def __init__(self, steps: int = 0) -> None:
        super().__init__(steps)
        self.told: list[str] = []

    def edit(self, backbone, cases, instructions=None):
        self.told += instructions or []
        return super().edit(backbone, cases, instructions)


def test_the_trial_is_told_the_description_and_scored_on_bare_prompts(llama: Backbone) -> None:
    examiner = Examiner(llama, prepare_cases(tiny_cases(2), "counterfact", "change"), batch=2)
    bank, listener = one_task_bank("counterfact", "change", ("Change it now.",)), Listener()
    nothing = examiner.score(listener, bank)
    assert all(text.startswith("Change it now") for text in listener.told)
    assert all(text != "Change it now." for text in listener.told)  # its reach is told as well
    taken = examiner.score(PatientEditor(3), bank)
    assert taken.value == (taken.reliability + taken.rephrase) / 2
    assert taken.finer > nothing.finer
    listener.told.clear()
    examiner.score(listener, bank, control="none")
    assert listener.told == ["", ""]


def test_opinions_are_scored_by_the_replies_that_win(llama: Backbone) -> None:
    cases = prepare_cases([tiny_opinion(0), tiny_opinion(1)], "convsent", "sentiment")
    bank, listener = one_task_bank("convsent", "sentiment", ("Be {sentiment} on {subject}.",)), Listener()
    score = Examiner(llama, cases, batch=2).score(listener, bank)
    rows = evaluate(llama, Listener(), cases, instructed=False, resamples=0).rows
    assert score.reliability == fmean(row["edited_win_rate"] for row in select(rows, group="reliability"))
    assert score.reliability > 0
    assert any("on France" in text for text in listener.told)
    assert not any("{" in text for text in listener.told)


@pytest.mark.slow
def test_retraining_gives_an_editor_for_every_round(llama: Backbone, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=2, validate_every=2, validation_cases=2, moments=4)
    cases = prepare_cases(tiny_cases(), "counterfact", "change")
    bank = one_task_bank("counterfact", "change", ("Change it now.",))
    trial = Retraining(llama, cases, config, tmp_path)
    first = trial(1, bank)
    assert trial(1, bank) is first
    header = (tmp_path / "editor-1" / "metrics.jsonl").read_bytes()
    again = Retraining(llama, cases, config, tmp_path)(1, bank)
    assert (tmp_path / "editor-1" / "metrics.jsonl").read_bytes() == header
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.slow
def test_what_is_retrained_is_what_edits(llama: Backbone, tmp_path: Path) -> None:
    config = replace(named_config("instructedit"), steps=2, validate_every=2, validation_cases=2, moments=4)
    config = replace(config, sites=None, blocks=1)
    assert config.editor.gate.wordings > 0
    bank = one_task_bank("counterfact", "change", ("Change it now.",))
    editor = Retraining(llama, prepare_cases(tiny_cases(), "counterfact", "change"), config, tmp_path)(
        1, bank
    )
    assert (editor.config.gate.wordings, editor.config.polish.steps) == (0, 0)
    assert not editor.config.polish.scoped
