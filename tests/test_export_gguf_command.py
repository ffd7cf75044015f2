"""`instructedit export --to gguf` on the command line."""

import json

import pytest

from cli_run import Run
from test_export_gguf import delta_for
from tiny_models import tiny_backbone

pytestmark = pytest.mark.slow


def test_the_command_line_writes_gguf(cli: Run, folder, tmp_path):
    delta_for(tiny_backbone()).save(tmp_path / "delta.safetensors")
    start = ("export", tmp_path / "delta.safetensors", "--model", folder, "--start", "none", "--json")
    code, text, _ = cli(*start, "--to", "gguf", "--rank", 2, "--out", tmp_path / "out")
    assert code == 0
    data = json.loads(text)
    assert (data["largest_rank"], data["loaded_back_by"]) == (2, ["gguf's reader"])
    assert len(data["not_tried"]) == 2
    assert (tmp_path / "out" / "adapter.gguf").is_file()
    for wrong, code in (
        (("--to", "merged", "--rank", 2), 3),
        (("--to", "gguf-merged", "--energy", 0.9), 3),
        (("--to", "lora", "--rank", 0), 3),
        (("--to", "gguf-merged"), 4),
    ):
        assert cli(*start, *wrong, "--out", tmp_path / "other").code == code
        assert not (tmp_path / "other").exists()
