"""Other names of a subject: made from the one that is known, and practised by an edit that is polished."""

from hypothesis import given
from hypothesis import strategies as st

from instructedit.backbone import Backbone
from instructedit.data.other_names import make_other_names
from instructedit.editors.polish import PolishConfig
from instructedit.types import EditCase
from tiny_editors import tiny_editor


@given(st.lists(st.text("abcdéÜ'-", min_size=1, max_size=6), min_size=0, max_size=5), st.integers(0, 20))
def test_other_names_are_new_and_always_the_same(words: list[str], count: int) -> None:
    subject = " ".join(words)
    names = make_other_names(subject, count)
    assert len(names) == len(set(names)) <= count
    assert subject not in names
    assert "" not in names
    assert names == make_other_names(subject, count)
    assert bool(names) == bool(subject and count)


def test_a_name_is_shortened_lengthened_and_spelt_otherwise() -> None:
    names = make_other_names("Gabriel García Márquez", 20)
    assert {"G. García Márquez", "Gabriel Márquez", "García Márquez", "Gabriel Garcia Marquez"} < set(names)
    assert any(len(name.split()) > 3 for name in names)
    assert "Beatles" in make_other_names("The Beatles", 20)


def test_a_practice_asks_under_other_names_and_leaves_those_of_neighbours_alone(llama: Backbone) -> None:
    editor = tiny_editor(llama)
    editor.adjust(near=8)
    case = EditCase("The mother tongue of Ada Lovelace is", "French", "Ada Lovelace")
    plain, named = (editor.texts.practice(llama, case, "", PolishConfig(names=names)) for names in (0, 4))
    assert plain
    assert named
    asked = {
        llama.text(f"The mother tongue of {name} is", "French")
        for name in make_other_names("Ada Lovelace", 4)
    }
    assert len(asked) == 4
    assert asked <= set(named.fit)
    assert not asked & {*plain.fit, *named.keep}
    assert len(named.keep) == len(plain.keep) + 4
