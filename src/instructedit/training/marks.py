"""Teaching marks: the vector that, written where a name ends, can be read in all that follows it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, Text
from instructedit.backbone.hooks import catch_input
from instructedit.backbone.neurons import find_neurons
from instructedit.data.anchors import load_anchor_book, load_names
from instructedit.editors.editor_file import load_editor, read_facts, save_editor
from instructedit.editors.ground import Ground, survey_blocks
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.location import last_of, moved
from instructedit.editors.marks import marking_neurons
from instructedit.editors.ordinary import make_piece
from instructedit.editors.polish import rate_at
from instructedit.errors import DataError
from instructedit.metrics import kl_divergence
from instructedit.progress import track

HELD = 0.1  # share of the names that validation asks
START = 9.0  # size of the first vector, in usual ones of what the MLP gives
STRIDE = 1 / 73  # of a step, in sizes of the first vector
RIDGE = 1e-2  # of what ordinary text reads
SIZES = (0.7, 1.2)  # a mark may be as faint or as strong as that


@dataclass(frozen=True)
class MarkConfig:
    """How a mark is taught; `steps` of zero leaves gates without."""

    steps: int = 0
    texts: int = 12  # a step
    reach: float = 3.5  # how far a mark shall move what is read, in standard deviations of ordinary text
    weight: float = 60.0  # of KL(unmarked ‖ marked), nats a token
    settled: float = 0.7  # share of the steps after which the direction that is read stays


@dataclass(frozen=True)
class Named:
    """Texts that go on behind a name, and the place at which each name ends."""

    texts: list[Text]
    ends: list[int]

    def behind(self) -> tuple[list[int], list[int]]:
        """Row and column of every token from the end of the name on."""
        pairs = zip(self.texts, self.ends, strict=True)
        found = [(row, place) for row, (text, end) in enumerate(pairs) for place in range(end, len(text.ids))]
        return [row for row, _ in found], [place for _, place in found]


def teach_mark_file(
    path: Path, target: Path, backbone: Backbone, config: MarkConfig, seed: int = 0
) -> dict[str, float]:
    """`teach_mark` for the editor in the file `path`; it is written to `target`, which may be the same.

    Of several processes the main one does it all, the others give nothing. Errors: as `teach_mark`.
    """
    if not Accelerator(cpu=backbone.device.type == "cpu").is_main_process:
        return {}
    editor = load_editor(path, backbone)
    readings = teach_mark(editor, backbone, config, seed)
    told = {"seed": seed, "steps": config.steps, "validation": readings}
    save_editor(editor, target, backbone, {**read_facts(path), "mark": told})
    return readings


def teach_mark(
    editor: InstructedEditor, backbone: Backbone, config: MarkConfig, seed: int = 0
) -> dict[str, float]:
    """Have an editor learn its mark from the package's names and prompts, and nothing else.

    Gives of names that were kept out how far their marks reach, and what they do to predictions, in nats a
    token. Errors: `DataError` for a model without neurons that could be marked with.
    """
    places = marking_neurons(backbone), find_neurons(backbone, len(backbone.blocks) - 1)
    known = [neurons for neurons in places if neurons]
    if len(known) < len(places):
        raise DataError(
            "no subject can be marked in this model: its MLPs are built otherwise than is known here, or "
            "there are too few. Expected two blocks of one gate or reading layer each, or --set mark.steps=0."
        )
    lesson = _Lesson(backbone, survey_blocks(backbone, known, editor.config.neurons.ordinary), config, seed)
    editor.adjust(gate=replace(editor.config.gate, marked=True))
    editor.mark = lesson.learn()
    return lesson.validate(editor.mark)


class _Lesson:
    """Descent on the mark: what is read behind it shall move, and what is said shall not."""

    def __init__(self, backbone: Backbone, grounds: Sequence[Ground], config: MarkConfig, seed: int) -> None:
        self.config, self.seed, marked, heard = config, seed, *grounds
        self.down, self.gate = marked.neurons.down, heard.neurons.gate
        self.backbone = backbone.reaching([self.down, self.gate])
        self.usual = marked.usual
        rows = heard.rows - heard.rows.mean(0)
        spread = rows.mT @ rows / len(rows)
        eye = torch.eye(len(spread), device=spread.device)
        self.spread = spread + RIDGE * spread.diagonal().mean() * eye
        self.along = torch.zeros(backbone.width, device=spread.device)
        names = list(load_names())
        random.Random(seed).shuffle(names)
        held = round(HELD * len(names))
        self.held, self.names = names[:held], names[held:]

    def learn(self) -> Float[Tensor, " d"]:
        """The mark after all steps, each on other texts.

        What is moved is read along the direction that tells marked rows from unmarked ones (Fisher's), taken
        anew at each step until the descent has settled.
        """
        config, noise = self.config, torch.Generator().manual_seed(self.seed)
        written = nn.functional.normalize(torch.randn(self.backbone.width, generator=noise), dim=0)
        size = START * self.usual * self.backbone.width**0.5
        leaf = (size * written.to(self.along.device)).requires_grad_()
        optimiser = torch.optim.Adam([leaf], STRIDE * size, betas=(0.8, 0.95))
        shift = torch.zeros_like(self.along)
        for step in track(range(config.steps), "Teaching marks", config.steps):
            rng = random.Random(f"{self.seed}|mark|{step}")
            named = self._draw(self.names, config.texts, rng)
            sizes = torch.tensor([rng.uniform(*SIZES) for _ in named.texts], device=leaf.device)
            with torch.enable_grad():
                rows, divergence = self._ask(named, leaf, sizes)
                shift = 0.8 * shift + 0.2 * rows.detach().mean(0)
                if step < config.settled * config.steps:
                    self.along = self._aim(shift)
                lacking = nn.functional.softplus(config.reach - rows @ self.along).mean()
                (lacking + config.weight * divergence.mean()).backward()
            assert leaf.grad is not None
            leaf.grad /= leaf.grad.norm() + 1e-9
            optimiser.param_groups[0]["lr"] = STRIDE * size * rate_at(step, config.steps)
            optimiser.step()
            optimiser.zero_grad()
        return leaf.detach()

    @torch.no_grad()
    def validate(self, written: Float[Tensor, " d"]) -> dict[str, float]:
        """How far marks of names that were kept out reach, the mean and the lowest tenth, and their KL."""
        named = self._draw(self.held, 8 * self.config.texts, random.Random(f"{self.seed}|validation"))
        rows, divergence = self._ask(named, written, torch.ones(len(named.texts), device=written.device))
        reached = rows @ self.along
        return {
            "reach": float(reached.mean()),
            "least": float(reached.quantile(0.1)),
            "kl": float(divergence.mean()),
        }

    def _ask(
        self, named: Named, written: Float[Tensor, " d"], sizes: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """From the end of each name on, by how much a mark moves what is read and what is predicted."""
        low, (rows, columns) = self.backbone, named.behind()
        hidden, places = low.prefix(named.texts), torch.tensor(named.ends, device=written.device)
        with torch.no_grad():
            plain, said = self._read(hidden, rows, columns)
        with moved(low.modules[self.down], sizes[:, None] * written, places):
            read, told = self._read(hidden, rows, columns)
        return (read - plain).float(), kl_divergence(said, told)

    def _read(
        self, hidden: Float[Tensor, "b t d"], rows: Sequence[int], columns: Sequence[int]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n v"]]:
        """What the gates' block reads at some tokens, and the logits there."""
        caught: list[Tensor] = []
        module = self.backbone.modules[self.gate]
        hook = module.register_forward_pre_hook(partial(catch_input, caught), with_kwargs=True)
        try:
            top = self.backbone.top(hidden)
        finally:
            hook.remove()
        return caught[0][rows, columns], self.backbone.logits(top[rows, columns])

    def _aim(self, shift: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        along = torch.linalg.solve(self.spread, shift)
        return along / (along @ self.spread @ along).sqrt().clamp(min=1e-9)

    def _draw(self, names: Sequence[str], count: int, rng: random.Random) -> Named:
        """Prompts about names, half of them with an answer, most of them behind something else."""
        book = load_anchor_book()
        forms = [*(form for form, _ in book["own"]), *book["further"]]
        texts, ends = [], []
        for _ in range(count):
            name, lead = rng.choice(names), make_piece(rng) if rng.random() < 0.7 else ""
            prompt = f"{lead} {rng.choice(forms).replace('{s}', name)}".strip()
            text = self.backbone.text(prompt, rng.choice(book["answers"]) if rng.random() < 0.5 else "")
            texts.append(text)
            ends.append(last_of(self.backbone, prompt, name, text.ids))
        return Named(texts, ends)
