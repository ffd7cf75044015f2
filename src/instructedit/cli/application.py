"""The table of commands; adding one is one line here and one short file."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cyclopts import App

from instructedit.cli.config_file import apply_config

COMMANDS = {
    "model": "instructedit.cli.model:show_model",
    "train": "instructedit.cli.train:train_editor",
    "edit": "instructedit.cli.edit:edit_model",
    "evaluate": "instructedit.cli.evaluate:evaluate_editor",
    "search": "instructedit.cli.search:search_settings",
    "curve": "instructedit.cli.curve:measure_curve",
    "analyse": "instructedit.cli.analyse:analyse_directions",
    "export": "instructedit.cli.export:export_edit",
    "ls": "instructedit.cli.ls:list_names",
    "bench": "instructedit.cli.bench:measure_speed",
    "card": "instructedit.cli.card:write_card",
    "experiment": "instructedit.cli.experiment:run_experiment",
    "report": "instructedit.cli.experiment_report:report_experiment",
    "serve": "instructedit.cli.serve:serve_page",
}
DATA_COMMANDS = {"make": "instructedit.cli.data:make_data"}
INSTRUCTION_COMMANDS = {"make": "instructedit.cli.instructions:make_instructions"}
STORE_COMMANDS = {
    "init": "instructedit.cli.store.init:init_store",
    "add": "instructedit.cli.store.add:add_edits",
    "log": "instructedit.cli.store.reading:show_log",
    "show": "instructedit.cli.store.reading:show_edit",
    "undo": "instructedit.cli.store.undo:undo_edits",
    "redo": "instructedit.cli.store.undo:redo_edit",
    "replace": "instructedit.cli.store.replace:replace_edit",
    "diff": "instructedit.cli.store.reading:show_difference",
    "check": "instructedit.cli.store.check:check_store",
    "card": "instructedit.cli.store.card:write_store_card",
    "import": "instructedit.cli.store.importing:import_edits",
    "export": "instructedit.cli.store.exporting:export_store",
}
HELP = "Change one thing a language model believes, by an instruction, and keep the change as a LoRA adapter."


def make_app() -> App:
    """The application with its commands. Their files are light: torch is imported when a command runs."""
    app = App(
        name="instructedit",
        help=HELP,
        version=_version(),
        config=[apply_config],
        help_format="plaintext",
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
    )
    for name, target in COMMANDS.items():
        app.command(_find(target), name=name)
    _add_group(app, "data", "The project's own data set.", DATA_COMMANDS)
    _add_group(app, "instructions", "What editors are told.", INSTRUCTION_COMMANDS)
    _add_group(app, "store", "The record of every edit made to a model.", STORE_COMMANDS)
    return app


def _add_group(app: App, name: str, text: str, commands: dict[str, str]) -> None:
    group = App(name=name, help=text)
    for part, target in commands.items():
        group.command(_find(target), name=part)
    app.command(group)


def _find(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _version() -> str:
    try:
        return version("instructedit")
    except PackageNotFoundError:
        return "unknown"
