"""The page that shows the method works, on a tiny model in seconds."""

import runpy
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parent.parent / "examples" / "minimal.py"


def test_the_page_trains_and_edits_an_unseen_fact(capsys) -> None:
    page = runpy.run_path(str(PAGE))
    assert page["UNSEEN"][0] not in page["FACTS"]
    with torch.random.fork_rng(devices=[]):
        answers = page["main"](tiny=True, steps=6, batch=2)
    (edited_before, edited_after), (reworded_before, reworded_after), *stay = answers
    assert edited_after > 1.2 * edited_before
    assert reworded_after > reworded_before
    assert len(stay) == 2
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines() if "loss" in line]
    assert len(losses) == 6
    assert min(losses[3:]) < losses[0]


def test_the_page_is_one_page() -> None:
    text = PAGE.read_text()
    assert len(text.splitlines()) < 150
    assert text.count("instructedit.") == 1
