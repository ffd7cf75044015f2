"""Where a run's numbers come from: command, models, seeds, caps and versions, as a person reads them."""

from typing import Any

from instructedit.experiment.specs import Plan


def list_facts(plan: Plan, stored: dict[str, Any]) -> dict[str, str]:
    """What the tables and figures of a run come from.

    `stored` is what the run's folder says of itself, with the versions that its cells were run with.
    """
    limit = "all" if plan.limit is None else f"{plan.limit}, drawn by seed {plan.sample}"
    caps = {name: editor.steps for name, editor in plan.editors.items() if editor.steps is not None}
    own = "".join(f"; {name} {steps}" for name, steps in caps.items())
    return {
        "Last command": f"`{stored.get('command', '–')}`",
        "Records a data set at the most": limit,
        "Training steps at the most": ("as configured" if plan.steps is None else str(plan.steps)) + own,
        "Seeds": ", ".join(map(str, plan.seeds)),
        **{f"Model {name}": describe_model(plan, stored, name) for name in plan.models},
        **{
            f"Settings of {name}": text
            for name, editor in plan.editors.items()
            if (text := editor.settings_file)
        },
        **{
            f"Text of {name} left out": f"{count} that the data ask"
            for name, count in stored.get("left_out", {}).items()
            if count
        },
        **{f"Version of {name}": text for name, text in stored.get("versions", {}).items()},
    }


def describe_model(plan: Plan, stored: dict[str, Any], name: str) -> str:
    """A model's options and the beginning of its weights' checksum."""
    told = ", ".join(f"{key} {value}" for key, value in plan.models[name].items()) or "as configured"
    return f"{told}; weights {stored.get('checksums', {}).get(name, 'never loaded')[:16]}"
