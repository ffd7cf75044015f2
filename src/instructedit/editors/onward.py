"""How texts go on by themselves: what an edit is to leave as it was, behind its answer and elsewhere."""

from collections.abc import Sequence

from instructedit.backbone import Backbone, Text
from instructedit.backbone.generation import continue_texts


def go_onward(backbone: Backbone, texts: Sequence[Text], tokens: int, subject: str) -> list[Text]:
    """Each text, with what the unedited model says next in the place of its answer: `tokens` at the most.

    As long as nothing of that is moved, the edited model says the same. A text ends before it names the
    `subject`: behind that the request may stand once more, and is to be answered.
    """
    found = []
    for text, said in zip(texts, continue_texts(backbone, texts, tokens, first_line=False), strict=True):
        ids = said.ids
        while ids and subject and subject in backbone.tokenizer.decode(list(ids)):
            ids = ids[:-1]
        found.append(Text((*text.ids, *ids), len(text.ids)))
    return found
