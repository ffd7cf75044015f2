"""Files as people have them: lists and lines, broken records, and the errors they give."""

import json
import random
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructedit.data import SkippedRecords, case_from_request, case_to_record, load_cases
from instructedit.errors import DataError, UnknownNameError
from instructedit.types import EditCase, Probe

GOOD = {"prompt": "The mayor of Wexby is", "target_new": "Ann Poe"}
TRUTH = "locality.a.ground_truth"


@pytest.fixture
def write(tmp_path):
    def _write(*records, name="edits.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records), "utf-8")
        return path

    return _write


def test_lines_a_list_and_one_object_read_alike(write):
    lines = write(GOOD, "", GOOD)
    whole = write(json.dumps([GOOD, GOOD], indent=2), name="edits.json")
    single = write(json.dumps(GOOD, indent=2), name="one.json")
    prompts = [(case.prompt, case.target_new) for case in load_cases(lines)]
    assert (
        prompts
        == [(case.prompt, case.target_new) for case in load_cases(whole)]
        == [tuple(GOOD.values())] * 2
    )
    assert len(load_cases(single)) == 1
    assert [case.case_id for case in load_cases(lines)] == ["edits:1", "edits:3"]


def test_byte_order_mark_and_line_separators_inside_texts(tmp_path):
    path = tmp_path / "edits.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps({**GOOD, "subject": "a\u2028b"}, ensure_ascii=False).encode()
    )
    assert load_cases(path)[0].subject == "a\u2028b"


@pytest.mark.parametrize("limit", [1, 2, 9])
def test_a_limit_gives_the_beginning(write, limit):
    records = [{"ent": f"topic {n}", "pos": [f"yes {n}"], "neg": [f"no {n}"]} for n in range(5)]
    path = write(*records)
    assert load_cases(path, limit=limit) == load_cases(path)[:limit]


def test_other_topics_are_drawn_as_from_a_list_without_the_own(write):
    topics = [{"ent": f"topic {n}", "pos": [f"yes {n}"], "neg": [f"no {n}"]} for n in range(40)]
    for number, case in enumerate(load_cases(write(*topics), seed=4)):
        draw = random.Random(f"4:{case.case_id}")
        chosen = draw.sample([topic for topic in topics if topic is not topics[number]], 2)
        drawn = [draw.choice(topic["pos"] + topic["neg"]) for topic in chosen]
        assert [probe.answers for probe in case.group("locality")] == [(reply,) for reply in drawn]


@pytest.mark.parametrize(
    ("record", "field", "found"),
    [
        ({"prompt": "A is", "target_new": ""}, "target_new", "''"),
        ({"prompt": "A is", "target_new": " \t "}, "target_new", "' \\t '"),
        ({"prompt": "A is"}, "target_new", "None"),
        ({"prompt": "A is", "target_new": []}, "target_new", "[]"),
        ({"prompt": "A is", "target_new": True}, "target_new", "True"),
        ({"prompt": " ", "target_new": "b"}, "prompt", "' '"),
        ({"prompt": {"text": "A"}, "target_new": "b"}, "prompt", "{'text': 'A'}"),
        ({**GOOD, "kind": "alter"}, "kind", "'alter'"),
        ({**GOOD, "scope": "huge"}, "scope", "'huge'"),
        ({**GOOD, "locality": ["x"]}, "locality", "['x']"),
        ({**GOOD, "locality": {"near": [{"ground_truth": "b"}]}}, "locality.near", "ground_truth"),
        ({**GOOD, "locality": {"a": {"prompt": ["b", "c"], "ground_truth": [7]}}}, TRUTH, "[7]"),
        ({**GOOD, "locality": {"a": [{"prompt": "b", "ground_truth": {}}]}}, TRUTH, "{}"),
        ({**GOOD, "kind": "sentiment"}, "sentiment", "None"),
        ({"ent": "tea", "pos": [" "], "neg": ["bad"]}, "pos", "[' ']"),
        ({"ent": "", "pos": ["good"], "neg": ["bad"]}, "ent", "''"),
        ({"subject": "tea", "sentiment": "mild"}, "sentiment", "'mild'"),
        (
            {"requested_rewrite": {"prompt": "{} is", "subject": "A", "target_new": {}}},
            "requested_rewrite.target_new.str",
            "None",
        ),
        (
            {"requested_rewrite": {"prompt": "{} is", "subject": "", "target_new": {"str": "b"}}},
            "requested_rewrite.subject",
            "''",
        ),
        ({"prompt": "A", "probes": "x", "target_new": "b"}, "probes", "'x'"),
        ({"prompt": "A", "probes": [{"group": "near"}], "target_new": "b"}, "probes.group", "'near'"),
        ({"prompt": "A \ud800 is", "target_new": "b"}, "prompt", r"\ud800"),
        ({"prompt": "A is", "target_new": "b\udcff"}, "target_new", r"\udcff"),
        ({**GOOD, "locality": {"a": [{"prompt": "b", "ground_truth": ["\ud800"]}]}}, TRUTH, r"\ud800"),
    ],
)  # fmt: skip
def test_a_broken_record_names_file_line_field_and_what_was_found(write, record, field, found):
    path = write(GOOD, record)
    with pytest.raises(DataError) as caught:
        load_cases(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line 2: field {field!r}: found ")
    assert found in message
    assert "expected" in message
    assert "--skip-bad" in message
    with pytest.raises(DataError, match="request, field"):
        case_from_request(record)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "A is", "target_new": }', "line 2: no JSON"),
        ('{"prompt": ' + "9" * 5000 + "}", "line 2: no JSON: Exceeds the limit"),
        ("[" * 100_000 + "]" * 100_000, "line 2: no JSON: nested too deeply"),
        ("[1, 2]", "line 2: record: found list"),
        ('"words"', "line 2: record: found str"),
        ('{"colour": "red"}', "line 2: fields: found colour, expected at least prompt and target_new"),
        ("{}", "found none"),
    ],
)
def test_lines_that_are_no_records(write, text, message):
    with pytest.raises(DataError, match=message):
        load_cases(write(GOOD, text))


