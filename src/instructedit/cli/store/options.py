"""The options that the commands of a store share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from instructedit.ledger.entries import OnConflict

STORE_GROUP = Group("Store", sort_key=1)


@Parameter(name="*", group=STORE_GROUP)
@dataclass(frozen=True)
class StoreChoice:
    """Which store is meant."""

    store: Annotated[Path, Parameter(env_var="INSTRUCTEDIT_STORE")] = Path()
    """Folder of the store; else the one that INSTRUCTEDIT_STORE names, else the current folder."""


@Parameter(name="*", group=STORE_GROUP)
@dataclass(frozen=True)
class Said:
    """What is written down beside a change."""

    by: str = ""
    """Who asks for it, in free words."""

    note: str = ""
    """Why, or anything else worth keeping."""


@Parameter(name="*", group=STORE_GROUP)
@dataclass(frozen=True)
class Conflicts:
    """What happens to a request that contradicts an edit in force."""

    on_conflict: OnConflict = "refuse"
    """An edit of the same prompt with another target: refuse the new one, or let it replace the old one."""


STORE, SAID, CONFLICTS = StoreChoice(), Said(), Conflicts()
