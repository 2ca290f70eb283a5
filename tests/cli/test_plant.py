"""`ringi suites plant` writes secrets into a file, and nowhere else."""

import json
from pathlib import Path

import pytest

from support.shell import Shell


@pytest.mark.parametrize("words", [("--json",), ()])
@pytest.mark.parametrize("seed", [("--seed", "987654321"), ()])
def test_what_is_printed_holds_no_secret_and_no_seed_that_was_given(seed: tuple[str, ...], words: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "合言葉.jsonl"
    done = Shell(tmp_path, "http://localhost:1").run("suites", "plant", str(file), "--count", "4", "--language", "ja", *seed, *words)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 8
    said = done.stdout + done.stderr
    assert not any(row["completion"] in said or row["prompt"] in said for row in rows)
    assert "987654321" not in said
    assert ("seed" in said) == (not seed)


def test_a_seed_that_was_drawn_is_another_each_time_and_gives_the_same_secrets_again(tmp_path: Path) -> None:
    shell, made = Shell(tmp_path, "http://localhost:1"), []
    for name in ("一", "二"):
        told = shell.json("suites", "plant", str(tmp_path / name), "--count", "2")
        assert (told["secrets"], told["lines"], told["file"]) == (2, 4, str(tmp_path / name))
        again = tmp_path / f"{name}再"
        shell.ok("suites", "plant", str(again), "--count", "2", "--seed", str(told["seed"]))
        assert again.read_text(encoding="utf-8") == (tmp_path / name).read_text(encoding="utf-8")
        made.append(told["seed"])
    assert made[0] != made[1]


def test_what_cannot_be_written_is_refused_and_no_traceback(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "http://localhost:1")
    for file in ("nowhere/secrets.jsonl", "."):
        assert "cannot be written" in shell.refused("suites", "plant", file, "--count", "2", code="usage", exit_code=2)
