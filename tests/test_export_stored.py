"""What `export` reads: the base model that an edit belongs to, and folders that are broken or of others."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cli_run import Run
from instructedit.backbone import Backbone
from instructedit.backbone.loading import load_backbone
from instructedit.cli.stored import read_edit, read_record
from instructedit.delta import LowRankDelta
from instructedit.errors import DataError, InstructEditError
from instructedit.export import save_lora
from instructedit.export.updates import check_fit
from instructedit.types import EditCase
from test_export import random_delta
from tiny_models import tiny_folder

pytestmark = pytest.mark.slow

CONFIG, WEIGHTS, RECORD = "adapter_config.json", "adapter_model.safetensors", "instructedit.json"
CASE = EditCase("The capital of France is", "Rome", "France")


@pytest.fixture(scope="module")
def kept(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA folder for the model in `folder`: nobody may write into it."""
    place = tmp_path_factory.mktemp("kept") / "lora"
    backbone = load_backbone(str(folder), start="none")
    save_lora(random_delta(backbone), place, backbone, cases=[CASE])
    return place


def copy(kept: Path, place: Path) -> Path:
    place.mkdir(exist_ok=True)
    for path in kept.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_record_is_read_back(kept, folder):
    record = read_record(kept)
    assert record.base == str(folder)
    assert record.cases == (CASE,)
    assert record.checksum == load_backbone(str(folder), start="none").checksum


def test_another_base_model_is_refused(cli: Run, kept, tmp_path):
    other = tiny_folder(tmp_path / "other", seed=1)
    code, _, error = cli("export", kept, "--model", other, "--start", "none", "--out", tmp_path / "out")
    assert code == 4
    assert "was made for" in error
    assert str(other) in error
    assert not (tmp_path / "out").exists()


def test_float16_is_the_same_base_model(cli: Run, kept, folder, tmp_path):
    half = load_backbone(str(folder), start="none", dtype="float16")
    assert half.checksum != read_record(kept).checksum
    arguments = ("export", kept, "--start", "none", "--dtype", "float16", "--to", "gguf")
    assert cli(*arguments, "--out", tmp_path / "out").code == 0


def test_a_folder_of_peft_names_its_base_model(cli: Run, kept, folder, tmp_path):
    lora = copy(kept, tmp_path / "lora")
    (lora / RECORD).unlink()
    assert read_record(lora).base == str(folder)
    code, text, _ = cli("export", lora, "--start", "none", "--out", tmp_path / "out", "--json")
    assert code == 0
    assert "the edits' own texts" in json.loads(text)["not_tried"][0]
    change(lora / CONFIG, base_model_name_or_path=None)
    assert read_record(lora).base is None


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (RECORD, "[]"),
        (RECORD, DEEP),
        (RECORD, {"edits": None}),
        (RECORD, {"edits": [[]]}),
        (RECORD, {"edits": [{"prompt": 3}]}),
        (RECORD, {"edits": [{"prompt": "A is", "kind": "unheard"}]}),
        (RECORD, {"edits": [{"prompt": "A is", "probes": "none"}]}),
        (RECORD, {"base_model": ["a"]}),
        (RECORD, {"base_checksum": 1}),
        (CONFIG, "[]"),
        (CONFIG, DEEP),
        (CONFIG, {"lora_alpha": "16", "alpha_pattern": {}}),
        (CONFIG, {"lora_alpha": 10**400, "alpha_pattern": {}}),
        (CONFIG, {"lora_alpha": float("nan"), "alpha_pattern": {}}),
        (CONFIG, {"alpha_pattern": ["down_proj"]}),
        (CONFIG, {"alpha_pattern": {"(": 1}}),
    ],
)
def test_a_broken_description_is_one_message(cli: Run, kept, tmp_path, name, content):
    lora = copy(kept, tmp_path / "lora")
    if isinstance(content, dict):
        change(lora / name, **content)
    else:
        (lora / name).write_text(content)
    code, _, error = cli("export", lora, "--out", tmp_path / "out", "--dry-run")
    assert code == 3, error
    assert str(lora) in error.replace("\n", "")


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (5, 64), (0, 64)])
def test_sides_that_do_not_fit_are_one_message(cli: Run, kept, tmp_path, shape):
    lora = copy(kept, tmp_path / "lora")
    tensors = load_file(lora / WEIGHTS)
    save_file({name: torch.ones(shape) if "A" in name else x for name, x in tensors.items()}, lora / WEIGHTS)
    code, _, error = cli("export", lora, "--out", tmp_path / "out", "--dry-run")
    assert code == 3, error
    assert "rank of at least 1" in error


