"""What the page is given: files in and out, forms, ids and sessions that cannot be."""

import json
import zipfile
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app_desk import EVIL, FRANCE, tiny_functions, tiny_pair
from instructedit import extras
from instructedit.app.functions import Functions
from instructedit.app.pair import Pair
from instructedit.app.request import LARGEST, MOST, NOT_TEXT, Form, read_form, read_upload
from instructedit.backbone.loading import load_backbone
from instructedit.errors import DataError, InstructEditError, OutputError, UnknownNameError
from instructedit.ledger.store import create_store
from instructedit.ledger.writer import open_writer
from instructedit.storage import write_atomic
from instructedit.types import EditCase

pytestmark = pytest.mark.slow

SPAIN = Form("The capital of Spain is", "Paris", neighbours=["The capital of Italy is"])


# Files


def test_requests_go_out_and_come_back(functions: Functions, token: str) -> None:
    functions.edit(token, FRANCE)
    functions.edit(token, SPAIN)
    other = functions.desk.open()
    found = functions.upload(other, "edits.jsonl", functions.requests(token))
    assert found["added"] == 2
    keys = ("prompt", "target", "instruction")
    assert [[edit[key] for key in keys] for edit in functions.edits(other)] == [
        [edit[key] for key in keys] for edit in functions.edits(token)
    ]


def test_who_asked_and_why_goes_out_and_comes_back(
    functions: Functions, token: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"by": "legal", "note": "order 12"}
    content = record(prompt=FRANCE.prompt, target_new="Rome", instruction="Forget this.", **said) + record(
        prompt=SPAIN.prompt, target_new="Rome"
    )
    monkeypatch.setattr(pair.editor, "told", erase_all, raising=False)  # another kind, so another goal
    functions.upload(token, "edits.jsonl", content)
    assert [edit["by"] for edit in functions.edits(token)] == ["legal", ""]
    lines = [json.loads(line) for line in functions.requests(token).splitlines()]
    assert [{name: line.get(name) for name in said} for line in lines] == [said, {"by": None, "note": None}]
    other = functions.desk.open()
    functions.upload(other, "edits.jsonl", functions.requests(token), by="the desk")
    assert [edit["by"] for edit in functions.edits(other)] == ["the desk", "the desk"]


def erase_all(_backbone: object, cases: list[EditCase], _words: list[str]) -> list[EditCase]:
    return [replace(case, kind="erase") for case in cases]


def record(**fields: object) -> str:
    return json.dumps({"prompt": "A is", "target_new": "B", **fields}) + "\n"


def probe(prompt: str, answers: list[str]) -> dict[str, object]:
    return {"group": "rephrase", "prompt": prompt, "answers": answers}


