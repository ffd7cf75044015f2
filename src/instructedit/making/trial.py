"""How good a description is: what a trial editor reaches with it on records kept for that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructedit.backbone import Backbone, PrefixCache
from instructedit.evaluation import clusters_of, estimate, evaluate, select
from instructedit.evaluation.rows import Row
from instructedit.instructions.banks import Bank, Split, using_bank
from instructedit.making.trace import Score
from instructedit.types import Control, EditCase

if TYPE_CHECKING:
    from instructedit.editors import Editor
    from instructedit.training.config import TrainConfig

TrialEditor = Callable[[int, Bank], Any]  # the `Editor` of a round and the bank of its candidates
GROUPS = ("reliability", "rephrase")
FINER = {"exact": "log_prob", "win_rate": "sentiment_score"}


@dataclass(frozen=True)
class Examiner:
    """Edits `cases` one at a time with a bank's instructions, and asks bare prompts and other wordings."""

    backbone: Backbone
    cases: Sequence[EditCase]
    batch: int = 16
    seed: int = 0
    cache: PrefixCache | None = None

    def score(
        self, editor: "Editor", bank: Bank, split: Split = "train", control: Control = "right"
    ) -> Score:
        """What an editor reaches when it is told in the words of a bank.

        Reliability and rephrase are means over cases: of whole answers that are right, or, for a sentiment,
        of replies that win. Each bank is scored with the same reach and words of sentiment for a case.
        """
        told: dict[str, Any] = {"split": split, "control": control, "seed": self.seed, "batch": self.batch}
        with using_bank(bank):
            rows = evaluate(
                self.backbone,
                editor,
                self.cases,
                instructed=False,
                groups=GROUPS,
                resamples=0,
                cache=self.cache,
                **told,
            ).rows
        metric = "win_rate" if bank.kind == "sentiment" else "exact"
        reliability, rephrase = (_mean(rows, group, metric) for group in GROUPS)
        parts = [part for part in (reliability, rephrase) if part is not None]
        value = sum(parts) / max(1, len(parts))
        return Score(value, reliability or 0.0, rephrase, _mean(rows, "reliability", FINER[metric]) or 0.0)


def _mean(rows: Sequence[Row], group: str, metric: str) -> float | None:
    found = estimate(clusters_of(select(rows, group=group), f"edited_{metric}"), resamples=0)
    return found.mean if found else None


def keep_editor(editor: "Editor") -> TrialEditor:
    """The same editor in every round: nothing is trained, the default."""
    return lambda _number, _bank: editor


@dataclass(frozen=True)
class Retraining:
    """An editor of its own for every round, trained with the round's descriptions: the paper's way.

    Each is trained on `cases` in a folder of its own below `folder`; one that is there already is taken as it
    is, and an interrupted training goes on. Its edits are the trained pass alone: what gates and a polish fit
    to the request would hide what the training made of a description.
    """

    backbone: Backbone
    cases: Sequence[EditCase]
    config: "TrainConfig"
    folder: Path
    loaded: dict[int, Any] = field(default_factory=dict, compare=False)

    def __call__(self, number: int, bank: Bank) -> "Editor":
        """The editor of a round. Errors: `OutputError` when it cannot be written."""
        if number not in self.loaded:
            self.loaded.clear()
            self.loaded[number] = self._train(number, bank)
        return self.loaded[number]

    def _train(self, number: int, bank: Bank) -> "Editor":
        from instructedit.editors import load_editor
        from instructedit.training.course import Course
        from instructedit.training.loop import train

        config, out = pass_alone(self.config), self.folder / f"editor-{number}"
        course = Course(self.cases, [], config)
        with using_bank(bank):
            result = train(config, self.backbone, course, out, cache_folder=self.folder / "prefix-cache")
        return load_editor(result.editor, self.backbone)


def pass_alone(config: "TrainConfig") -> "TrainConfig":
    """The configuration of an editor that makes its edits by what was trained, and by nothing else."""
    gate = replace(config.editor.gate, wordings=0)
    polish = replace(config.editor.polish, steps=0, scoped=False)
    return replace(config, editor=replace(config.editor, gate=gate, polish=polish))
