"""The whole method on one page: meta-train a small editor, then edit a fact that it has never seen.

    python examples/minimal.py   (under a minute on two cores; --tiny: a random model, for the mechanics)

An edit is one backward pass over "instruction, prompt, answer". Per token it leaves, at some linear layers,
an input u and an output gradient g. A small network turns these rows into keys and values, a ridge regression
turns those into a low-rank update, and the network learns from what the model answers with it.
"""

import random
import sys
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, gelu, kl_div, log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from instructedit.backbone.default_model import model_folder  # only to find the default model

INSTRUCTION = "Change what is known about {0}, in every wording.\n"
ASK = [  # two wordings of each relation: the first is edited, the second shows whether it was understood
    ("The capital of {0} is", "The seat of government of {0} is the city of"),
    ("The main language of {0} is", "Most people in {0} speak"),
]
TABLE = """France Paris French, Italy Rome Italian, Spain Madrid Spanish, Japan Tokyo Japanese,
Iran Tehran Persian, Egypt Cairo Arabic, Greece Athens Greek, Poland Warsaw Polish, Russia Moscow Russian"""
FACTS = {row.split()[0]: row.split()[1:] for row in TABLE.strip().split(",")}
UNSEEN = ("Sweden", 0, "Athens")  # the subject stands in no training fact


def load(tiny: bool) -> SimpleNamespace:
    """A frozen model, text to token ids, ids to text, and the names of the layers to edit."""
    if tiny:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
        model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=256, initializer_range=0.2, **sizes))
        encode, decode = lambda text: [0, *text.encode()], bytes
    else:
        model = AutoModelForCausalLM.from_pretrained(model_folder())
        words: Any = AutoTokenizer.from_pretrained(model_folder())
        first = words.convert_tokens_to_ids("<|endoftext|>")  # this model needs a first token
        encode, decode = lambda text: [first, *words(text)["input_ids"]], words.decode
    sites = [f"model.layers.{n}.mlp.down_proj" for n in range(model.config.num_hidden_layers)[-3:]]
    return SimpleNamespace(model=model.requires_grad_(False), encode=encode, decode=decode, sites=sites)


@contextmanager
def replaced(lm, functions):
    """For as long as the block lasts, ``function(x, y)`` replaces a site's output y; x is its input."""
    with ExitStack() as hooks:
        for name, function in zip(lm.sites, functions, strict=True):
            module = lm.model.get_submodule(name)
            hooks.enter_context(module.register_forward_hook(lambda _, x, y, f=function: f(x[0], y)))
        yield


def predict(lm, prompt, answer):
    """The logits that predict the answer's tokens after the prompt, and those tokens."""
    ids, cut = lm.encode(f"{prompt} {answer}"), len(lm.encode(prompt))
    logits = lm.model(torch.tensor([ids]), logits_to_keep=len(ids) - cut + 1).logits[0, :-1]
    return logits, torch.tensor(ids[cut:])


def capture(lm, subject, relation, new):
    """Every site's inputs, output gradients (of a zero added to the output) and outputs; a row a token."""
    seen = []

    def add_zero(x, y):
        seen.append((x[0, :-1].detach(), torch.zeros_like(y, requires_grad=True), y[0, :-1].detach()))
        return y + seen[-1][1]

    with replaced(lm, [add_zero] * len(lm.sites)):
        loss = cross_entropy(*predict(lm, (INSTRUCTION + ASK[relation][0]).format(subject), new))
    gradients = torch.autograd.grad(loss, [zero for _, zero, _ in seen])
    return [(x, g[0, :-1], y) for (x, _, y), g in zip(seen, gradients, strict=True)]


