"""Bad input gets a clear error under a code, and loses nothing: no version, no file outside its folder, no half-written row."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ringi.jobs.schemas import JobState
from ringi.kit.errors import RingiError
from support.at_once import at_once, codes
from support.refusals import refused
from support.running_platform import PROJECT, Platform
from support.story import BASE, Ground
from support.tiny_model import make_tiny_rows

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def good(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEFT folder as someone else would have it: the files of v1."""
    folder = tmp_path_factory.mktemp("good")
    version = ground.platform.as_("contributor").adapters.version(PROJECT, "bot", "v1")
    for file in version.files:
        name = file.digest.removeprefix("sha256:")
        shutil.copyfile(ground.platform.processes.data / "blobs" / "sha256" / name[:2] / name, folder / file.path)
    return folder


@pytest.fixture
def adapter(ground: Ground) -> str:
    name = f"bad-{uuid4().hex[:8]}"
    ground.platform.as_("contributor").adapters.create(PROJECT, name, base=BASE)
    return name


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "adapter")


def truncated(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-100])


def not_safetensors(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\xff" * 4096)


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps({"weights": [0.0] * 100}))


def pickled_beside(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"weights": [0.0] * 100}))


def pickle_in_disguise(folder: Path) -> None:
    (folder / "README.md").write_bytes(pickle.dumps({"weights": [0.0] * 100}))


def empty(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def edited(folder: Path, **changes: object) -> None:
    document = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(document | changes))


def other_base(folder: Path) -> None:
    edited(folder, base_model_name_or_path="someone/else")


def other_revision(folder: Path) -> None:
    edited(folder, revision="0" * 40)


def no_revision(folder: Path) -> None:
    edited(folder, revision=None)


def runs_code(folder: Path) -> None:
    edited(folder, auto_mapping={"base_model_class": "Evil", "parent_library": "os"})


def unknown_key(folder: Path) -> None:
    edited(folder, surprise=1)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (truncated, "weights_truncated"),
        (not_safetensors, "weights_not_safetensors"),
        (pickled, "weights_pickle"),
        (pickled_beside, "upload_file_not_allowed"),
        (pickle_in_disguise, "weights_pickle"),
        (empty, "weights_truncated"),
        (without_weights, "adapter_file_missing"),
        (other_base, "adapter_base_mismatch"),
        (other_revision, "adapter_base_mismatch"),
        (no_revision, "adapter_base_revision_missing"),
        (runs_code, "adapter_config_key_refused"),
        (unknown_key, "adapter_config_unknown_key"),
    ],
)
def test_a_spoilt_adapter_is_refused_before_any_job(
    ground: Ground, adapter: str, folder: Path, spoil: Callable[[Path], None], code: str
) -> None:
    adapters, jobs = ground.platform.as_("contributor").adapters, ground.platform.as_("contributor").jobs
    newest = next(jobs.all()).id
    spoil(folder)
    with refused(code):
        adapters.register(PROJECT, adapter, folder)
    assert next(jobs.all()).id == newest
    assert list(adapters.versions(PROJECT, adapter)) == []


