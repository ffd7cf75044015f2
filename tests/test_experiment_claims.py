"""Claims: one process at a time, dead ones taken over, strangers believed."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from instructedit.experiment.claims import TOKEN, Claims, owner
from instructedit.processes import started


def test_of_many_claimants_one_at_the_most_has_the_claim(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        for number in range(30):
            dead = tmp_path / f"cell{number}.0.lock"
            dead.write_text(json.dumps({**owner(), "token": "of an earlier process"}))
            taken = list(pool.map(lambda _i, n=number: claims.take(f"cell{n}"), range(8)))
            assert sum(path is not None for path in taken) <= 1
            assert len(list(tmp_path.glob(f"cell{number}.*.lock"))) <= 1
            assert not dead.exists() or not any(taken)
            assert any(taken) or claims.take(f"cell{number}")  # whoever asks alone has it


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def claim_of(folder: Path, pid: int, host: str | None = None, token: str = "x") -> Path:
    path = folder / "cell.0.lock"
    path.write_text(json.dumps({"pid": pid, "host": host or socket.gethostname(), "token": token}))
    return path


def test_a_dead_claim_is_taken_over_and_others_are_believed(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    dead = claim_of(tmp_path, ended_process())
    with claims.hold("cell") as held:
        assert held
        assert not dead.exists()
        with claims.hold("cell") as again:
            assert not again
    assert not list(tmp_path.iterdir())
    for pid, host, token, free in (
        (os.getppid(), None, "x", False),  # alive
        (ended_process(), "another-host", "x", False),  # nobody can tell
        (os.getpid(), None, TOKEN, False),  # our own
        (os.getpid(), None, "x", True),  # our number, before it was ours
    ):
        path = claim_of(tmp_path, pid, host, token)
        with claims.hold("cell") as held:
            assert held is free
        path.unlink(missing_ok=True)


def test_a_number_that_was_given_again_is_of_another_process(tmp_path: Path) -> None:
    since = started(os.getppid())
    assert started(ended_process()) == ""
    for told, free in ((since, False), (f"{since}0", bool(since)), ("", False)):
        path = claim_of(tmp_path, os.getppid())
        path.write_text(json.dumps({**json.loads(path.read_text()), "since": told}))
        with Claims(tmp_path).hold("cell") as held:
            assert held is free
        path.unlink(missing_ok=True)


def test_a_claim_that_names_nobody_is_believed_for_a_minute(tmp_path: Path) -> None:
    path = tmp_path / "cell.0.lock"
    path.touch()
    assert Claims(tmp_path).take("cell") is None
    os.utime(path, (0, 0))
    assert Claims(tmp_path).take("cell") is not None
