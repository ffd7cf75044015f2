"""What every test shares: no network, one thread, and tiny models of every family."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
import torch

from cli_run import Run, make_run
from instructedit.backbone.default_model import cache_folder
from instructedit.editors import kept, ordinary
from instructedit.editors.ordinary import plain_passages
from tiny_models import FAMILY_NAMES, tiny_backbone, tiny_folder

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first: at the end no worker waits for another."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(params=FAMILY_NAMES)
def family(request: pytest.FixtureRequest) -> str:
    """Each of the eight families in turn."""
    return request.param


@pytest.fixture(scope="session")
def llama():
    """One tiny Llama backbone for the whole session: nobody may write to its weights."""
    return tiny_backbone("llama")


@pytest.fixture
def backbone(family: str):
    """A tiny backbone of each family in turn."""
    return tiny_backbone(family)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in a folder of its own: nobody may write into it."""
    return tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def little_ordinary_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the package's passages for all of them: tiny models need no more, and are asked often."""
    monkeypatch.setattr(ordinary, "plain_passages", lambda: plain_passages()[:2])
    monkeypatch.setattr(ordinary, "TEXTS", 200)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What tiny models give is kept by each test for itself, or where it says; not in the user's cache."""

    def folder() -> Path:
        return cache_folder() if "INSTRUCTEDIT_CACHE" in os.environ else tmp_path / "kept"

    monkeypatch.setattr(kept, "cache_folder", folder)


@pytest.fixture
def few_wordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an editor is taught to read: a few instructions of each sort, where it is not looked how well."""
    from instructedit.training import asked, told

    whole = asked.load_asked()
    few = {name: {split: lists[:6] for split, lists in part.items()} for name, part in whole.items()}
    monkeypatch.setattr(asked, "load_asked", lambda: few)
    monkeypatch.setattr(told, "OPERATIONS", 1)
    monkeypatch.setattr(told, "SCOPES", 1)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line inside the test process."""
    return make_run(capsys)


@pytest.fixture(scope="module")
def pair(llama):
    """A tiny model with its editor, as the page has them."""
    from app_desk import tiny_pair

    return tiny_pair(llama)


@pytest.fixture
def functions(pair):
    """The page's functions on a tiny model, closed at the end."""
    from app_desk import tiny_functions

    made = tiny_functions(pair)
    yield made
    made.desk.close()


@pytest.fixture
def token(functions) -> str:
    """A visitor's session."""
    return functions.desk.open()