def not_a_number(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = min(tensors)
    tensors[name] = np.full_like(tensors[name], np.nan)
    save_file(tensors, folder / WEIGHTS)


def one_tensor_less(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors[min(tensors)]
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(("spoil", "code"), [(not_a_number, "adapter_not_finite"), (one_tensor_less, "adapter_tensors_unfilled")])
def test_weights_that_cannot_work_are_refused_by_the_job(
    ground: Ground, adapter: str, folder: Path, spoil: Callable[[Path], None], code: str
) -> None:
    contributor = ground.platform.as_("contributor")
    spoil(folder)
    job = ground.platform.ended(contributor.adapters.register(PROJECT, adapter, folder).job_id)
    assert job.error is not None
    assert (job.state, job.attempt, job.error.code) == (JobState.FAILED, 1, "adapter_refused")
    assert code in {reason["code"] for reason in job.error.details["reasons"]}
    assert list(contributor.adapters.versions(PROJECT, adapter)) == []


@pytest.mark.parametrize(
    "path", ["../evil.json", "/etc/evil.json", "a/../../evil.json", "..\\evil.json", "evil\u202e.json", "./x.json", "a//b.json"]
)
def test_paths_that_lead_elsewhere_are_refused_for_adapters_and_bases(ground: Ground, adapter: str, good: Path, path: str) -> None:
    platform = ground.platform
    for user, route in (("contributor", f"/projects/{PROJECT}/adapters/{adapter}/versions"), ("admin", f"/bases/{BASE}/revisions")):
        digest = platform.as_(user).upload(good / CONFIG).digest
        weights = platform.as_(user).upload(good / WEIGHTS).digest
        files = [(CONFIG, digest), ("config.json", digest), (WEIGHTS, weights), (path, digest)]
        answer = platform.call(user, "POST", route, json={"files": [{"path": name, "digest": one} for name, one in files]})
        assert (answer.status_code, answer.json()["code"]) == (400, "upload_path_unsafe"), route
    assert not list(platform.processes.folder.rglob("evil*"))


@pytest.mark.parametrize("revision", ["r9", "r0", "newest", "0" * 40, "sha256:" + "0" * 64])
def test_an_unknown_base_revision_is_not_found(ground: Ground, adapter: str, folder: Path, revision: str) -> None:
    with refused("not_found", 404):
        ground.platform.as_("contributor").adapters.register(PROJECT, adapter, folder, base_revision=revision)


def test_a_base_revision_that_is_no_reference_is_malformed(ground: Ground, adapter: str) -> None:
    body = {"files": [{"path": CONFIG, "digest": "sha256:" + "0" * 64}], "base_revision": "latest "}
    answer = ground.platform.call("contributor", "POST", f"/projects/{PROJECT}/adapters/{adapter}/versions", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


def test_a_base_needs_config_and_safetensors(ground: Ground, tmp_path: Path) -> None:
    bases = ground.platform.as_("admin").bases
    (tmp_path / "config.json").write_text("{}")
    with refused("base_files_incomplete", 400) as why:
        bases.register(BASE, tmp_path)
    assert "safetensors" in why.message


def test_a_base_with_broken_weights_is_refused_and_can_be_registered_again(platform: Platform, ground: Ground, tmp_path: Path) -> None:
    bases = platform.as_("admin").bases
    bases.create("broken")
    folder = shutil.copytree(ground.base, tmp_path / "broken")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    revision = bases.register("broken", folder)
    job = platform.ended(revision.job_id)
    assert (job.state, job.attempt) == (JobState.FAILED, 1), job.error
    assert bases.revision("broken", "r1").state == "refused"
    platform.as_("contributor").adapters.create(PROJECT, "on-broken", base="broken")
    with refused("base_revision_not_sealed", 409):
        platform.as_("contributor").adapters.register(PROJECT, "on-broken", ground_adapter(ground, tmp_path), base_revision="r1")
    (folder / "model.safetensors").write_bytes(data)
    mended = bases.register("broken", folder)
    platform.succeeded(mended.job_id)
    assert (mended.number, bases.revision("broken").number) == (2, 2)


def ground_adapter(ground: Ground, tmp_path: Path) -> Path:
    """Any well-formed adapter folder."""
    folder = tmp_path / "any"
    folder.mkdir()
    for file in ground.platform.as_("contributor").adapters.version(PROJECT, "bot", "v1").files:
        name = file.digest.removeprefix("sha256:")
        shutil.copyfile(ground.platform.processes.data / "blobs" / "sha256" / name[:2] / name, folder / file.path)
    return folder


def test_the_same_base_registered_at_once_is_one_revision(platform: Platform, ground: Ground) -> None:
    platform.as_("admin").bases.create("raced")
    results = at_once(platform, *[("admin", lambda c: c.bases.register("raced", ground.base))] * 3)
    assert codes(results) == ["done"] * 3
    (revision,) = list(platform.as_("admin").bases.revisions("raced"))
    assert {one.id for one in results if not isinstance(one, RingiError)} == {revision.id}
    platform.succeeded(revision.job_id)
    assert platform.as_("admin").bases.revision("raced").number == 1


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", "dataset_no_rows", "no rows"),
        (b"\n \n\n", "dataset_no_rows", "no rows"),
        (lines({"prompt": "a", "completion": ""}, {"prompt": "b", "completion": " \u200b"}), "dataset_no_usable_rows", "blank completion"),
        (lines({"prompt": "a", "completion": "b"})[:-1] + "\nテスト".encode("cp932"), "dataset_not_utf8", "line 2"),
        (lines({"prompt": "a", "completion": "b"}).decode().encode("utf-16"), "dataset_not_utf8", "UTF-16"),
        (lines({"prompt": "a"}, {"prompt": "b", "completion": "c"}), "dataset_row_invalid", "line 1"),
        (lines(["not", "an", "object"]), "dataset_row_invalid", "not a JSON object"),
        (lines({"prompt": "only", "completion": "one"}), "dataset_split_empty", "would be empty"),
    ],
    ids=["empty", "blank lines", "zero-length completions", "shift-jis", "utf-16", "no completion", "no object", "one row"],
)
def test_a_dataset_that_cannot_be_used_is_refused_with_the_line(
    ground: Ground, tmp_path: Path, content: bytes, code: str, says: str
) -> None:
    datasets, name = ground.platform.as_("contributor").datasets, f"bad-{uuid4().hex[:8]}"
    datasets.create(PROJECT, name)
    (tmp_path / "rows.jsonl").write_bytes(content)
    job = ground.platform.ended(datasets.add_version(PROJECT, name, tmp_path / "rows.jsonl").job_id)
    assert job.error is not None
    assert (job.state, job.attempt, job.error.code) == (JobState.FAILED, 1, code)
    assert says in job.error.message
    assert job.error.next_step
    assert list(datasets.versions(PROJECT, name)) == []
    mended = datasets.add_version(PROJECT, name, make_tiny_rows(tmp_path / "good.jsonl", 60))
    ground.platform.succeeded(mended.job_id)
    assert datasets.version(PROJECT, name).number == 1


def test_zero_length_completions_among_others_are_reported_and_left_out(ground: Ground, tmp_path: Path) -> None:
    datasets, name = ground.platform.as_("contributor").datasets, f"some-{uuid4().hex[:8]}"
    datasets.create(PROJECT, name)
    rows = make_tiny_rows(tmp_path / "rows.jsonl", 60)
    with rows.open("ab") as out:
        out.write(lines({"prompt": "nothing to learn", "completion": ""}, {"prompt": "  ", "completion": "no question"}))
    ground.platform.succeeded(datasets.add_version(PROJECT, name, rows).job_id)
    report = datasets.version(PROJECT, name).report
    assert (report.rows, report.empty_rows, report.train_rows + report.validation_rows) == (62, 2, 60)
    assert report.examples["empty_rows"] == [61, 62]


def test_two_bases_of_the_same_bytes_serve_two_adapters(ground: Ground, folder: Path) -> None:
    platform = ground.platform
    platform.as_("admin").bases.create("twin")
    platform.succeeded(platform.as_("admin").bases.register("twin", ground.base).job_id)
    contributor, name = platform.as_("contributor"), f"twin-{uuid4().hex[:8]}"
    contributor.adapters.create(PROJECT, name, base="twin")
    edited(folder, base_model_name_or_path="bases/twin")
    platform.succeeded(contributor.adapters.register(PROJECT, name, folder).job_id)
    assert contributor.adapters.version(PROJECT, name).base == "twin"
