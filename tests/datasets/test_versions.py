"""Versions over HTTP with a real worker: formats, a validation set that stays, recipes, policies, terms, and whose rows are where."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from ringi.datasets.schemas import DatasetTerms, DatasetVersionOut, SetDatasetPolicy
from ringi.identity.schemas import Role
from ringi.jobs.contracts.datasets import FileType, Recipe, RowFormat
from ringi.jobs.schemas import JobState
from ringi.storage.blobs import store_at
from ringi.training.schemas import TraceRows
from support.own_api import store_url
from support.refusals import refused
from support.running_platform import PROJECT, Platform
from support.story import ADAPTER, PLAN, Ground, evaluated, trained

FIRST = [{"prompt": f"{number}番の棚に何がありますか。", "completion": f"はい、棚{number}には猫がいます。"} for number in range(60)]


def lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class Rows:
    """A new dataset, and what is added to it."""

    def __init__(self, platform: Platform, folder: Path, name: str) -> None:
        self.platform, self.folder, self.name = platform, folder, name
        self.calls = platform.as_("contributor").datasets
        self.calls.create(PROJECT, name)

    def add(self, content: str, *, file: str = "rows.jsonl", **asked: Any) -> UUID | None:
        path = self.folder / file
        path.write_text(content, encoding="utf-8")
        return self.calls.add_version(PROJECT, self.name, path, **asked).job_id

    def sealed(self, content: str, **asked: Any) -> DatasetVersionOut:
        self.platform.succeeded(self.add(content, **asked))
        return self.calls.version(PROJECT, self.name)

    def part(self, digest: str) -> list[dict[str, Any]]:
        found = b"".join(store_at(store_url(self.platform)).open(digest))
        return [json.loads(line) for line in found.splitlines()]


@pytest.fixture
def rows(platform: Platform, tmp_path: Path) -> Rows:
    return Rows(platform, tmp_path, "faq")


def test_a_csv_of_conversations_is_recognised_and_sealed_as_turns(rows: Rows) -> None:
    turns = [
        {"role": "system", "content": "窓口"},
        {"role": "user", "content": "棚{}に何が？"},
        {"role": "assistant", "content": "猫です。"},
    ]
    cells = [json.dumps(turns, ensure_ascii=False).replace("{}", str(number)).replace('"', '""') for number in range(40)]
    version = rows.sealed("messages,category\n" + "".join(f'"{cell}",店\n' for cell in cells), file="chats.csv")
    report = version.report
    assert (report.row_format, report.file_type, report.rows) == (RowFormat.CHAT, FileType.CSV, 40)
    assert report.scripts == {"japanese": 40}
    first = rows.part(version.train_digest)[0]
    assert [message["role"] for message in first["messages"]] == ["system", "user", "assistant"]
    assert (set(first), first["category"]) == ({"id", "messages", "category"}, "店")
    found = {one.number for one in rows.calls.versions(PROJECT, rows.name, filter=["format=chat"])}
    assert found == {1}


def test_what_was_asked_to_be_read_otherwise_fails_with_lines_and_what_was_needed(rows: Rows) -> None:
    ended = rows.platform.ended(rows.add(lines(FIRST), row_format=RowFormat.ALPACA))
    assert ended.error is not None
    assert (ended.state, ended.error.code) == (JobState.FAILED, "dataset_row_invalid")
    assert "line 1: 'instruction' is missing" in ended.error.message


def test_the_validation_set_stays_when_rows_are_added_even_with_another_seed_and_second_copies(rows: Rows) -> None:
    before = rows.sealed(lines(FIRST), validation_fraction=0.3)
    asked = {row["id"]: row for row in rows.part(before.validation_digest)}
    learnt = {row["id"] for row in rows.part(before.train_digest)}
    more = [{"prompt": f"{number}号室はどこですか。", "completion": f"{number}階です。"} for number in range(40)]
    # A second copy of every row: without the earlier version that would move each of them to train.
    after = rows.sealed(lines([*more, *FIRST, *FIRST]), validation_fraction=0.3, seed=9)
    now = {row["id"]: row for row in rows.part(after.validation_digest)}
    assert {item: now[item] for item in asked} == asked
    assert learnt.isdisjoint(now)
    assert 0 < len(now) - len(asked) < len(more)
    report = after.report
    assert (report.kept_validation_of, report.kept_validation_prompts, report.lost_validation_prompts) == ("v1", len(asked), 0)
    fewer = rows.sealed(lines([row for row in FIRST if row["prompt"] != next(iter(asked.values()))["prompt"]]), keep_validation_of="v1")
    assert (fewer.report.kept_validation_prompts, fewer.report.lost_validation_prompts) == (len(asked) - 1, 1)
    anew = rows.sealed(lines([*more, *FIRST]), seed=9, keep_validation_of="none")
    assert anew.report.kept_validation_of is None
    assert {row["id"] for row in rows.part(anew.validation_digest)} != set(asked)
    with refused("not_found", 404):
        rows.add(lines(FIRST), keep_validation_of="v99")


def test_the_earlier_validation_rows_are_found_again_after_a_recipe_has_changed_how_they_are_written(rows: Rows) -> None:
    written = [{"prompt": f"連絡先 ０９０－１２３４－{5000 + n}　ﾃﾞｽ", "completion": f"棚{n}　です"} for n in range(60)]
    before = rows.sealed(lines(written), validation_fraction=0.3)
    recipe = Recipe(unicode="nfkc", personal_data="redact", near_duplicates="ignore")
    kept = rows.add(lines(written), validation_fraction=0.3, recipe=recipe)
    ended = rows.platform.ended(kept)
    # Every prompt is the same once the number is gone, so they are one group, which stays where it was: all of it in validation.
    assert ended.error is not None
    assert ended.error.code == "dataset_split_empty"
    assert before.report.personal_data == {"phone_jp": 60}


MESSY = [
    {"prompt": "ＦＡＱ　その１：　ｶﾅは　読めますか？\r\n\r\n\r\n\r\n連絡は ada@ringi.jp まで", "completion": "はい、読めます。電話は０３－１２３４－５６７８です。"},
    {"prompt": "ＦＡＱ　その２：マイナンバー 123456789018 を書いてよいですか。", "completion": "いいえ。〒100-0001 に送らないでください。"},
    {"prompt": "ＦＡＱ　その３：カードは 4111 1111 1111 1111 です", "completion": "伏せてください。+1 202 555 0143 にお電話を。"},
]  # fmt: skip
SIMILAR = [
    {
        "prompt": "貸出しの期限を過ぎた場合にはどのような手続きが必要になりますか、教えてください。",
        "completion": "窓口までお越しください。",
    },
    {
        "prompt": "貸出しの期限を過ぎた場合にはどのような手続きが必要になりますか？教えてください。",
        "completion": "窓口までお越しください。",
    },
]


def test_a_recipe_folds_tidies_redacts_and_removes_and_all_of_it_is_in_the_report(rows: Rows) -> None:
    source = lines([*FIRST, *MESSY, *SIMILAR])
    recipe = Recipe(unicode="nfkc", white_space="tidy", personal_data="redact", near_duplicates="remove", near_threshold=0.7)
    version = rows.sealed(source, recipe=recipe)
    texts = [
        row["prompt"] + "|" + row["completion"] for part in (version.train_digest, version.validation_digest) for row in rows.part(part)
    ]
    assert "FAQ その1: カナは 読めますか?\n\n連絡は [email] まで|はい、読めます。電話は[phone_jp]です。" in texts
    assert "FAQ その2:マイナンバー [my_number] を書いてよいですか。|いいえ。[postal_code_jp] に送らないでください。" in texts
    assert "FAQ その3:カードは [card] です|伏せてください。[phone] にお電話を。" in texts
    assert sum("貸出し" in text for text in texts) == 1
    report = version.report
    assert report.personal_data == {"card": 1, "email": 1, "my_number": 1, "phone": 1, "phone_jp": 1, "postal_code_jp": 1}
    assert report.prepared == {"unicode": 4, "white_space": 1, "redacted": 3}
    assert report.near_duplicates is not None
    assert report.near_duplicates >= 1
    assert report.near_leaks == 0
    assert report.lengths["prompt"].longest >= 40
    assert version.recipe == recipe
    # The recipe belongs to the identity: the same bytes without it are another version, and with it again the same one.
    plain = rows.sealed(source)
    assert plain.digest != version.digest
    assert plain.recipe == Recipe()
    again = rows.calls.add_version(PROJECT, rows.name, rows.folder / "rows.jsonl", recipe=recipe)
    assert (again.job_id, again.version and again.version.digest) == (None, version.digest)


def test_the_policy_of_a_project_refuses_personal_data_whatever_the_request_says(rows: Rows) -> None:
    platform = rows.platform
    platform.add_user("policy", Role.POLICY_ADMIN, project=None)
    policy = platform.as_("policy").datasets
    with refused("forbidden", 403):
        rows.calls.set_policy(PROJECT, SetDatasetPolicy(personal_data="ignore"))
    assert policy.set_policy(PROJECT, SetDatasetPolicy(personal_data="refuse")).row_version == 1
    with refused("precondition_failed", 412):
        policy.set_policy(PROJECT, SetDatasetPolicy(personal_data="ignore"), if_match="0")
    lax = Recipe(personal_data="ignore", personal_kinds=("card",))
    ended = platform.ended(rows.add(lines([*FIRST, *MESSY]), recipe=lax))
    assert ended.error is not None
    assert ended.error.code == "dataset_personal_data"
    assert "line 61: email, phone_jp" in ended.error.message
    assert "ada@" not in ended.error.model_dump_json()
    assert rows.sealed(lines(FIRST), recipe=lax).recipe.personal_data == "refuse"
    assert len(platform.logged("dataset.policy.set", personal_data="refuse")) == 1


TERMS = DatasetTerms.model_validate(
    {"licence": "CC BY 4.0", "origin": "窓口の記録 2025年", "consent": "利用規約 第3条", "retain_until": "2028-03-31"}
)


def test_terms_are_sealed_shown_and_filtered_by(rows: Rows) -> None:
    bare, told = rows.sealed(lines(FIRST)), rows.sealed(lines(FIRST), terms=TERMS)
    assert (bare.number, told.number, told.terms) == (1, 2, TERMS)
    assert bare.digest != told.digest
    for asked in ("licence=CC BY 4.0", "origin~窓口", "consent~第3条", "retain_until<2028-04-01"):
        assert [one.number for one in rows.calls.versions(PROJECT, rows.name, filter=[asked])] == [2], asked


def test_a_persons_rows_are_traced_to_versions_and_to_the_adapters_that_were_trained_on_them(ground: Ground, tmp_path: Path) -> None:
    rows = Rows(ground.platform, tmp_path, f"d{uuid4().hex[:8]}")
    hers = {"prompt": "山田 花子です。棚９の本を借りたいのですが。", "completion": "承知しました。", "id": "C-1042"}
    first = rows.sealed(lines(FIRST))
    second = rows.sealed(lines([*FIRST, hers, hers]))
    rows.sealed(lines([*FIRST, hers | {"prompt": "匿名の棚９の本。"}]))
    run = trained(ground.platform, plan=PLAN.model_copy(update={"max_steps": 4}), dataset=f"{rows.name}:v2")
    found = rows.calls.trace(PROJECT, TraceRows(text="山田　花子", dataset=rows.name))
    (version,) = found.versions
    assert (found.searched_versions, version.version, version.digest) == (3, f"{PROJECT}/{rows.name}:v2", second.digest)
    assert (version.train_rows, version.validation_rows, [row.source_id for row in version.rows]) == (1, 0, ["C-1042"])
    assert [(one.run_id, one.version, one.adapter) for one in found.trained] == [(run.id, run.version, f"{PROJECT}/{ADAPTER}")]
    by_id = rows.calls.trace(PROJECT, TraceRows(id="C-1042"))
    assert [one.version.rpartition(":")[2] for one in by_id.versions] == ["v2", "v3"]
    # As it may stand in a row, also with what nobody may write elsewhere.
    assert rows.calls.trace(PROJECT, TraceRows(text="誰でも\r\nない\u202e人")).versions == []
    assert first.digest not in {one.digest for one in by_id.versions}
    with refused("forbidden", 403):
        ground.platform.as_("viewer").datasets.trace(PROJECT, TraceRows(text="山田　花子"))
    entries = ground.platform.logged("dataset.trace", by="text")
    assert {(one.details or {}).get("rows") for one in entries} == {0, 1}
    assert not any("花子" in one.model_dump_json() for one in entries)


def test_an_adapter_is_trained_and_evaluated_on_conversations_and_trained_on_documents(ground: Ground, tmp_path: Path) -> None:
    system = {"role": "system", "content": "窓口"}
    talks = [
        {"messages": [system, *({"role": role, "content": row[side]} for role, side in (("user", "prompt"), ("assistant", "completion")))]}
        for row in FIRST
    ]
    chats = Rows(ground.platform, tmp_path, f"c{uuid4().hex[:8]}")
    sealed = chats.sealed(lines(talks))
    few = PLAN.model_copy(update={"max_steps": 4})
    run = trained(ground.platform, plan=few, dataset=f"{chats.name}:v1")
    assert run.metrics is not None
    assert (run.metrics.rows, run.metrics.skipped_rows) == (sealed.report.train_rows, 0)
    assert run.version is not None
    judged = evaluated(ground.platform, run.version.rpartition(":")[2], dataset=f"{chats.name}:v1")
    assert judged.summary is not None
    assert (judged.summary.scored, judged.summary.unscored) == (sealed.report.validation_rows, 0)
    texts = Rows(ground.platform, tmp_path, f"t{uuid4().hex[:8]}")
    read = texts.sealed(lines([{"text": row["prompt"] + row["completion"]} for row in FIRST]))
    assert (read.report.row_format, set(read.report.lengths)) == (RowFormat.DOCUMENTS, {"text"})
    run = trained(ground.platform, plan=few, dataset=f"{texts.name}:v1")
    assert run.metrics is not None
    assert run.metrics.label_tokens > 4 * 10 * few.batch_size
