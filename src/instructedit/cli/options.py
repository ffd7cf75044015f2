"""The options that commands share, as frozen dataclasses that cyclopts spreads over the command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter, validators

Dtype = Literal["float32", "bfloat16", "float16", "auto"]
Switch = Annotated[bool, Parameter(negative="", show_default=False)]
Texts = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False, show_default=False)]
Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]
Paths = Annotated[tuple[Path, ...], Parameter(negative="", consume_multiple=True, show_default=False)]

MODEL_GROUP = Group("Model", sort_key=2)
COMMON_GROUP = Group("Common", sort_key=3)


@Parameter(name="*", group=COMMON_GROUP)
@dataclass(frozen=True)
class Common:
    """How a command runs, whatever it does."""

    config: Path | None = None
    """YAML file with values for this command's options; the command line wins."""

    json: Switch = False
    """Print one JSON document on stdout and nothing else there."""

    dry_run: Switch = False
    """Check the input, say what would be done, and stop before any model is loaded."""

    debug: Switch = False
    """Show the traceback of an error."""


@Parameter(name="*", group=COMMON_GROUP)
@dataclass(frozen=True)
class Sample:
    """Which records are taken, and the seed of everything drawn at random."""

    limit: Count | None = None
    """Take this many records of each file at the most."""

    seed: int = 0
    """Seed of everything that is drawn at random."""


@Parameter(name="*", group=MODEL_GROUP)
@dataclass(frozen=True)
class ModelChoice:
    """Which model is edited, where, and how it is held."""

    model: str = "default"
    """Name, hub id, folder or GGUF file of a causal language model."""

    sites: str | None = None
    """Layers to edit: patterns (*.27.mlp.down_proj) or filters (blocks=20-25,names=down_proj)."""

    blocks: Count = 3
    """How many of the last blocks are edited when --sites does not say."""

    start: str = "auto"
    """Token in front of every text: auto measures what the model wants, none puts nothing."""

    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1, mps or auto."""

    dtype: Dtype = "float32"
    """Precision of the model's weights."""


COMMON, SAMPLE, MODEL = Common(), Sample(), ModelChoice()