BAD_FILES = {
    "kind": ("edits.exe", "{}", "kind of file"),
    "large": ("edits.jsonl", "x" * (LARGEST + 1), "4 MB at the most"),
    "json": ("edits.jsonl", '{"prompt": ', "edits.jsonl, line 1"),
    "field": ("edits.jsonl", '{"prompt": "A is"}', "target_new"),
    "deep": ("edits.json", "[" * 100_000, "nested too deeply"),
    "empty": ("edits.jsonl", "", "no usable record"),
    "many": ("edits.jsonl", '{"prompt": "A is", "target_new": "B"}\n' * (MOST + 1), f"{MOST} at the most"),
    "half a character": (
        "edits.jsonl",
        '{"prompt": "A is \\ud800", "target_new": "B"}',
        "half of a surrogate pair",
    ),
    "digits": ("edits.jsonl", '{"prompt": "A is", "target_new": ' + "1" * 5000 + "}", "line 1: no JSON"),
    "way out": ("../../edits.jsonl", "{", "line 1"),
    "long question": ("edits.jsonl", record(rephrase_prompt="A" * 3000), "edit 1: a text has 3,000"),
    "long reply": ("edits.jsonl", record(probes=[probe("B", ["C" * 3000])]), "edit 1: a text has 3,000"),
    "long name": ("edits.jsonl", record(by="A" * 3000), "edit 1, field by: a text has 3,000"),
    "many questions": ("edits.jsonl", record(probes=[probe("B", ["C"])] * 300), "300 questions"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_is_one_clear_error(functions: Functions, token: str, name: str) -> None:
    file, content, expected = BAD_FILES[name]
    with pytest.raises(DataError, match=expected):
        functions.upload(token, file, content)
    assert functions.edits(token) == []


def test_a_file_said_to_be_large_is_refused_unread() -> None:
    with pytest.raises(DataError, match=r"100\.0 MB"):
        read_upload("edits.jsonl", "", 100 * 2**20)


def test_a_file_of_other_bytes_is_refused_by_its_kind_first() -> None:
    with pytest.raises(DataError, match="kind of file"):
        read_upload("edits.png", "", NOT_TEXT)
    with pytest.raises(DataError, match="not UTF-8"):
        read_upload("edits.jsonl", "", NOT_TEXT)


FIELDS = (
    "prompt", "target_new", "subject", "kind", "scope", "sentiment", "instruction", "probes", "case_id",
    "rephrase_prompt", "locality", "portability", "requested_rewrite", "positive", "answers", "by", "note",
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6) | VALUES, max_size=3), st.text())
def test_whatever_is_uploaded_becomes_edits_or_one_error(records: list[object], broken: str) -> None:
    whole = "".join(json.dumps(record) + "\n" for record in records)
    for content in (whole, json.dumps(records), whole + broken):
        with suppress(InstructEditError):
            cases, told = read_upload("edits.jsonl", content)
            assert len(told) == len(cases)
            assert all(case.subject if case.kind == "sentiment" else case.target_new for case in cases)


@settings(deadline=None, max_examples=15)
@given(st.text(), st.text(max_size=20))
def test_whatever_is_asked_is_answered_or_one_error(pair: Pair, prompt: str, target: str) -> None:
    functions = tiny_functions(pair)
    token = functions.desk.open()
    with closing(functions.desk), suppress(InstructEditError):
        assert functions.ask(token, prompt, target)["prompt"] == prompt


def test_the_adapter_is_a_zip_without_paths(folder: Path) -> None:
    pytest.importorskip("peft")
    functions = tiny_functions(tiny_pair(load_backbone(str(folder), start="none")))
    token = functions.desk.open()
    with pytest.raises(DataError, match="nothing to download"):
        functions.adapter(token)
    functions.edit(token, FRANCE)
    offer = functions.adapter(token)
    path = functions.desk.offered(offer["url"].removeprefix("download/"))
    assert path is not None
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist() if ".safe" not in name}
        assert "adapter_model.safetensors" in archive.namelist()
    assert json.loads(texts["adapter_config.json"])["base_model_name_or_path"] == folder.name
    assert not [name for name, text in texts.items() if str(folder.parent) in text]
    functions.desk.close()
    assert not path.exists()


