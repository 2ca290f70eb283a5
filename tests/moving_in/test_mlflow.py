"""Moving in from a real MLflow server: what becomes a version, what is refused or left, what is kept, and that nothing comes twice."""

from typing import Any, NamedTuple

import httpx
import pytest

from moving_in.world import BASE_NAME, Mover, Registry, by_version
from ringi.kit.digests import sha256_bytes
from ringi.origins.schemas import OriginOut
from support.running_platform import PROJECT, Processes, new_organization
from support.story import BASE, Sources, registered_base

# Processes that load torch are started one after the other; on a busy machine that takes minutes.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]
JAPANESE = "顧客対応 回答"


class Moved(NamedTuple):
    """An import that was tried first, then done."""

    mover: Mover
    options: tuple[str, ...]
    tried: dict[str, Any]
    there_after_trying: list[str]
    done: dict[str, Any]

    def origins(self, adapter: str, version: str) -> list[OriginOut]:
        return list(self.mover.platform.as_("viewer").origins.of_version(PROJECT, adapter, version))


@pytest.fixture(scope="module")
def moved(mover: Mover, mlflow_server: Registry) -> Moved:
    options = ("mlflow", "--server", mlflow_server.url, "--base", BASE, "--trained-on", BASE_NAME, "--rename", f"{JAPANESE}=answers")
    tried = mover.report(*options, "--dry-run")
    there = [adapter.name for adapter in mover.platform.as_("viewer").adapters.all(PROJECT)]
    return Moved(mover, options, tried, there, mover.report(*options, exit_code=1))


def outcomes(report: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str | None, str | None]]:
    return {key: (line["outcome"], line["reference"], line["code"]) for key, line in by_version(report).items()}


def test_a_trial_shows_what_would_be_done_and_changes_nothing(moved: Moved) -> None:
    assert outcomes(moved.tried) == {
        ("FAQ Bot", "1"): ("to import", None, None),
        ("FAQ Bot", "2"): ("to import", None, None),
        ("FAQ Bot", "3"): ("to import", None, None),
        (JAPANESE, "1"): ("to import", None, None),
        ("churn", "1"): ("skipped", None, "no_peft_folder"),
        ("other base", "1"): ("skipped", None, "base_not_declared"),
    }
    assert moved.there_after_trying == []
    assert "'someone/else'" in by_version(moved.tried)["other base", "1"]["reason"]


def test_peft_models_become_versions_and_the_others_are_named_with_the_reason(moved: Moved) -> None:
    found = outcomes(moved.done)
    assert found["FAQ Bot", "1"] == ("imported", "support/faq-bot:v1", None)
    assert found["FAQ Bot", "2"] == ("refused", None, "adapter_refused")
    assert "adapter_no_effect" in by_version(moved.done)["FAQ Bot", "2"]["reason"]
    assert found["FAQ Bot", "3"] == ("already in", "support/faq-bot:v1", None), "equal bytes add nothing"
    assert found[JAPANESE, "1"] == ("imported", "support/answers:v1", None)
    assert moved.done["counts"] == {"imported": 2, "already in": 1, "refused": 1, "skipped": 2}
    adapters = moved.mover.platform.as_("viewer").adapters
    assert {
        adapter.name: [version.number for version in adapters.versions(PROJECT, adapter.name)] for adapter in adapters.all(PROJECT)
    } == {
        "faq-bot": [1],
        "answers": [1],
    }
    assert JAPANESE in adapters.get(PROJECT, "answers").description


def test_an_origin_keeps_tags_metrics_parameters_aliases_and_the_run_as_they_were(moved: Moved, mlflow_server: Registry) -> None:
    third, first = moved.origins("faq-bot", "v1")
    assert (first.system, first.source, first.name, first.version) == ("mlflow", mlflow_server.url, "FAQ Bot", "1")
    facts = first.facts
    assert (facts.aliases, facts.tags, facts.model_tags) == (["champion"], {"段階": "検証済み"}, {"部門": "サポート"})
    assert (facts.metrics, facts.parameters) == ({"loss": "NaN", "eval_acc": 0.75}, {"learning_rate": "0.01", "データ": "問い合わせ"})
    assert (facts.run_name, facts.run_tags["担当"], facts.description) == ("FAQ Bot の学習", "愛子", "説明")
    assert (facts.base, facts.base_revision) == (BASE_NAME, None)
    assert first.run_url == f"{mlflow_server.url}/#/experiments/1/runs/{first.run_id}"
    assert facts.created_at is not None
    assert (third.version, third.facts.metrics["loss"], third.facts.aliases) == ("3", 1.25, [])
    proxy = f"{mlflow_server.url}/api/2.0/mlflow-artifacts/artifacts/1/{first.run_id}/artifacts/out/adapter"
    assert [file.path for file in facts.files] == ["adapter_config.json", "adapter_model.safetensors"], "paths within the version"
    for file in facts.files:
        assert file.digest == sha256_bytes(httpx.get(f"{proxy}/{file.path}").content), "as it lay there, before the base was named"


def test_the_flavour_of_transformers_is_found_by_its_peft_folder(moved: Moved) -> None:
    (origin,) = moved.origins("answers", "v1")
    assert (origin.name, [file.path for file in origin.facts.files]) == (
        JAPANESE,
        ["peft/adapter_config.json", "peft/adapter_model.safetensors"],
    )
    weights = origin.facts.files[1].digest
    version = moved.mover.platform.as_("viewer").adapters.version(PROJECT, "answers")
    assert weights in {file.digest for file in version.files}, "the weights are the same, byte for byte"


