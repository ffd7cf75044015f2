"""Summaries and an editor's header written by hand, so that every number is known beforehand."""

import json
from pathlib import Path
from typing import Any

Tree = dict[str, Any]


def number(mean: float, cases: int = 40, low: float | None = None, high: float | None = None) -> Tree:
    return {"mean": mean, "low": low, "high": high, "cases": cases, "probes": cases, "pooled": mean}


def entry(edited: Tree, base: float | None = None, gain: float | None = None) -> Tree:
    pairs = {"edited": edited, "base": base, "difference": gain}
    return {k: number(v) if isinstance(v, float) else v for k, v in pairs.items() if v is not None}


FACTS: Tree = {
    "reliability": {
        "bare": {"exact": entry(number(0.934, 40, 0.912, 0.951), 0.025, 0.909)},
        "instructed": {"exact": entry(number(0.95))},
    },
    "rephrase": {"bare": {"exact": entry(number(0.755), 0.0)}},
    "locality": {"bare": {"unchanged": entry(number(0.861, 31))}},
    "portability": {"bare": {"accuracy": entry(number(0.623), 0.4, 0.223), "exact": entry(number(0.1))}},
}
OPINIONS: Tree = {
    "reliability": {"bare": {"win_rate": entry(number(0.88), 0.5)}},
    "locality": {"bare": {"unchanged": entry(number(0.977))}},
}
LEVERAGE: Tree = {
    "scope": {
        "all": {
            "wide": number(0.6),
            "narrow": number(0.44),
            "base": number(0.2),
            "difference": number(0.16, 25, 0.1, 0.22),
        },
        "portability: Reasoning": {"wide": number(0.5), "narrow": number(0.6), "difference": number(-0.1)},
    }
}
HEADER: Tree = {
    "format": "instructedit-editor-1",
    "version": "0.1.0",
    "model": {"name": "default", "checksum": "ab" * 32, "width": 8},
    "start_ids": [0],
    "sites": [{"name": "model.layers.1.mlp.down_proj", "d_in": 8, "d_out": 8, "block": 1}],
    "editor": {"name": "instructedit"},
    "tasks": {"counterfact": 1400, "convsent": 700},
    "data": {"counterfact.jsonl": "cd" * 32},
    "seed": 3,
    "step": 900,
    "config": {"steps": 1000, "batch": 8},
    "validation": {"score": 0.8123},
}


def write_summary(folder: Path, tasks: Tree, leverage: Tree | None = None) -> Path:
    folder.mkdir(parents=True)
    path = folder / "summary.json"
    path.write_text(json.dumps({"tasks": tasks, **({"leverage": leverage} if leverage else {})}))
    return path


def write_summaries(folder: Path) -> list[Path]:
    """Two files: facts and opinions with leverage, and facts of a task that was never trained on."""
    return [
        write_summary(folder / "a", {"counterfact": FACTS, "convsent": OPINIONS}, LEVERAGE),
        write_summary(folder / "b", {"zsre": FACTS}),
    ]
