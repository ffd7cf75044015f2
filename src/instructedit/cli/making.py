"""The options of `instructedit instructions make`, and who writes and who is tried by them."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Group, Parameter

from instructedit.cli.options import Count, ModelChoice, Paths, Switch, Texts
from instructedit.cli.train_options import TrainModel, TrainSample
from instructedit.errors import ModelError

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.making import MakingConfig, Records, TrialEditor, Writer

MAKING_GROUP, WRITER_GROUP = Group("Making", sort_key=0), Group("Writer", sort_key=1)


@Parameter(name="*", group=MAKING_GROUP)
@dataclass(frozen=True)
class Loop:
    """What is tried on which records, how long, and where it is kept."""

    out: Path | None = None
    """Folder for bank.yaml, check.json and trace.jsonl; one that was interrupted is continued."""

    data: Paths = ()
    """Files of the task's records, or a folder of them; left out, the project's own facts of its kind."""

    skip_bad: Switch = False
    """Leave records out that cannot be read, and list them."""

    editor: str = "default"
    """Name or file of the trial editor, or name of a method (see `instructedit ls methods`)."""

    setting: Texts = ()
    """One setting of a method or trained editor as name=value; repeatable."""

    candidates: int = 10
    """Descriptions asked for in a round."""

    shown: int = 5
    """Records that the writer sees."""

    cases: int = 48
    """Records that each description is scored with; as many more check the result."""

    rounds: int = 8
    """Rounds at the most."""

    patience: int = 2
    """Rounds without a better score before it stops."""

    keep: int = 20
    """Descriptions in the bank; one of five is kept unseen."""

    retrain: Switch = False
    """Train an editor with every round's descriptions and score with that, the paper's way."""

    retrain_steps: Count = 200
    """Steps of each of these trainings."""

    training: str = "instructedit"
    """Configuration of these trainings (see `instructedit ls configs`), or a YAML file of settings."""

    batch: Count = 16
    """Edits asked together; changes the time and nothing else."""


@Parameter(name="*", group=WRITER_GROUP)
@dataclass(frozen=True)
class Writing:
    """Which language model writes."""

    writer: str = ""
    """Hub id, folder or GGUF file of a chat model, or its name on the server; left out, the edited model."""

    url: str = ""
    """Server that speaks the OpenAI chat protocol, such as http://localhost:8000/v1."""

    key_variable: str = "INSTRUCTEDIT_KEY"
    """Environment variable that holds the server's key; none is sent where it is not set."""

    temperature: float = 0.8
    """How freely the writer draws its words; 0 is greedy."""

    tokens: Count = 1000
    """Tokens of one answer at the most."""

    timeout: float = 120.0
    """Seconds that the server may take for one answer."""


LOOP, WRITING = Loop(), Writing()


def connect(writing: Writing) -> "Writer":
    """The server that the options name, with the key from the environment.

    Errors: `ModelError` for an address, a name or a variable that cannot be used.
    """
    from instructedit.making.server import ChatServer

    if not writing.writer:
        raise ModelError("--url needs the model's name on the server. Expected --writer NAME.")
    if not writing.key_variable.isidentifier():
        raise ModelError("--key-variable is no variable's name. Expected the name, never the key itself.")
    key = os.environ.get(writing.key_variable, "")
    return ChatServer(writing.url, writing.writer, key, writing.temperature, writing.tokens, writing.timeout)


def load_local_writer(writing: Writing, backbone: "Backbone", model: ModelChoice) -> "Writer":
    """The model that `--writer` names, or the edited model itself. Errors: `ModelError` as `load_chat`."""
    from instructedit.backbone.chat import LocalChat, load_chat

    told = {"temperature": writing.temperature, "max_tokens": writing.tokens}
    if writing.writer:
        return load_chat(writing.writer, device=model.device, dtype=model.dtype, **told)
    return LocalChat(backbone.model, backbone.tokenizer, backbone.name, **told)


def describe_settings(
    task: str,
    config: "MakingConfig",
    records: "Records",
    loop: Loop,
    writing: Writing,
    model: ModelChoice,
) -> dict[str, Any]:
    """All that decides what the rounds hold; a trace with other settings is not continued."""
    from instructedit.making.trace import digest

    cases = [asdict(case) for part in (records.rest, records.validation, records.check) for case in part]
    trained = ["pass alone", loop.training, loop.retrain_steps, *_file_digest(Path(loop.training))]
    trial = trained if loop.retrain else [_editor_digest(loop), *loop.setting]
    return {
        "task": task,
        **config.lasting(),
        "data": digest({"cases": cases}),
        "trial": trial,
        "model": [model.model, model.sites, model.blocks, model.start, model.dtype],
        "writer": [writing.writer, writing.url.partition("?")[0], writing.temperature, writing.tokens],
    }


def _file_digest(path: Path) -> list[str]:
    """The checksum of a file of settings; nothing for a name."""
    from instructedit.storage import sha256_file

    return [sha256_file(path)[:16]] if path.is_file() else []


def _editor_digest(loop: Loop) -> str:
    from instructedit.cli.loading import EDITORS, find_editor
    from instructedit.editors.registry import METHODS
    from instructedit.storage import sha256_file

    if loop.editor in METHODS:
        return loop.editor
    path = find_editor(loop.editor, [*EDITORS, *METHODS])
    return sha256_file(path)[:16] if path.is_file() else str(path)


def choose_trial(
    records: "Records", loop: Loop, model: TrainModel, sample: TrainSample
) -> "tuple[Backbone, TrialEditor]":
    """The model, and the editor of each round: always the same, or trained with the round's descriptions.

    Errors: as `load_by_name`, `read_settings` and `load_model`.
    """
    from instructedit.cli.loading import load_by_name, load_model
    from instructedit.making import Retraining, keep_editor

    if not loop.retrain:
        backbone, editor = load_by_name(model.plain(), loop.editor, loop.setting)
        return backbone, keep_editor(editor)
    from instructedit.cli.train import read_settings

    changes = (f"steps={loop.retrain_steps}",)
    settings = read_settings(loop.training, changes, model.sites, model.blocks, sample.seed)
    settings = replace(settings, validate_every=min(settings.validate_every, settings.steps))
    backbone = load_model(replace(model.plain(), sites=settings.sites, blocks=settings.blocks))
    assert loop.out is not None
    return backbone, Retraining(backbone, records.rest, settings, loop.out)
