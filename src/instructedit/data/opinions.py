"""Opinions of the project's own topics: the sentiment part of its data set."""

import random
from collections.abc import Callable
from typing import get_args

from instructedit.data.fact_table import read_source
from instructedit.data.layouts import load_layouts
from instructedit.types import EditCase, Probe, Sentiment

Replies = dict[Sentiment, tuple[str, ...]]
OTHER_TOPICS = 2


def make_opinions(split_of: Callable[[str], str], split: str, seed: int) -> list[EditCase]:
    """Two edits a topic of the split, one for each sentiment, with other topics as locality probes."""
    topics = {topic: replies for topic, replies in load_opinions().items() if split_of(topic) == split}
    return [_opinion(topic, sentiment, topics, seed) for topic in topics for sentiment in get_args(Sentiment)]


def load_opinions() -> dict[str, Replies]:
    """Every topic with its replies in both sentiments."""
    found: dict[str, Replies] = {}
    for entry in read_source("opinions"):
        verbs = entry["verb"] if isinstance(entry["verb"], list) else [entry["verb"]] * len(entry["topics"])
        for topic, verb in zip(entry["topics"], verbs, strict=True):
            found[topic] = {
                s: tuple(_fill(reply, topic, verb) for reply in entry[s]) for s in get_args(Sentiment)
            }
    return found


def _fill(reply: str, topic: str, verb: str) -> str:
    return reply.replace("{t}", topic).replace("{is}", verb)


def _opinion(topic: str, sentiment: Sentiment, topics: dict[str, Replies], seed: int) -> EditCase:
    """One edit; its questions are those of the layout ``opinion``, so they are written down once."""
    rng = random.Random(f"{seed}|opinion|{topic}|{sentiment}")
    layout = next(layout for layout in load_layouts() if layout.name == "opinion")
    others = [other for other in topics if other != topic]
    ask = layout.fields["prompt"].text
    rephrased = (text for probe_map in layout.probes for text in probe_map.text)
    probes = [Probe("rephrase", text.replace("{subject}", topic), (), "question") for text in rephrased]
    for other in rng.sample(others, min(OTHER_TOPICS, len(others))):
        reply = rng.choice(topics[other]["positive"] + topics[other]["negative"])
        probes.append(Probe("locality", ask.replace("{subject}", other), (reply,), "other_topic"))
    return EditCase(
        prompt=ask.replace("{subject}", topic),
        target_new="",
        subject=topic,
        task="convsent",
        kind="sentiment",
        sentiment=sentiment,
        probes=tuple(probes),
        positive=topics[topic]["positive"],
        negative=topics[topic]["negative"],
    )