def test_skip_bad_counts_and_lists_what_it_leaves_out(write):
    path = write(GOOD, "{", {"prompt": "A is", "target_new": " "}, GOOD)
    with pytest.warns(SkippedRecords, match=r"2 broken record") as caught:
        cases = load_cases(path, skip_bad=True)
    assert [case.case_id for case in cases] == ["edits:1", "edits:4"]
    text = str(caught[0].message)
    assert "line 2: no JSON" in text
    assert "line 3: field 'target_new'" in text


def test_skip_bad_is_silent_where_all_is_well(write):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_cases(write(GOOD), skip_bad=True)) == 1


def test_nothing_usable_is_an_error_even_when_skipping(write):
    with pytest.raises(DataError, match="no usable record"), pytest.warns(SkippedRecords):
        load_cases(write("{"), skip_bad=True)
    with pytest.raises(DataError, match="no usable record"):
        load_cases(write("", name="empty.jsonl"))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        load_cases(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        load_cases(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "caf\xe9"}')
    with pytest.raises(DataError, match="not UTF-8"):
        load_cases(tmp_path / "latin.jsonl")
    (tmp_path / "cut.json").write_text('[{"prompt": "A",\n', "utf-8")
    with pytest.raises(DataError, match="no JSON"):
        load_cases(tmp_path / "cut.json")


def test_an_unknown_task_suggests_the_nearest(write):
    with pytest.raises(UnknownNameError, match="Did you mean 'counterfact'"):
        load_cases(write(GOOD), task="counterfct")
    with pytest.raises(UnknownNameError):
        case_from_request(GOOD, task="nonsense")


def test_a_task_that_a_record_cannot_be_read_as(write):
    with pytest.raises(DataError, match="expected at least prompt and subject"):
        load_cases(write({"colour": "red"}), task="convsent")


words = (
    st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12)
    .map(str.strip)
    .filter(bool)
)
answers = st.lists(words, min_size=1, max_size=3, unique=True).map(tuple)
probes = st.builds(
    Probe,
    st.sampled_from(["rephrase", "locality", "portability"]),
    words,
    answers | st.just(()),
    words | st.just(""),
)
facts = st.builds(
    EditCase,
    prompt=words,
    target_new=words,
    subject=words | st.just(""),
    ground_truth=words | st.just(""),
    task=st.sampled_from(["counterfact", "recent", "plain"]),
    kind=st.sampled_from(["insert", "change", "erase"]),
    scope=st.sampled_from(["wide", "narrow"]),
    probes=st.lists(probes, max_size=4).map(tuple),
    instruction=words | st.just(""),
    case_id=words,
)
opinions = st.builds(
    EditCase,
    prompt=words,
    target_new=st.just(""),
    subject=words,
    task=st.just("convsent"),
    kind=st.just("sentiment"),
    sentiment=st.sampled_from(["positive", "negative"]),
    positive=answers,
    negative=answers,
    probes=st.lists(probes, max_size=2).map(tuple),
)


@pytest.mark.slow
@given(facts | opinions)
def test_an_edit_survives_writing_and_reading(case):
    assert case_from_request(json.loads(json.dumps(case_to_record(case)))) == case


def test_one_prompt_in_a_list_takes_all_answers_as_its_own():
    record = {**GOOD, "locality": {"near": [{"prompt": ["A"], "ground_truth": ["x", "y"]}]}}
    assert case_from_request(record).probes == (Probe("locality", "A", ("x", "y"), "near"),)


nested = st.recursive(words | st.just("  "), lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@pytest.mark.slow
@given(nested)
def test_answers_however_nested_are_the_same_texts_in_order(value):
    def flat(item):
        return [item] if isinstance(item, str) else [text for part in item for text in flat(part)]

    expected = tuple(dict.fromkeys(text for text in flat(value) if text.strip()))
    record = {**GOOD, "locality": {"near": [{"prompt": "A", "ground_truth": value}]}}
    read = case_from_request(record).group("locality")
    assert [probe.answers for probe in read] == ([expected] if expected else [])