def test_a_zip_that_cannot_be_written_leaves_none(
    functions: Functions, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")

    def write(_delta: object, folder: Path, *_: object, **_options: object) -> None:
        write_atomic(folder / "adapter_config.json", "{}")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    functions.edit(token, FRANCE)
    monkeypatch.setattr("instructedit.app.adapter.save_lora", write)
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space left"):
        functions.adapter(token)
    assert not [path for path in functions.desk.find(token).folder.iterdir() if path.suffix == ".zip"]


def test_without_peft_the_adapter_is_refused_at_once(
    functions: Functions, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions.edit(token, FRANCE)
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    with pytest.raises(OutputError, match="needs peft"):
        functions.adapter(token)


# Bad input

BAD_FORMS = {
    "prompt": (Form(" ", "B"), "no prompt"),
    "target": (Form("A is", ""), "no target"),
    "kind": (Form("A is", "B", kind="chnage"), "Did you mean 'change'"),
    "scope": (Form("A is", "B", scope="high"), "unknown scope"),
    "sentiment": (Form(kind="sentiment", subject="Rome"), "positive or negative"),
    "subject": (Form(kind="sentiment", sentiment="positive"), "needs a subject"),
    "length": (Form("A" * 3000, "B"), "3,000 characters"),
    "surrogate": (Form("A \ud800 is", "B"), "half of a character"),
    "wordings": (Form("A is", "B", wordings=["C is"] * 60), "60 other wordings. Expected 50"),
    "neighbours": (Form("A is", "B", neighbours=["C is"] * 60), "60 neighbours. Expected 50"),
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_what_is_no_edit_is_one_clear_error(name: str) -> None:
    form, expected = BAD_FORMS[name]
    with pytest.raises(InstructEditError, match=expected):
        read_form(form)


def test_neighbours_are_suggested_where_there_are_none() -> None:
    asked = [probe.prompt for probe in read_form(FRANCE).group("locality")]
    assert len(asked) == 3
    assert all(text.startswith("The capital of ") and "France" not in text for text in asked)
    assert [probe.prompt for probe in read_form(SPAIN).group("locality")] == list(SPAIN.neighbours)


@pytest.mark.parametrize("name", ["9", "", EVIL])
def test_an_id_that_does_not_exist_is_one_clear_error(functions: Functions, token: str, name: str) -> None:
    functions.edit(token, FRANCE)
    for call in (
        lambda: functions.undo(token, [name]),
        lambda: functions.redo(token, [name]),
        lambda: functions.look(token, [name]),
    ):
        with pytest.raises(UnknownNameError, match="known: 0001"):
            call()
    with pytest.raises(UnknownNameError, match="known: 0001"):
        functions.picture(token, name)
    assert [edit["now"] for edit in functions.edits(token)] == ["in force"]


def test_none_where_an_edit_is_needed_is_one_clear_error(functions: Functions, token: str) -> None:
    for call in (functions.undo, functions.redo, functions.look):
        with pytest.raises(DataError, match="no edit was named"):
            call(token, [])


def test_more_than_can_be_done_at_once_is_one_clear_error(functions: Functions, token: str) -> None:
    with pytest.raises(DataError, match=r"51 edits were named\. Expected 50"):
        functions.look(token, ["1"] * 51)
    with pytest.raises(DataError, match=r"1,001 edits were named\. Expected 1,000"):
        functions.undo(token, ["1"] * 1001)
    with pytest.raises(DataError, match=r"201 turns\. Expected 200"):
        functions.chat(token, "Hi", [("a", "b", "c")] * 201)


def test_a_store_that_another_writes_is_one_clear_error(pair: Pair, tmp_path: Path) -> None:
    store = tmp_path / "store"
    create_store(store, {"name": "m", "checksum": ""}, {"name": "e", "checksum": ""})
    functions = tiny_functions(pair, store)
    token = functions.desk.open()
    with open_writer(store), pytest.raises(OutputError, match="is being written by"):
        functions.edit(token, FRANCE)
    assert functions.edits(token) == []
    assert functions.edit(token, FRANCE)["added"] == 1
    functions.desk.close()


def test_a_session_that_does_not_exist_or_is_over_is_said_to_be(
    functions: Functions, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instructedit.app.session.MOST", 2)
    functions.edit(token, FRANCE)
    functions.desk.open()
    assert functions.desk.knows(token)
    assert functions.edits(token)  # who was here last stays longest
    kept = functions.desk.find(token).folder
    functions.desk.open()
    functions.desk.open()
    for unknown in (token, "", "x"):
        with pytest.raises(DataError, match="is over"):
            functions.edits(unknown)
        assert not functions.desk.knows(unknown)
    assert not kept.exists()
