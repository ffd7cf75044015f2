"""The options of `instructedit search`: what is tried, on which records, and what is trained on."""

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Group, Parameter

from instructedit.cli.options import Count, Paths, Switch, Texts

SEARCH_GROUP = Group("Search", sort_key=0)
TAUGHT = ("steps", "own", "text")  # options that only an editor has that is trained


@Parameter(name="*", group=SEARCH_GROUP)
@dataclass(frozen=True)
class Searching:
    """What is tried on which records, and where it is kept."""

    out: Path | None = None
    """YAML file for the chosen settings and every try; a search that was interrupted goes on in it."""

    force: Switch = False
    """Begin again where the file holds another search."""

    data: Paths = ()
    """Files of training records, or a folder of them; left out, the project's own facts for training."""

    task: str = "auto"
    """Layout of the records; see `instructedit ls tasks`."""

    skip_bad: Switch = False
    """Leave records out that cannot be read, and list them."""

    grid: Texts = ()
    """Values of one setting as name=value,value in the place of the package's grid; repeatable."""

    tries: int | None = None
    """Settings that are tried, the paper's own among them; left out, the same number for every method."""

    batch: Count = 16
    """Edits asked together; changes the time and nothing else."""

    steps: int | None = None
    """Train each try for this many steps at the most; of a configuration."""

    own: Switch = False
    """Add the project's own facts to what each try is trained on; of a configuration."""

    text: Paths = ()
    """Ordinary text that edits must leave alone, as `train` takes it; of a configuration."""


SEARCHING = Searching()
