"""`instructedit ls`: the names that the other commands take."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

from instructedit.cli.options import COMMON, Common
from instructedit.cli.report import Report, make_table

What = Literal["models", "editors", "methods", "tasks", "configs", "instructions"]
Listing = tuple[tuple[str, ...], list[tuple[object, ...]]]


def list_names(what: What, /, *, common: Common = COMMON) -> Report:
    """List what there is.

    Parameters
    ----------
    what
        models, editors (trained, to be trained and without a training), methods (those without, and where
        they edit), tasks, configs (of a training) or instructions (how many wordings each task has).
    """
    columns, rows = LISTINGS[what]()
    data = [dict(zip(columns, row, strict=True)) for row in rows]
    return Report(data, [make_table(what.capitalize(), columns, rows)])


def _models() -> Listing:
    from instructedit.backbone.default_model import FOLDER_NAME, SOURCE_FILE, cache_folder

    folder = cache_folder() / "models" / FOLDER_NAME
    ready = (folder / SOURCE_FILE).is_file()
    note = str(folder) if ready else "fetched by `instructedit model`"
    anything = ("…", False, "any causal language model: a hub id, a folder, or a .gguf file")
    return ("model", "here", "note"), [("default", ready, note), anything]


def _editors() -> Listing:
    """Whatever makes edits: files of trained editors, what is trained first, and methods."""
    columns = ("editor", "paper", "needs training", "result", "here", "note")
    return columns, [*_files(), *_trainings(), *_untrained()]


def _files() -> Iterator[tuple[object, ...]]:
    from instructedit.cli.loading import EDITORS, find_editor
    from instructedit.editors.editor_file import read_header
    from instructedit.editors.instructed import EditorConfig
    from instructedit.editors.registry import find_trained

    for name in EDITORS:
        path = find_editor(name)
        header = read_header(path) if path.is_file() else {}
        kind = find_trained(header.get("editor", {}).get("kind", EditorConfig.kind)).settings
        tasks = ", ".join(header.get("tasks", ()))
        note = f"for {header['model']['name']}, trained on {tasks}: {path}" if header else str(path)
        yield (name, kind.paper, False, kind.result, bool(header), note)


def _trainings() -> Iterator[tuple[object, ...]]:
    from instructedit.training.config import config_names, named_config

    for name in config_names():
        kind = named_config(name).editor
        yield (name, kind.paper, True, kind.result, False, f"instructedit train {name}")


def _untrained() -> Iterator[tuple[object, ...]]:
    from instructedit.editors.registry import METHODS, find_method

    for name in METHODS:
        kind = find_method(name)
        yield (name, kind.paper, False, kind.result, True, _place(kind))


def _methods() -> Listing:
    rows: list[tuple[object, ...]] = [(row[0], row[1], row[3], row[5]) for row in _untrained()]
    return ("method", "paper", "result", "where"), rows


def _place(kind: Any) -> str:
    """Where a method edits, in words."""
    if kind.result == "context":
        return "in front of the question"
    if kind.depth is None:
        return "MLP of the last blocks"
    layers = getattr(kind, "layers", 1)
    return f"{layers} block{'s' * (layers > 1)} at {kind.depth:.0%} of the depth"


def _tasks() -> Listing:
    from instructedit.data.layouts import load_layouts

    rows = sorted((x.task, x.name, x.title, x.kind, ", ".join(x.required)) for x in load_layouts())
    return ("task", "layout", "title", "kind", "needs"), list(rows)


def _instructions() -> Listing:
    from instructedit.data.layouts import named_layouts
    from instructedit.instructions import count_instructions, list_tasks
    from instructedit.instructions.banks import find_bank

    rows: list[tuple[object, ...]] = []
    for task in list_tasks():
        bank = find_bank(task, named_layouts(task)[0].kind)
        counts = (count_instructions(task, "train"), count_instructions(task, "unseen"))
        rows.append((task, bank.kind, *counts, bank.wordings["train"][0]))
    return ("task", "kind", "wordings", "kept unseen", "example"), rows


def _configs() -> Listing:
    from instructedit.training.config import config_names, named_config

    rows: list[tuple[object, ...]] = []
    for name in config_names():
        config = named_config(name)
        where = config.sites or f"MLP of the last {config.blocks} blocks"
        rows.append((name, config.steps, config.batch, where, config.editor.prefix))
    return ("config", "steps", "batch", "sites", "instruction as prefix"), rows


LISTINGS: dict[What, Callable[[], Listing]] = {
    "models": _models,
    "configs": _configs,
    "editors": _editors,
    "methods": _methods,
    "tasks": _tasks,
    "instructions": _instructions,
}
