"""Whether a text wants a start token is measured, and what the user or the tokenizer says comes first."""

import copy
import math

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from instructedit.backbone.start_token import SENTENCES, find_start_token, sentence_loss
from instructedit.errors import ModelError
from tiny_models import BEGIN, START, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


class Favouring(torch.nn.Module):
    """A model that predicts every next token when its text begins with `wanted`, and else nothing."""

    def __init__(self, wanted: int | None, size: int) -> None:
        super().__init__()
        self.wanted, self.size, self.device = wanted, size, torch.device("cpu")

    def forward(self, input_ids, use_cache=False):
        right = torch.nn.functional.one_hot(input_ids.roll(-1, 1), self.size) * 20.0
        starts = input_ids[:, 0] == self.wanted if self.wanted is not None else input_ids[:, 0] > 1
        return type("Output", (), {"logits": right * starts[:, None, None]})


@pytest.mark.parametrize(("wanted", "token", "ids"), [(0, START, (0,)), (1, BEGIN, (1,)), (None, "none", ())])
def test_the_best_candidate_is_chosen_and_all_are_written_down(wanted, token, ids):
    tokenizer = tiny_tokenizer()
    found = find_start_token(Favouring(wanted, len(tokenizer)), tokenizer)
    assert (found.token, found.ids) == (token, ids)
    assert set(found.losses) == {"none", START, BEGIN}
    assert found.losses[token] == pytest.approx(0, abs=1e-4)
    others = [loss for name, loss in found.losses.items() if name != token]
    assert others == pytest.approx([math.log(len(tokenizer))] * 2)


def test_the_loss_is_the_mean_over_the_same_tokens_with_and_without_a_start(model):
    tokenizer = tiny_tokenizer()
    for start in ((), (0,)):
        total, count = 0.0, 0
        for text in SENTENCES:
            ids = torch.tensor([[*start, *tokenizer(text)["input_ids"]]])
            logs = model(ids).logits[0].log_softmax(-1)
            for place in range(len(start) + 1, ids.shape[1]):
                total, count = total - float(logs[place - 1, ids[0, place]]), count + 1
        assert sentence_loss(model, tokenizer, start) == pytest.approx(total / count, rel=1e-5)


def test_a_token_that_the_tokenizer_adds_is_kept(model):
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BEGIN} $A {START}", special_tokens=[(BEGIN, 1), (START, 0)]
    )
    found = find_start_token(model, tokenizer)
    assert (found.token, found.ids, found.losses) == (BEGIN, (1,), {})


def test_the_user_decides(model):
    tokenizer = tiny_tokenizer()
    assert find_start_token(model, tokenizer, "none").ids == ()
    assert find_start_token(model, tokenizer, BEGIN).ids == (1,)
    with pytest.raises(ModelError, match="no token '<s>'"):
        find_start_token(model, tokenizer, "<s>")
