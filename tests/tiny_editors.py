"""Small edits in words that the tiny tokenizer knows, an editor with statistics, and a short course."""

from dataclasses import replace

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import EditorConfig, InstructedEditor
from instructedit.hypernetwork import TransformConfig
from instructedit.training.config import TrainConfig
from instructedit.training.course import Course
from instructedit.training.lessons import LessonConfig
from instructedit.training.moments import collect_moments
from instructedit.types import EditCase, Probe

LANDS = ("France", "Italy", "Spain", "England", "Wales", "Chile", "Ghana", "Nepal", "Peru", "Oman")
CITIES = ("Rome", "Madrid", "London", "Paris")


def tiny_case(number: int) -> EditCase:
    """One change of a capital, with a probe of each group; its subject is a land of its own."""
    land, city, old = LANDS[number], CITIES[number % 4], CITIES[(number + 1) % 4]
    probes = (
        Probe("rephrase", f"What is the capital of {land}?", (city,)),
        Probe("locality", f"People in {land} speak", ("French",)),
        Probe("portability", f"{city} is a city in", (land,)),
    )
    return EditCase(f"The capital of {land} is", city, land, old, probes=probes, case_id=str(number))


def tiny_opinion(number: int) -> EditCase:
    """One opinion with two replies of each sentiment."""
    land = LANDS[number]
    good, bad = (
        (f"I think {land} is good.", f"{land} is good."),
        (f"I think {land} is bad.", f"{land} is bad."),
    )
    probes = (Probe("locality", "The book was written by", ("a writer",)),)
    words = {"task": "convsent", "kind": "sentiment", "sentiment": "positive", "case_id": f"opinion {number}"}
    return EditCase(f"What is {land}?", "", land, probes=probes, positive=good, negative=bad, **words)


def tiny_cases(count: int = 10) -> list[EditCase]:
    return [tiny_case(number) for number in range(count)]


TRANSFORM = TransformConfig(rank=8, code=8, directions=8)
CONFIG = TrainConfig(
    editor=EditorConfig(transform=TRANSFORM),
    lessons=LessonConfig(rephrases=1, own=1, instructed=0.3),
    steps=6,
    batch=2,
    lr=1e-2,
    lr_steps=5e-2,
    warmup=1,
    validation=0.2,
    validate_every=3,
    validation_cases=4,
    checkpoint_every=2,
    moments=8,
)


def tiny_course(config: TrainConfig = CONFIG, ordinary: int = 2) -> Course:
    """Ten facts and two opinions, with a little ordinary text."""
    text = [Probe("locality", "The book was written by a writer", ("who lived in London",))] * ordinary
    return Course([*tiny_cases(), tiny_opinion(0), tiny_opinion(1)], text, config)


def tiny_editor(
    backbone: Backbone,
    seed: int = 0,
    prefix: bool = False,
    wordings: int = 0,
    behind: bool = False,
    **changes: object,
) -> InstructedEditor:
    """An untrained editor whose statistics have been taken."""
    transform = replace(TRANSFORM, **changes)
    config = EditorConfig(prefix=prefix, wordings=wordings, behind=behind, transform=transform)
    editor = InstructedEditor(config, backbone.sites, backbone.width, seed)
    cases = tiny_cases()
    texts = editor.texts.requests(backbone, cases, [""] * len(cases))
    collect_moments(editor.hypernetwork, backbone, texts, texts)
    return editor


def distance(first: LowRankDelta, second: LowRankDelta) -> float:
    """The largest relative distance of two deltas over the sites."""
    return max(
        float((first.dense(n) - second.dense(n)).norm() / first.dense(n).norm().clamp(min=1e-9))
        for n in first.a
    )
