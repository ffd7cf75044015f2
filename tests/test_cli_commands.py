"""`model`, `ls`, `data make`, `export` and `evaluate` on tiny models."""

import json
from pathlib import Path

import pytest
import torch

from cli_run import PatientEditor, Run, use_editor
from instructedit.data import load_cases
from instructedit.delta import LowRankDelta
from instructedit.editors.registry import METHODS
from instructedit.training.config import config_names
from tiny_models import tiny_backbone

pytestmark = pytest.mark.slow

PROMPT, TARGET = "The capital of France is", "Rome"
RECORDS = [
    {
        "prompt": f"The capital of {land} is",
        "target_new": "Rome",
        "subject": land,
        "rephrase_prompt": f"{land} has the capital",
        "locality": {"neighbour": [{"prompt": "The capital of Spain is", "ground_truth": "Madrid"}]},
        "portability": {
            "hop": [{"prompt": f"People in the capital of {land} speak", "ground_truth": "French"}]
        },
    }
    for land in ("France", "England")
]


@pytest.fixture
def cli(cli: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    use_editor(monkeypatch, PatientEditor())
    return cli


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "facts" / "records.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path


def test_model_shows_what_an_edit_would_touch(cli: Run, folder: Path) -> None:
    code, out, _ = cli("model", folder, "--blocks", 2, "--json")
    assert code == 0
    data = json.loads(out)
    assert data["blocks"] == 4
    assert data["hidden"] == 32
    assert len(data["sites"]) == 6
    assert {site["name"].split(".")[2] for site in data["sites"]} == {"2", "3"}
    assert len(data["checksum"]) == 64
    assert data["start"] == min(data["start_losses"], key=data["start_losses"].get)
    text = cli("model", folder).out
    assert "down_proj" in text
    assert data["checksum"][:20] in text


def test_model_dry_run_loads_nothing(cli: Run) -> None:
    assert cli("model", "no/such-model", "--dry-run").code == 0


def test_a_model_that_is_not_there_is_exit_code_4(cli: Run, tmp_path: Path) -> None:
    code, out, err = cli("model", tmp_path / "nowhere")
    assert (code, out) == (4, "")
    assert "nowhere" in err


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("models", "default"),
        ("editors", "default"),
        ("tasks", "counterfact"),
        ("configs", "paper"),
        ("configs", "instructedit"),
        ("instructions", "zsre"),
    ],
)
def test_ls_lists_names(cli: Run, what: str, name: str) -> None:
    code, out, _ = cli("ls", what, "--json")
    assert code == 0
    assert name in {next(iter(row.values())) for row in json.loads(out)}
    assert name in cli("ls", what).out


def test_ls_editors_lists_whatever_makes_edits(cli: Run) -> None:
    """With its paper, whether it has to be trained first, and what its result is."""
    rows = {row["editor"]: row for row in json.loads(cli("ls", "editors", "--json").out)}
    assert {"default", *config_names(), *METHODS} == rows.keys()
    told = {n: (row["paper"][-10:], row["needs training"], row["result"]) for n, row in rows.items()}
    assert told["ke"] == ("2104.08164", True, "delta")
    assert told["mend"] == ("2110.11309", True, "delta")
    assert told["malmen"] == ("2311.04661", True, "delta")
    assert told["paper"] == told["instructedit"] == ("2402.16123", True, "delta")
    assert told["default"] == ("2402.16123", False, "delta")
    assert told["grace"] == ("2211.11031", False, "codebook")
    assert told["ike"] == ("2305.12740", False, "context")


def test_data_make_writes_edits_that_are_read_back(cli: Run, tmp_path: Path) -> None:
    out = tmp_path / "facts.jsonl"
    assert cli("data", "make", "--out", out, "--limit", 20, "--split", "test").code == 0
    cases = load_cases(out)
    assert len(cases) == 20
    assert all(case.prompt and case.probes for case in cases)
    assert cli("data", "make", "--out", out).code == 6
    assert cli("data", "make", "--out", tmp_path / "dry.jsonl", "--dry-run").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["facts.jsonl"]


def make_lora(cli: Run, folder: Path, out: Path) -> Path:
    assert cli("edit", PROMPT, TARGET, "--model", folder, "--start", "none", "--out", out).code == 0
    return out


@pytest.mark.parametrize("to", ["lora", "merged"])
def test_export_of_a_lora_folder_answers_as_edited(cli: Run, folder: Path, tmp_path: Path, to: str) -> None:
    from instructedit.backbone.loading import load_backbone

    lora = make_lora(cli, folder, tmp_path / "lora")
    out = tmp_path / "out"
    code, text, _ = cli("export", lora, "--to", to, "--out", out, "--start", "none", "--json")
    assert code == 0
    assert json.loads(text)["logit_difference"] < 1e-3
    if to == "merged":
        merged = load_backbone(str(out), start="none")
        row = merged.text(PROMPT, TARGET)
        logits = merged.model(input_ids=torch.tensor([row.ids])).logits[0, list(row.positions)]
        assert logits.argmax(-1).tolist() == list(row.targets)


def test_export_of_a_delta_file(cli: Run, folder: Path, tmp_path: Path) -> None:
    backbone = tiny_backbone()
    site = backbone.sites[0]
    delta = LowRankDelta(
        {site.name: torch.ones(1, 1, site.d_in)}, {site.name: torch.ones(1, site.d_out, 1) / 100}
    )
    delta.save(tmp_path / "delta.safetensors")
    arguments = ("export", tmp_path / "delta.safetensors", "--model", folder, "--out", tmp_path / "out")
    assert cli(*arguments, "--dry-run").code == 0
    assert not (tmp_path / "out").exists()
    assert cli(*arguments).code == 0
    assert (tmp_path / "out" / "adapter_config.json").is_file()
    assert cli(*arguments).code == 6


