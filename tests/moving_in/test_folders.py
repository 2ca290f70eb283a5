"""PEFT folders in bulk: each subfolder an adapter, or as a mapping says; repeated, only what is new comes in."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moving_in.world import BASE_NAME, Mover, by_version
from ringi.cli.moving.folder_source import BadMapping, FolderSource, Row, read_mapping
from support.running_platform import PROJECT
from support.story import BASE, Sources

pytestmark = pytest.mark.timeout(900)
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def adapters(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two PEFT folders, and one without an adapter."""
    top = tmp_path_factory.mktemp("collection") / "アダプター集"
    program = (
        "import sys; from pathlib import Path; from other_registry import peft_folder; base, top = map(Path, sys.argv[1:]);"
        "peft_folder(base, top / '要約', seed=11); peft_folder(base, top / 'faq_v2', seed=12)"
    )
    environment = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(sources.base), str(top)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (top / "notes").mkdir()
    (top / "notes" / "readme.md").write_text("メモ", encoding="utf-8")
    return top


def test_folders_are_imported_once_and_a_changed_one_is_a_new_version(mover: Mover, adapters: Path, tmp_path: Path) -> None:
    mapping = tmp_path / "対応表.csv"
    mapping.write_text("folder,adapter,tags\n要約,youyaku,担当=愛子;段階=検証済み\nnotes,,\n", encoding="utf-8")
    options = ("folders", str(adapters), "--base", BASE, "--trained-on", BASE_NAME)
    first = mover.report(*options, "--mapping", str(mapping))
    assert first["counts"] == {"imported": 1, "skipped": 1}
    (line,) = [line for line in first["lines"] if line["name"] == "youyaku"]
    assert line["reference"] == "support/youyaku:v1"
    (origin,) = mover.platform.as_("viewer").origins.of_version(PROJECT, "youyaku", "v1")
    assert (origin.system, origin.source, origin.facts.tags) == ("folders", "アダプター集", {"担当": "愛子", "段階": "検証済み"})
    assert [file.path for file in origin.facts.files] == ["要約/adapter_config.json", "要約/adapter_model.safetensors"]

    again = mover.report(*options, "--mapping", str(mapping))
    assert again["counts"] == {"already in": 1, "skipped": 1}

    # The same adapter, trained again: here the other folder's weights.
    mapping.write_text("folder,adapter\n要約,youyaku\nfaq_v2,youyaku\n", encoding="utf-8")
    more = mover.report(*options, "--mapping", str(mapping))
    assert [(one["outcome"], one["reference"]) for one in more["lines"]] == [
        ("already in", "support/youyaku:v1"),
        ("imported", "support/youyaku:v2"),
    ]


def test_without_a_mapping_each_subfolder_is_an_adapter_of_its_own(mover: Mover, adapters: Path, tmp_path: Path) -> None:
    tried = by_version(mover.report("folders", str(adapters), "--base", BASE, "--trained-on", BASE_NAME, "--dry-run"))
    assert {name: (line["adapter"].partition("-")[0], line["outcome"]) for (name, _), line in tried.items()} == {
        "faq_v2": ("support/faq_v2", "to import"),
        "notes": ("support/notes", "skipped"),
        "要約": ("support/model", "to import"),
    }
    untold = by_version(mover.report("folders", str(adapters), "--base", BASE, "--dry-run"))
    assert {line["code"] for line in untold.values()} == {"base_not_declared", "no_peft_folder"}
    # Another collection with a folder of the same name: the adapter that is there is not its own.
    shutil.copytree(adapters / "faq_v2", tmp_path / "tanin")
    mine = ("folders", str(tmp_path), "--base", BASE, "--trained-on", BASE_NAME)
    assert mover.report(*mine)["counts"] == {"imported": 1}
    taken = by_version(mover.report(*mine, "--label", "other", "--dry-run", exit_code=1))
    assert {name: line["code"] for (name, _), line in taken.items()} == {"tanin": "adapter_name_taken"}
    nothing = mover.run("import", "folders", str(adapters), "--project", PROJECT, "--dry-run")
    assert (nothing.returncode, "[no_base]" in nothing.stderr) == (2, True)


def test_a_mapping_is_read_as_csv_or_as_json_lines(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("\ufefffolder,adapter,base,tags\nあ,a,tiny,k=v;鍵=値=x\nb,,,\n", encoding="utf-8")
    assert read_mapping(tmp_path / "m.csv") == [
        Row(folder="あ", adapter="a", base="tiny", tags={"k": "v", "鍵": "値=x"}),
        Row(folder="b", adapter=None, base=None, tags={}),
    ]
    (tmp_path / "m.jsonl").write_text(json.dumps({"folder": "あ", "tags": {"鍵": "値"}}) + "\n\n", encoding="utf-8")
    assert read_mapping(tmp_path / "m.jsonl") == [Row(folder="あ", tags={"鍵": "値"})]


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("m.csv", "folder,adapter\n../up,a\n", "line 2"),
        ("m.csv", "folder\n/etc\n", "line 2"),
        ("m.csv", "folder,adapter\na,Not A Name\n", "line 2"),
        ("m.csv", "folder,adapter\na\n", "line 2"),
        ("m.csv", "folder,tags\na,no-equals\n", "line 2"),
        ("m.csv", "folder,colour\na,red\n", "line 2"),
        ("m.csv", "folder\n", "no rows"),
        ("m.jsonl", '{"folder": "a"}\n{"folder": 3}\n', "line 2"),
        ("m.jsonl", "[]\n", "line 1"),
        ("m.jsonl", "{\n", "line 1"),
    ],
)
def test_a_mapping_that_cannot_be_meant_names_its_line(tmp_path: Path, name: str, text: str, where: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(BadMapping, match=where):
        read_mapping(tmp_path / name)


def test_links_and_hidden_folders_are_left_out(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for name in ("a", ".git"):
        (top / name).mkdir(parents=True)
    (top / "link").symlink_to(tmp_path)
    assert FolderSource(top, None, label=None, limit=1).names() == ["a"]
