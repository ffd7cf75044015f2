"""What every test shares: no network, one thread, and tiny models of every family."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from tiny_models import FAMILY_NAMES, tiny_backbone

torch.set_num_threads(1)


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
