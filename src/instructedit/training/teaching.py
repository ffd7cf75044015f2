"""Teaching an editor that is trained something else, in its file, once."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from instructedit.backbone import Backbone
from instructedit.editors.editor_file import load_editor, read_header, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.errors import DataError
from instructedit.storage import sha256_file

OF_THE_FILE = ("editor", "sites", "model")  # what a header says of the file, which is written anew


def teach(
    part: str,
    path: Path,
    target: Path,
    backbone: Backbone,
    decides: Any,
    learn: Callable[[InstructedEditor, str], dict[str, Any]],
) -> dict[str, float]:
    """Have the editor in the file `path` learn a `part`, and write it to `target`, which may be the same.

    `learn` changes the editor and gives what the header is told, its readings as ``validation`` among it,
    which are given back. It is called with a digest of all that `decides` its result and of the editor as it
    was before; what was done with the same is not done again. Of several processes the main one does it all,
    the others give nothing. Errors: `DataError` for an editor that reads no instructions.
    """
    if not Accelerator(cpu=backbone.device.type == "cpu").is_main_process:
        return {}
    editor, header = load_editor(path, backbone), read_header(path)
    if editor.hypernetwork.reader is None:
        code = editor.config.transform.code
        raise DataError(f"{path} has a code of {code}. Expected an editor that reads instructions.")
    done = read_header(target).get(part, {}) if target.exists() else {}
    first = (path == target and done.get("first")) or sha256_file(path)
    text = json.dumps([first, decides], default=repr)
    run = hashlib.sha256(text.encode()).hexdigest()[:16]
    if done.get("run") == run:
        return done["validation"]
    told = learn(editor, run)
    kept = {name: value for name, value in header.items() if name not in OF_THE_FILE}
    save_editor(editor, target, backbone, {**kept, part: {"first": first, "run": run, **told}})
    return told["validation"]