@pytest.mark.parametrize("spoil", ["missing", "config", "weights", "half"])
def test_a_broken_lora_folder_is_exit_code_3(cli: Run, folder: Path, tmp_path: Path, spoil: str) -> None:
    from safetensors.torch import load_file, save_file

    lora = tmp_path / "lora"
    if spoil != "missing":
        make_lora(cli, folder, lora)
        weights = lora / "adapter_model.safetensors"
        if spoil == "config":
            (lora / "adapter_config.json").write_text("{")
        elif spoil == "weights":
            weights.write_bytes(weights.read_bytes()[:100])
        else:
            save_file(dict(list(load_file(weights).items())[1:]), weights)
    code, _, err = cli("export", lora, "--out", tmp_path / "out")
    assert code == 3
    assert "lora" in err
    assert not (tmp_path / "out").exists()


def test_evaluate_writes_rows_and_summary(cli: Run, folder: Path, records: Path, tmp_path: Path) -> None:
    from instructedit.evaluation import read_rows

    out = tmp_path / "result"
    arguments = ("--data", records.parent, "--model", folder, "--start", "none", "--out", out)
    code, text, _ = cli("evaluate", *arguments, "--instructed", "--leverage", "--json")
    assert code == 0
    summary = json.loads(text)
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["tasks"]["plain"]["reliability"]["bare"]["exact"]["edited"]["mean"] == 1
    assert "instructed" in summary["tasks"]["plain"]["reliability"]
    assert "scope" in summary["leverage"]
    assert {row["group"] for row in read_rows(out / "rows.parquet")} >= {
        "reliability",
        "locality",
        "portability",
    }
    assert cli("evaluate", *arguments).code == 6
    code, text, _ = cli("evaluate", *arguments, "--contrast", "scope", "--force", "--json")
    assert code == 0
    assert set(json.loads(text)["leverage"]) == {"scope"}
    assert not json.loads(text)["tasks"]
    code, _, error = cli("evaluate", *arguments, "--contrast", "scop", "--force", "--dry-run")
    assert code
    assert "scope" in error


def test_evaluate_measures_what_edits_do_to_a_text(
    cli: Run, folder: Path, records: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The book was written by a writer who lived in London. " * 4)
    arguments = ("--data", records, "--model", folder, "--start", "none")
    told = (*arguments, "--text", text, "--text-tokens", 40)
    single = json.loads(cli("evaluate", *told, "--text-edits", 1, "--json").out)["perplexity"]
    assert (single["edits"], single["tokens"]) == (1, 39)  # without a start token the first is not predicted
    assert single["ratio"] == single["highest"] == pytest.approx(single["edited"] / single["base"])
    assert json.loads(cli("evaluate", *told, "--json").out)["perplexity"]["edits"] == 2
    together = json.loads(cli("evaluate", *told, "--together", 2, "--json").out)
    assert together["perplexity"]["edits"] == 1
    assert together["perplexity"]["ratio"] != single["ratio"]
    plain = json.loads(cli("evaluate", *arguments, "--together", 2, "--json").out)
    assert together["tasks"] == plain["tasks"]
    assert "perplexity" not in plain
    assert "Perplexity of 39 tokens of text" in cli("evaluate", *told, "--together", 2).out
    assert cli("evaluate", *arguments, "--text", tmp_path / "nowhere.txt", "--dry-run").code == 3


def test_evaluate_asks_no_more_probes_than_it_is_told(cli: Run, folder: Path, records: Path) -> None:
    record = json.loads(records.read_text().splitlines()[0])
    others = [{"prompt": f"The capital of {land} is", "ground_truth": land} for land in ("Spain", "Italy")]
    records.write_text(json.dumps({**record, "locality": {"neighbour": others}}))
    arguments = ("--data", records, "--model", folder, "--start", "none", "--json")
    for options, count in (((), 2), (("--max-probes", 1), 1)):
        tasks = json.loads(cli("evaluate", *arguments, *options).out)["tasks"]
        assert tasks["plain"]["locality"]["bare"]["unchanged"]["edited"]["probes"] == count


def test_evaluate_shows_a_table_and_finds_data_by_environment(
    cli: Run, folder: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSTRUCTEDIT_DATA", str(records.parent))
    arguments = ("--data", "records.jsonl", "--limit", 1, "--model", folder, "--start", "none")
    code, text, _ = cli("evaluate", *arguments)
    assert code == 0
    assert "Reliability" in text
    assert json.loads(cli("evaluate", *arguments, "--dry-run", "--json").out)["edits"] == 1
    for editor, wrong, meant in (
        ("memit", "stepps=3", "steps"),
        ("memit", "steps=1.5", "a whole number"),
        ("memit", "text=5", "words"),
        ("ultraedit", "units=raww", "'raw'"),
        ("default", "mend.stepps=3", "steps"),
        ("default", "strengths=1.5", "a list in brackets, such as [1.5]"),
        ("default", "text=5", "words"),
    ):
        found = cli("evaluate", *arguments, "--editor", editor, "--setting", wrong, "--dry-run")
        assert found.code
        assert meant in found.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 3),
        (("--data", "nowhere.jsonl"), 3),
        (("--data", ".", "--task", "zsrr"), 7),
        (("--data", "empty"), 3),
    ],
)
def test_evaluate_refuses_bad_data(
    cli: Run, records: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple, code: int
) -> None:
    monkeypatch.chdir(records.parent)
    (records.parent / "empty").mkdir()
    result = cli("evaluate", *arguments)
    assert result.code == code
    assert len(result.err.strip().splitlines()) == 1
