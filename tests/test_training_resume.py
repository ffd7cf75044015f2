"""A killed run goes on as if nothing had happened, and two processes do the work of one."""

import json
import multiprocessing
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from instructedit.backbone import Backbone
from instructedit.errors import DataError
from instructedit.storage import load_tensors
from instructedit.training.loop import train
from tiny_editors import CONFIG, tiny_course

pytestmark = pytest.mark.slow

STEPS = 7


def train_in(out: Path, backbone: Backbone, kill_at: int | None = None) -> None:
    """Train for `STEPS` steps; `kill_at` kills the process after that step, or in the prefix states at 0."""
    config = replace(CONFIG, steps=STEPS)

    def strike(step: int) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if kill_at == 0:
        backbone.encode = lambda _texts: strike(0)
    train(config, backbone, tiny_course(config), out, on_step=strike)


def killed(out: Path, backbone: Backbone, step: int) -> None:
    child = multiprocessing.get_context("fork").Process(target=train_in, args=(out, backbone, step))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(llama: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole")
    train_in(out, llama)
    return out


@pytest.mark.parametrize("kills", [(0,), (1,), (4,), (5, 6)])
def test_a_killed_run_ends_like_one_that_was_not(
    llama: Backbone, whole: Path, tmp_path: Path, kills: tuple[int, ...]
) -> None:
    for step in kills:
        killed(tmp_path, llama, step)
        assert (tmp_path / "checkpoint.safetensors").is_file()
    train_in(tmp_path, llama)
    for name in ("editor.safetensors", "checkpoint.safetensors"):
        tensors, header = load_tensors(tmp_path / name)
        expected, told = load_tensors(whole / name)
        assert header == told
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[key], expected[key]) for key in expected)
    assert (tmp_path / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_a_finished_run_does_nothing_more(llama: Backbone, whole: Path) -> None:
    before = (whole / "metrics.jsonl").read_text()
    train_in(whole, llama)
    assert (whole / "metrics.jsonl").read_text() == before


def one_of_two(rank: int, port: int, out: Path, backbone: Backbone) -> None:
    """What `torchrun --nproc_per_node 2` gives each of its processes, and the run itself."""
    AcceleratorState._reset_state(reset_partial_state=True)
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({key: str(value) for key, value in (ranks | {"MASTER_PORT": port}).items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    train_in(out, backbone)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_give_the_editor_of_one(llama: Backbone, whole: Path, tmp_path: Path) -> None:
    port, start = free_port(), multiprocessing.get_context("fork").Process
    children = [start(target=one_of_two, args=(rank, port, tmp_path, llama)) for rank in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    two, one = (load_tensors(folder / "checkpoint.safetensors")[0] for folder in (tmp_path, whole))
    for name in (name for name in one if name.startswith("model.")):
        torch.testing.assert_close(two[name], one[name], rtol=0.02, atol=2e-3)
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [line["step"] for line in expected]
    losses = [torch.tensor([line["loss"] for line in lines if "loss" in line]) for lines in (log, expected)]
    torch.testing.assert_close(losses[0], losses[1], rtol=0.02, atol=1e-3)


def test_edits_that_cannot_be_shared_evenly_are_refused(
    llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 3)
    with pytest.raises(DataError, match="a step of 2 edits cannot be shared by 3 processes"):
        train(CONFIG, llama, tiny_course(), tmp_path)