def test_an_alias_serves_nothing(moved: Moved) -> None:
    assert list(moved.mover.platform.as_("viewer").releases.channels(PROJECT)) == []
    shown = moved.mover.run("import", *moved.options, "--project", PROJECT, "--dry-run")
    assert "champion = support/faq-bot:v1" in shown.stderr
    assert "recorded, not released" in shown.stderr


def test_the_same_import_again_brings_nothing_twice(moved: Moved) -> None:
    again = outcomes(moved.mover.report(*moved.options, exit_code=1))
    assert again["FAQ Bot", "1"] == ("already in", "support/faq-bot:v1", None)
    assert again["FAQ Bot", "3"] == ("already in", "support/faq-bot:v1", None)
    assert again["FAQ Bot", "2"][0] == "refused", "it is tried again: it may have been mended"
    assert again[JAPANESE, "1"][0] == "already in"
    assert len(list(moved.mover.platform.as_("viewer").origins.all(PROJECT))) == 3


def test_the_origin_is_shown_beside_the_version(moved: Moved) -> None:
    shown = moved.mover.run("adapters", "show", "support/answers", user="viewer").stdout
    assert f"mlflow {JAPANESE} 1" in shown
    origins = moved.mover.run("adapters", "origins", "support/faq-bot:v1", user="viewer").stdout
    assert "tag 段階" in origins
    assert "検証済み" in origins


def test_an_origin_is_written_once(moved: Moved) -> None:
    _, first = moved.origins("faq-bot", "v1")
    path = "/projects/support/adapters/faq-bot/versions/v1/origins"
    same = first.model_dump(mode="json", exclude={"id", "reference", "digest", "imported_by", "imported_at"})
    repeated = moved.mover.platform.call("contributor", "POST", path, json=same)
    assert (repeated.status_code, repeated.json()["id"]) == (201, str(first.id))
    changed = same | {"facts": same["facts"] | {"tags": {"段階": "未検証"}}}
    refused = moved.mover.platform.call("contributor", "POST", path, json=changed)
    assert (refused.status_code, refused.json()["code"], refused.json()["details"]["differs"]) == (409, "origin_differs", ["facts.tags"])
    elsewhere = moved.mover.platform.call("contributor", "POST", path.replace("faq-bot", "answers"), json=same)
    assert elsewhere.json()["details"]["differs"] == ["version here"]
    assert moved.mover.platform.call("viewer", "POST", path, json=same).status_code == 403
    huge = same | {"version": "99", "facts": {"tags": {f"t{number}": "x" * 80_000 for number in range(8)}}}
    assert moved.mover.platform.call("contributor", "POST", path, json=huge).json()["code"] == "origin_too_large"
    assert len(moved.mover.platform.logged("adapter.version.origin")) == 3
    found = moved.mover.platform.call("viewer", "GET", f"/projects/support/origins/{first.id}")
    assert OriginOut.model_validate(found.json()) == first


def test_an_import_killed_in_the_middle_and_repeated_brings_everything_once(
    shared_platform: Processes, sources: Sources, mlflow_server: Registry, mover: Mover
) -> None:
    options = ("mlflow", "--server", mlflow_server.url, "--base", BASE, "--trained-on", BASE_NAME, "--name", "FAQ*", "--name", "顧客*")
    with new_organization(shared_platform) as platform:
        registered_base(platform, sources.base)
        other = Mover(platform, mover.home)
        # Its job is running, and nobody is left to write the origin down.
        said = other.killed(*options, when="inspection of FAQ Bot 1 ·")
        assert "FAQ Bot 1: imported" not in said
        done = other.report(*options, exit_code=1)
        assert done["counts"].get("refused") == 1, done
        assert "failed" not in done["counts"]
        versions = platform.as_("viewer").adapters.versions(PROJECT, "faq-bot")
        assert [version.number for version in versions] == [1]
        origins = list(platform.as_("viewer").origins.all(PROJECT))
        assert sorted((origin.name, origin.version) for origin in origins) == [("FAQ Bot", "1"), ("FAQ Bot", "3"), (JAPANESE, "1")]


def test_a_name_that_belongs_to_another_adapter_is_refused_before_anything_moves(moved: Moved) -> None:
    moved.mover.platform.as_("contributor").adapters.create(PROJECT, "other-base", base=BASE)
    unnamed = (*moved.options[:-2], "--trained-on", "someone/else", "--name", "other*", "--dry-run")
    assert outcomes(moved.mover.report(*unnamed))["other base", "1"][0] == "to import", "the adapter of that name has no versions"
    # A rename to an adapter that is there says that it is the same one.
    renamed = moved.mover.report(*unnamed, "--rename", "other base=faq-bot")
    assert (renamed["lines"][0]["adapter"], renamed["lines"][0]["outcome"]) == ("support/faq-bot", "to import")
    unknown = moved.mover.run("import", "mlflow", "--server", moved.options[2], "--project", PROJECT, "--base", "nowhere", "--dry-run")
    assert (unknown.returncode, "[not_found]" in unknown.stderr) == (1, True)
