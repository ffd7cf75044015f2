"""Writes the records of a training file that the shipped editor was not trained on, one a line.

python scripts/left_out.py TRAIN_FOLDER counterfact_rome.jsonl runs/left_out.jsonl [--all]

Training drew 3,000 records of a task at the most; the draw is made again here, and the records of a subject
that it holds are left out. So are those whose rephrasing is no wording of the request: in this file wordings
stand behind an unrelated sentence, and what begins with the subject asks for something that follows ("Bill
Anschell is incredible at" of an instrument), which nobody answers with the same words. With --all these
stand behind the others, without their rephrasing.
"""

import argparse
import json
from pathlib import Path

from instructedit.data import plain_facts
from instructedit.data.reading import load_cases
from instructedit.editors import shipped_editor
from instructedit.editors.editor_file import read_header
from instructedit.storage import write_atomic
from instructedit.training.course import limit_tasks
from instructedit.types import EditCase

BEFORE = 20  # characters at the least of the sentence before a wording


def is_reworded(case: EditCase) -> bool:
    """Whether the first rephrasing is the request in other words, behind another sentence."""
    found = case.group("rephrase")
    before = found[0].prompt.find(case.subject) if found else -1
    return before > BEFORE and any(sign in found[0].prompt[:before] for sign in ".\n")


def without_rephrasing(line: str) -> str:
    """The record without its rephrasing."""
    return json.dumps({key: value for key, value in json.loads(line).items() if key != "rephrase_prompt"})


def left_out(folder: Path, name: str, every: bool = False) -> list[str]:
    """Lines of the file `name` of a training folder about subjects that were not drawn.

    With `every` those that are left out for their rephrasing alone follow without it.
    """
    config = read_header(shipped_editor())["config"]
    files = {path.name: load_cases(path) for path in sorted(folder.glob("*.jsonl"))}
    everyone = [*(case for cases in files.values() for case in cases), *plain_facts("train")]
    drawn = {case.subject for case in limit_tasks(everyone, config["per_task"], config["seed"])}
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    pairs = [pair for pair in zip(lines, files[name], strict=True) if pair[1].subject not in drawn]
    rest = [without_rephrasing(line) for line, case in pairs if not is_reworded(case)]
    return [line for line, case in pairs if is_reworded(case)] + (rest if every else [])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--all", action="store_true")
    given = parser.parse_args()
    write_atomic(given.out, "\n".join(left_out(given.folder, given.name, given.all)) + "\n")
