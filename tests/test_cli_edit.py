"""`instructedit edit` on tiny models: what it asks, shows, writes, and how it fails."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cli_run import PatientEditor, Run, use_editor
from tiny_editors import tiny_editor
from tiny_models import tiny_backbone

pytestmark = pytest.mark.slow

PROMPT, TARGET = "The capital of France is", "Rome"


@pytest.fixture
def cli(cli: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    use_editor(monkeypatch, PatientEditor())
    return cli


def edit(cli: Run, folder: Path, *arguments: object):
    return cli("edit", *arguments, "--model", folder, "--start", "none")


def test_an_edit_takes_is_shown_and_kept(cli: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "lora"
    arguments = (
        PROMPT,
        TARGET,
        "--neighbour",
        "The capital of Spain is",
        "--rephrase",
        "France has the capital",
    )
    code, text, _ = edit(cli, folder, *arguments, "--out", out)
    assert code == 0
    assert TARGET in text
    assert all(word in text for word in ("prompt", "instructed", "rephrase", "neighbour"))
    assert {"adapter_config.json", "adapter_model.safetensors", "instructedit.json"} <= {
        p.name for p in out.iterdir()
    }
    cost = json.loads((out / "instructedit.json").read_text())["rank_cut_difference"]
    assert ("ranks were cut" in text) == (cost > 0)
    kept = json.loads((out / "instructedit.json").read_text())["edits"]
    assert (kept[0]["prompt"], kept[0]["target_new"]) == (PROMPT, TARGET)
    assert kept[0]["instruction"]


def test_json_holds_every_reading(cli: Run, folder: Path) -> None:
    code, text, _ = edit(cli, folder, PROMPT, TARGET, "--json", "--instruction", "Set this fact.")
    assert code == 0
    result = json.loads(text)
    assert result["took"]
    assert result["folders"] == []
    assert result["edits"][0]["instruction"] == "Set this fact."
    bare = result["edits"][0]["readings"][0]
    assert bare["group"] == "prompt"
    assert bare["after"].startswith(TARGET)
    assert bare["probability_before"] < 0.5 < bare["probability_after"]
    asked = {reading["group"]: reading["reads"] for reading in result["edits"][0]["readings"]}
    assert "Set this fact." in asked["instructed"]
    assert asked["rephrase"] != PROMPT


def test_an_edit_that_does_not_take_is_exit_code_8_and_still_kept(
    cli: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    use_editor(monkeypatch, PatientEditor(steps=0))
    out = tmp_path / "lora"
    code, text, err = edit(cli, folder, PROMPT, TARGET, "--out", out, "--json")
    assert code == 8
    assert PROMPT in err
    assert json.loads(text)["took"] is False
    assert (out / "adapter_model.safetensors").is_file()


def write_edits(path: Path, count: int = 2) -> Path:
    names = ["France", "Italy", "Spain", "England", "Rome", "Paris", "Madrid"][:count]
    records = [{"prompt": f"The writer of {name} is", "target_new": "London"} for name in names]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_file_in_single_mode_keeps_one_folder_an_edit(cli: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "many"
    edits = write_edits(tmp_path / "edits.jsonl")
    code, text, _ = edit(cli, folder, "--file", edits, "--mode", "single", "--out", out, "--json")
    assert code == 0
    assert json.loads(text)["folders"] == [str(out / "0001"), str(out / "0002")]
    assert all((out / name / "adapter_config.json").is_file() for name in ("0001", "0002"))


def test_a_file_in_batch_mode_is_one_folder_with_all_edits(cli: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "many"
    edits = write_edits(tmp_path / "edits.jsonl", 7)
    code, text, _ = edit(cli, folder, "--file", edits, "--out", out, "--limit", 6)
    assert code in (0, 8)
    assert "of 6 edits took" in text
    assert len(json.loads((out / "instructedit.json").read_text())["edits"]) == 6


def test_a_kind_that_the_edits_of_a_file_cannot_be_of_is_refused(cli: Run, tmp_path: Path) -> None:
    facts, opinions = write_edits(tmp_path / "facts.jsonl"), tmp_path / "opinions.jsonl"
    opinions.write_text(json.dumps({"ent": "Rome", "pos": ["Rome is good."], "neg": ["Rome is bad."]}) + "\n")
    for file, kind, said in ((facts, "sentiment", "has no sentiment"), (opinions, "change", "has no answer")):
        result = cli("edit", "--file", file, "--kind", kind, "--dry-run")
        assert result.code == 3
        assert f"--kind {kind} was given and edit 1 of" in result.err
        assert said in result.err
    assert cli("edit", "--file", facts, "--kind", "insert", "--dry-run").code == 0


def test_edits_that_failed_are_listed(
    cli: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    use_editor(monkeypatch, PatientEditor(steps=0))
    code, _, err = edit(cli, folder, "--file", write_edits(tmp_path / "edits.jsonl"))
    assert code == 8
    assert "2 of 2 edits did not take" in err
    assert "The writer of Italy is" in err


@pytest.mark.parametrize("sentiment", ["positive", "negative"])
def test_an_edit_of_sentiment_needs_no_target(cli: Run, folder: Path, sentiment: str) -> None:
    arguments = ("--kind", "sentiment", "--subject", "Rome", "--sentiment", sentiment)
    code, text, _ = edit(cli, folder, *arguments, "--json")
    result = json.loads(text)["edits"][0]
    assert code in (0, 8)
    assert result["took"] == (code == 0) == (result["readings"][0]["probability_after"] > 0.5)
    assert 0 <= result["readings"][0]["probability_before"] <= 1


def test_erase_wants_the_old_answer_gone(cli: Run, folder: Path) -> None:
    code, text, _ = edit(cli, folder, PROMPT, "Paris", "--kind", "erase", "--json")
    assert code == 0
    bare = json.loads(text)["edits"][0]["readings"][0]
    assert bare["target"] == "unknown"
    assert bare["after"].startswith("unknown")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 3, "no prompt"),
        ((PROMPT,), 3, "no target"),
        ((PROMPT, ""), 3, "target"),
        ((PROMPT, " \t"), 3, "target"),
        ((" ", TARGET), 3, "prompt"),
        ((PROMPT, TARGET, "--kind", "sentiment"), 3, "--subject"),
        ((PROMPT, TARGET, "--file", "x.jsonl"), 3, "both"),
        (("--file", "x.jsonl"), 3, "x.jsonl"),
        ((PROMPT, TARGET, "--task", "counterfacts"), 7, "Did you mean 'counterfact'?"),
        (("word " * 400, TARGET), 3, "context"),
        ((PROMPT, TARGET, "--model", "./nowhere"), 4, "nowhere"),
        ((PROMPT, TARGET, "--sites", "nonsense"), 4, "nonsense"),
    ],
)
def test_bad_input_is_one_clear_error(
    cli: Run, folder: Path, tmp_path: Path, arguments: tuple, code: int, said: str
) -> None:
    out = tmp_path / "lora"
    model = () if "--model" in arguments else ("--model", folder)
    result = cli("edit", *arguments, *model, "--start", "none", "--out", out)
    assert result.code == code
    assert said in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    ['{"prompt": "a"', '"text"', '{"prompt": "a"}', '{"prompt": "a", "target_new": ""}', "\xff\xfe"],
)
def test_wrong_json_names_file_and_place(cli: Run, tmp_path: Path, content: str) -> None:
    path = tmp_path / "edits.jsonl"
    path.write_bytes(content.encode("latin-1"))
    result = cli("edit", "--file", path)
    assert result.code == 3
    assert "edits.jsonl" in result.err


def test_an_unreadable_file_is_an_error(cli: Run, tmp_path: Path) -> None:
    assert cli("edit", "--file", tmp_path).code == 3


def test_a_folder_that_exists_is_left_alone(cli: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "lora"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    code, _, err = edit(cli, folder, PROMPT, TARGET, "--out", out)
    assert code == 6
    assert "--force" in err
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert edit(cli, folder, PROMPT, TARGET, "--out", out, "--force").code == 6  # it is nobody's result
    (out / "instructedit.json").write_text('{"version": "1", "base_checksum": "c", "edits": []}')
    (out / "README.md").touch()
    assert edit(cli, folder, PROMPT, TARGET, "--out", out, "--force").code == 0
    assert not (out / "mine.txt").exists()


def test_a_full_disk_leaves_nothing_behind(
    cli: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("instructedit.storage.os.fsync", full)
    code, text, err = edit(cli, folder, PROMPT, TARGET, "--out", tmp_path / "lora")
    assert code == 6
    assert "No space left on device" in err
    assert f"Took: {PROMPT} -> {TARGET}" in text  # what was made is shown all the same
    assert "Read as: change, wide scope (what follows from it changes too)" in text
    result = json.loads(edit(cli, folder, PROMPT, TARGET, "--out", tmp_path / "lora", "--json").out)
    assert (result["took"], result["folders"]) == (True, [])
    assert "No space left on device" in result["not_kept"]
    assert list(tmp_path.iterdir()) == []


def test_polish_sets_the_steps_of_a_trained_editor(
    cli: Run, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    editor = tiny_editor(tiny_backbone())
    use_editor(monkeypatch, editor)
    for steps in (2, 0):
        code, _, _ = edit(cli, folder, PROMPT, TARGET, "--polish", steps)
        assert code in (0, 8)
        assert editor.config.polish.steps == editor.texts.config.polish.steps == steps
    code, _, err = edit(cli, folder, PROMPT, TARGET, "--polish", -3)
    assert code == 3
    assert "-3 steps" in err


def test_settings_of_a_trained_editor_are_set(
    cli: Run, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    editor = tiny_editor(tiny_backbone())
    use_editor(monkeypatch, editor)
    told = ("--setting", "mend.steps=3", "--setting", "mend.rate=1e-3", "--setting", "text=own.txt")
    assert edit(cli, folder, PROMPT, TARGET, *told).code in (0, 8)
    assert (editor.config.mend.steps, editor.config.mend.rate, editor.config.text) == (3, 1e-3, "own.txt")
    assert editor.config.mend.keep == tiny_editor(tiny_backbone()).config.mend.keep
    code, _, err = edit(cli, folder, PROMPT, TARGET, "--setting", "mend.stepps=3")
    assert (code, "Did you mean 'mend.steps'" in err) == (7, True)


def test_a_method_cannot_be_polished(cli: Run, folder: Path) -> None:
    code, _, err = edit(cli, folder, PROMPT, TARGET, "--polish", 4)
    assert code == 3
    assert "patient" in err
    assert len(err.strip().splitlines()) == 1


def test_edits_of_one_adapter_do_not_contradict_each_other(cli: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "edits.jsonl"
    records = [{"prompt": PROMPT, "target_new": target} for target in (TARGET, "London", TARGET)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    code, _, err = edit(cli, folder, "--file", file, "--dry-run")
    assert code == 3
    assert "'London' contradicts" in err
    code, text, _ = edit(cli, folder, "--file", file, "--on-conflict", "replace", "--json")
    assert code == 0
    assert [made["target"] for made in json.loads(text)["edits"]] == [TARGET]
    code, text, _ = edit(cli, folder, "--file", file, "--mode", "single", "--dry-run", "--json")
    assert len(json.loads(text)["edits"]) == 3


def test_words_alone_can_ask_for_an_erasure(cli: Run, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    editor = PatientEditor()
    editor.told = lambda _, cases, words: [
        replace(case, kind="erase") if words[place] else case for place, case in enumerate(cases)
    ]
    use_editor(monkeypatch, editor)
    code, text, _ = edit(cli, folder, PROMPT, TARGET, "--instruction", "Forget it.", "--json")
    (made,) = json.loads(text)["edits"]
    assert made["kind"] == "erase"
    assert made["readings"][0]["after"].startswith("unknown") == (code == 0)


def test_every_wording_and_neighbour_that_is_named_is_asked(cli: Run, folder: Path) -> None:
    named = [f"The capital of {land} is" for land in ("Spain", "Italy", "England", "Peru", "Oman")]
    options = [part for text in named for part in ("--neighbour", text, "--rephrase", text)]
    _, text, _ = edit(cli, folder, PROMPT, TARGET, "--json", *options)
    asked = [(r["group"], r["prompt"]) for r in json.loads(text)["edits"][0]["readings"]]
    for group in ("neighbour", "rephrase"):
        assert [prompt for found, prompt in asked if found == group] == named
