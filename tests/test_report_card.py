"""The model card, the facts beside it, and the command `card`."""

import json
from pathlib import Path

import pytest
import yaml

from cli_run import Run
from instructedit.errors import DataError, UnknownNameError
from instructedit.report import (
    CardFacts,
    format_tables,
    make_card,
    read_evaluations,
    read_facts,
    read_levers,
    read_scores,
)
from instructedit.storage import save_tensors
from report_summaries import HEADER, write_summaries


@pytest.fixture
def summaries(tmp_path: Path) -> list[Path]:
    return write_summaries(tmp_path)


@pytest.fixture
def editor(tmp_path: Path) -> Path:
    import torch

    path = tmp_path / "editor.safetensors"
    save_tensors(path, {"x": torch.zeros(1)}, {"instructedit": json.dumps(HEADER)})
    return path


def test_a_card_has_a_front_matter_and_says_what_it_was_made_of(summaries: list[Path]) -> None:
    evaluations = read_evaluations(summaries)
    facts = CardFacts(
        command="instructedit train --own", seconds=600.0, licences={"counterfact.jsonl": "MIT"}
    )
    card = make_card(HEADER, read_scores(evaluations), read_levers(evaluations), facts)
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "apache-2.0"
    assert yaml.safe_load(front)["base_model_sha256"] == "ab" * 32
    for said in ("`instructedit train --own`", "10 minutes", "900 of 1000", "81.2", "counterfact (1,400)"):
        assert said in body
    assert f"| counterfact.jsonl | MIT | `{'cd' * 32}` |" in body
    assert "portability: 62.3 % on counterfact" in body
    assert "$" not in body
    assert format_tables(read_scores(evaluations), read_levers(evaluations), HEADER["tasks"]) in body


def test_a_card_says_what_was_taught_after_the_steps() -> None:
    taught = {
        "stance": {"config": {"steps": 200}, "topics": 20, "seed": 1},
        "told": {"seed": 2, "validation": {"narrow": 2 / 3, "wide": 1.0}},
    }
    card = make_card({**HEADER, **taught}, [], [], CardFacts())
    assert "| Opinions | 200 steps on 20 topics, seed 1 |" in card
    assert "seed 2; of unseen ones are read right: narrow 67 %, wide 100 %" in card
    assert "| Reading |" not in make_card(HEADER, [], [], CardFacts())


def test_what_the_header_does_not_know_is_said_to_be_unknown() -> None:
    bare = {key: HEADER[key] for key in ("format", "model", "start_ids", "sites", "editor")}
    card = make_card(bare, [], [], CardFacts())
    assert "not recorded" in card
    assert "No scores were given." in card


def test_facts_of_a_file_win_over_the_header(tmp_path: Path) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text("command: mine\nlicences: {b.jsonl: MIT}\n")
    facts = read_facts(path, {"command": "theirs", "seconds": 60, "licences": {"a.jsonl": "CC0"}})
    assert (facts.command, facts.seconds) == ("mine", 60)
    assert facts.licences == {"a.jsonl": "CC0", "b.jsonl": "MIT"}


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("comand: mine", UnknownNameError, "Did you mean 'command'"),
        ("- command", DataError, "holds no facts"),
        ("seconds: long", DataError, "a number"),
        ("licences: MIT", DataError, "no mapping"),
    ],
)
def test_wrong_facts_are_refused(tmp_path: Path, text: str, error: type[Exception], said: str) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text(text)
    with pytest.raises(error, match=said):
        read_facts(path, {})


def test_the_command_prints_the_table_and_the_card(cli: Run, editor: Path, summaries: list[Path]) -> None:
    code, out, _ = cli("card", editor, *summaries)
    assert code == 0
    assert "| counterfact | 40 | **93.4** (2.5) 91.2–95.1 |" in out  # a long row stays one line
    assert "license: apache-2.0" in out


def test_the_command_writes_the_card_once(
    cli: Run, editor: Path, summaries: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "cards" / "README.md"
    assert cli("card", editor, *summaries, "--out", out, "--dry-run").code == 0
    assert not out.exists()
    assert cli("card", editor, *summaries, "--out", out).code == 0
    assert out.read_text().startswith("---\nlicense:")
    assert cli("card", editor, *summaries, "--out", out).code == 6
    assert cli("card", editor, *summaries, "--out", out, "--force").code == 0


def test_a_missed_bar_is_exit_code_8(cli: Run, editor: Path, summaries: list[Path], tmp_path: Path) -> None:
    bars = tmp_path / "bars.yaml"
    bars.write_text("counterfact: {reliability: 93, locality: 99}")
    code, out, err = cli("card", editor, *summaries, "--require", bars, "--json")
    assert code == 8
    assert "counterfact locality 86.1, wanted 99" in err
    assert [bar["holds"] for bar in json.loads(out)["bars"]] == [True, False]
    bars.write_text("counterfact: {reliability: 93}")
    assert cli("card", editor, *summaries, "--require", bars).code == 0


def test_wrong_files_have_their_exit_codes(
    cli: Run, editor: Path, summaries: list[Path], tmp_path: Path
) -> None:
    assert cli("card", editor).code == 3
    assert cli("card", editor, tmp_path / "nowhere.json").code == 3
    assert cli("card", tmp_path / "nowhere.safetensors", *summaries).code == 5
    assert cli("card", "defualt", *summaries).code == 7