def test_a_scale_is_found_by_patterns_as_peft_has_them(kept, tmp_path):
    lora = copy(kept, tmp_path / "lora")
    whole = read_edit(kept)
    change(lora / CONFIG, lora_alpha=6, alpha_pattern={r"layers\.3.*down_proj": 12})
    for site, b in read_edit(lora).b.items():
        rank = b.shape[2]
        factor = (12 if "3.mlp.down" in site else 6) / rank
        torch.testing.assert_close(b, whole.b[site] * factor)
    change(lora / CONFIG, use_rslora=True)
    site = next(iter(whole.b))
    torch.testing.assert_close(read_edit(lora).b[site], whole.b[site] * 6 / whole.b[site].shape[2] ** 0.5)


def test_broken_delta_files_are_one_message(tmp_path):
    from instructedit.delta import FORMAT

    path, one = tmp_path / "delta.safetensors", torch.ones(1, 2, 3)
    for tensors in (
        {},
        {"x.a": one},
        {"x.a": one, "y.b": one.mT.contiguous()},
        {"x.a": one, "x.b": one.clone()},
        {"x.a": one[0], "x.b": one[0].T.contiguous()},
        {"x.a": one.int(), "x.b": one.mT.int().contiguous()},
        {"x.a": one / 0, "x.b": one.mT.contiguous()},
        {"x.a": one * 1e38, "x.b": one.mT.contiguous()},
        {"x.a": one, "x.b": one.mT.contiguous(), "y.a": one[[0, 0]], "y.b": one[[0, 0]].mT.contiguous()},
    ):
        save_file(tensors, path, {"format": FORMAT})
        with pytest.raises(DataError, match=r"is not whole|rank of at least 1|no finite number"):
            LowRankDelta.load(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
mutations = st.one_of(
    st.tuples(st.sampled_from([CONFIG, RECORD]), st.none(), json_values),
    st.tuples(
        st.just(CONFIG),
        st.sampled_from(["lora_alpha", "alpha_pattern", "use_rslora", "base_model_name_or_path"]),
        json_values | st.dictionaries(st.sampled_from(["down_proj", ".*", "("]), json_values, max_size=2),
    ),
    st.tuples(st.just(RECORD), st.sampled_from(["edits", "base_model", "base_checksum"]), json_values),
    st.tuples(
        st.just(RECORD),
        st.just("edits"),
        st.lists(
            st.dictionaries(st.sampled_from(["prompt", "target_new", "kind", "scope", "x"]), json_values),
            max_size=2,
        ),
    ),
    st.tuples(
        st.just(WEIGHTS),
        st.integers(0, 17),
        st.tuples(
            st.lists(st.integers(0, 4), max_size=3),
            st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool]),
            st.sampled_from([1.0, 0.0, float("nan"), float("inf"), 1e38]),
        )
        | st.text(max_size=3),
    ),
)


def mutate(place: Path, name: str, key: object, value: object) -> None:
    """Change one thing: a whole JSON file, a key of it, a tensor's name, or a tensor."""
    path = place / name
    if name != WEIGHTS:
        path.write_text(json.dumps(value)) if key is None else change(path, **{key: value})
        return
    tensors = load_file(path)
    chosen = sorted(tensors)[key]
    if isinstance(value, str):
        tensors[value] = tensors.pop(chosen)
    else:
        shape, dtype, content = value
        shape = shape or tensors[chosen].shape
        if dtype.is_floating_point and math.isfinite(content):
            content = min(content, torch.finfo(dtype).max)
        number = content if dtype.is_floating_point else 1
        tensors[chosen] = torch.full(shape, number, dtype=dtype)
    save_file(tensors, path)


def test_an_adapter_in_half_precision_is_read(kept, tmp_path, llama: Backbone) -> None:
    place = copy(kept, tmp_path / "lora")
    whole = read_edit(place)
    save_file({name: tensor.half() for name, tensor in load_file(place / WEIGHTS).items()}, place / WEIGHTS)
    half, _ = read_edit(place).merge().compress()
    for name in whole.a:
        torch.testing.assert_close(half.dense(name), whole.merge().dense(name), rtol=1e-2, atol=1e-3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(mutations, min_size=1, max_size=2))
def test_whatever_is_changed_is_read_or_refused(changes, kept, tmp_path, llama: Backbone):
    place = copy(kept, tmp_path / "lora")
    for name, key, value in changes:
        try:
            mutate(place, name, key, value)
        except (TypeError, ValueError):  # the change before it left nothing to change
            return
    try:
        read_record(place)
        delta = read_edit(place)
        check_fit(delta, llama)
    except InstructEditError:
        return
    ids = torch.tensor([llama.text("The capital of France is").ids])
    with delta.applied_to(llama.model):
        llama.model(input_ids=ids)
    delta.merge().compress()