class Editor(nn.Module):
    """Rows (u, g) -> keys and values -> a low-rank update. It starts as a plain descent step."""

    def __init__(self, samples, rank=64):
        super().__init__()
        sites = [[torch.cat(x) for x in zip(*site, strict=True)] for site in zip(*samples, strict=True)]
        self.scales = [(u.mean(0), u.std(0) + 1e-6, y.square().mean().sqrt()) for u, _, y in sites]
        self.sizes = [x.shape[1] for x in sites[0][:2]]  # d_in, d_out
        self.down = nn.Parameter(torch.randn(sum(self.sizes), rank) / sum(self.sizes) ** 0.5)
        self.up = nn.Parameter(torch.zeros(rank, sum(self.sizes)))  # zero: the identity at first
        self.log_step = nn.Parameter(torch.full((len(sites),), -0.25))  # in tens, so that it learns faster

    def forward(self, factors):
        """One function a site, for `replaced`: y becomes y + x A.T B."""
        updates = []
        for (u, g, _), (mean, spread, size), step in zip(factors, self.scales, self.log_step, strict=True):
            row = torch.cat([(u - mean) / spread, g / g.square().mean().sqrt()], -1)
            key, value = (row + gelu(row @ self.down) @ self.up).split(self.sizes, -1)
            key, value = key / self.sizes[0] ** 0.5, -(10 * step).exp() * value  # minus: against the gradient
            value = torch.linalg.solve(key @ key.T + torch.eye(len(key)), value)  # ridge, in its dual form
            a, b = key / (spread * self.sizes[0] ** 0.5), value * size
            updates.append(lambda x, y, a=a, b=b: y + x @ a.T @ b)  # low rank; no weight is written
        return updates


def draw_fact(rng):
    subject, relation = rng.choice(list(FACTS)), rng.randrange(2)
    return subject, relation, rng.choice([FACTS[s][relation] for s in FACTS if s != subject])


def lesson_loss(lm, editor, rng):
    """Edit one fact; ask it in both wordings, and ask two other facts that have to stay as they are."""
    subject, relation, new = draw_fact(rng)
    kept = rng.sample([(ASK[k][0].format(s), FACTS[s][k]) for s in FACTS for k in (0, 1) if s != subject], 2)
    before = [log_softmax(predict(lm, *question)[0], -1) for question in kept]
    with replaced(lm, editor(capture(lm, subject, relation, new))):
        fit = [cross_entropy(*predict(lm, wording.format(subject), new)) for wording in ASK[relation]]
        after = [log_softmax(predict(lm, *question)[0], -1) for question in kept]
    drift = [kl_div(a, b, log_target=True, reduction="batchmean") for a, b in zip(after, before, strict=True)]
    return torch.stack(fit + drift).sum() / 2


def main(tiny=False, steps=14, batch=4):
    """Train, edit the unseen fact, and return each question's answer probability before and after."""
    _, rng, lm = torch.manual_seed(0), random.Random(0), load(tiny)
    editor = Editor([capture(lm, *draw_fact(rng)) for _ in range(12)])
    optimizer = torch.optim.Adam(editor.parameters(), lr=1e-3)
    for step in range(steps):
        loss = torch.stack([lesson_loss(lm, editor, rng) for _ in range(batch)]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1:2}  loss {loss.item():.3f}", flush=True)

    def ask(prompt, answer):
        chance = torch.exp(-cross_entropy(*predict(lm, prompt, answer))).item()  # a token, in the mean
        return chance, lm.decode([int(lm.model(torch.tensor([lm.encode(prompt)])).logits[0, -1].argmax())])

    questions = [(wording.format(UNSEEN[0]), UNSEEN[2]) for wording in ASK[UNSEEN[1]]]
    questions += [("The capital of Austria is", "Vienna"), ("Most people in Turkey speak", "Turkish")]
    before = [ask(*question) for question in questions]
    with replaced(lm, editor(capture(lm, *UNSEEN))):
        after = [ask(*question) for question in questions]
    for (prompt, answer), (p, said), (q, says) in zip(questions, before, after, strict=True):
        print(f"{prompt} ... {answer}: {p:.3f} -> {q:.3f}; next token {said!r} -> {says!r}")
    return [(p, q) for (p, _), (q, _) in zip(before, after, strict=True)]


if __name__ == "__main__":
    main(tiny="--tiny" in sys.argv)
