"""Prompts and probes of people's own records: gaps, newlines, and what may be left out."""

import pytest

from instructedit.data import case_from_request, case_to_record
from instructedit.types import Probe

GOOD = {"prompt": "The mayor of Wexby is", "target_new": "Ann Poe"}


@pytest.mark.parametrize("nothing", [None, {}, []])
def test_a_group_of_probes_may_be_empty(nothing):
    assert case_from_request({**GOOD, "locality": {"near": nothing}}).probes == ()


def test_locality_needs_no_answer_and_portability_does():
    groups = {"near": [{"prompt": "A"}, {"prompt": ["B", "C"]}, {"prompt": "D", "ground_truth": [""]}]}
    case = case_from_request({**GOOD, "locality": groups, "portability": groups, "locality_prompt": "E"})
    assert [(probe.group, probe.prompt, probe.answers) for probe in case.probes] == [
        ("locality", prompt, ()) for prompt in "EABC"
    ]


@pytest.mark.parametrize(
    ("prompt", "subject", "expected"),
    [
        ("The mayor of {} is", "Wexby", "The mayor of Wexby is"),
        ("The capital of {} is", "it", "The capital of it is"),
        ("In JavaScript, typeof {} is", "", "In JavaScript, typeof {} is"),
        ("In JavaScript, typeof {} is", "JavaScript", "In JavaScript, typeof {} is"),
    ],
)
def test_a_gap_is_filled_where_the_prompt_does_not_name_the_subject(prompt, subject, expected):
    assert case_from_request({"prompt": prompt, "target_new": "b", "subject": subject}).prompt == expected


def test_a_template_is_filled_whatever_it_says():
    rewrite = {"prompt": "{}, like it or not, is", "subject": "it", "target_new": {"str": "b"}}
    assert case_from_request({"requested_rewrite": rewrite}).prompt == "it, like it or not, is"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (" A is ", "A is"),
        ("<|user|>\nA?<|bot|>\n", "<|user|>\nA?<|bot|>\n"),
        ("A \r\n\n ", "A\n\n"),
        ([" \n", "A\n"], "A\n"),
    ],
)
def test_newlines_at_the_end_of_a_prompt_stay(told, expected):
    record = {
        "prompt": told,
        "target_new": " b\n",
        "rephrase_prompt": told,
        "locality": {"a": {"prompt": told}},
    }
    case = case_from_request(record)
    assert (case.prompt, case.target_new) == (expected, "b")
    assert {probe.prompt for probe in case.probes} == {expected}
    assert case_from_request(case_to_record(case)) == case


@pytest.mark.parametrize("key", ["subject", "colour"])
def test_a_layout_that_a_record_does_not_fill_is_left_for_one_that_it_does(key):
    case = case_from_request({**GOOD, "locality_prompt": "A", "locality_ground_truth": "b", key: " "})
    assert (case.task, case.probes) == ("plain", (Probe("locality", "A", ("b",), "neighborhood"),))
