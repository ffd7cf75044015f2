"""The run's log: one JSON line a step, and one a validation."""

import json
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType

from instructedit.errors import DataError, unknown_name
from instructedit.storage import write_atomic


def check_trackers(names: Sequence[str]) -> None:
    """See that accelerate knows some trackers, and that their packages are there.

    Errors: `UnknownNameError` with the nearest name, `DataError` for one that is not installed.
    """
    known = [LoggerType.ALL.value, *LOGGER_TYPE_TO_CLASS]
    for name in names:
        if name not in known:
            raise unknown_name("tracker", name, known)
        if name in LoggerType.list() and LoggerType(name) not in (LoggerType.ALL, *get_available_trackers()):
            raise DataError(
                f"the tracker {name} is not installed here. Install its package, or leave --tracker out: "
                "metrics.jsonl is written in any case."
            )


class MetricsLog:
    """``metrics.jsonl``; lines past the checkpoint are cut when a run is continued."""

    def __init__(self, path: Path, step: int, accelerator: Accelerator) -> None:
        self.path, self.accelerator = path, accelerator
        self.lines: list[str] = []
        if accelerator.is_main_process:
            old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            write_atomic(path, "".join(f"{line}\n" for line in old if _step_of(line) <= step))

    def add(self, step: int, values: dict[str, float]) -> None:
        """Keep one line until the next `flush`, and hand it to the trackers."""
        self.lines.append(json.dumps({"step": step, **{k: round(v, 6) for k, v in values.items()}}))
        self.accelerator.log(values, step=step)

    def flush(self) -> None:
        """Append the kept lines to the file."""
        if self.accelerator.is_main_process and self.lines:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in self.lines)
        self.lines.clear()


class MeanReadings:
    """The mean of each reading over the parts of a step that have it."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, readings: dict[str, float]) -> None:
        for name, value in readings.items():
            self.values.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        return {name: sum(values) / len(values) for name, values in sorted(self.values.items())}


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError):
        return float("inf")
