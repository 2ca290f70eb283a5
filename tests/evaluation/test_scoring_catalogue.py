"""The catalogue that suites are sealed by, the scorers that stand behind it, and the suites that ship with Ringi."""

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import scorer_table
from ringi.gating.advice import advise
from ringi.gating.schemas import Requirement, Tier
from ringi.jobs.contracts.scorers import CATALOGUE, ScoreProblem, ScorerMisused, check, measure_of
from ringi.jobs.contracts.suites import Answer, Answering, Decoding, Item, ScorerSpec
from ringi.kit.digests import sha256_bytes
from ringi.suites.compiling import check_deeply
from ringi.suites.shipping import SHIPPED, Shipped, document_of
from ringi_workers.evaluation.grading.registry import Access, Grading

ASKED = sha256_bytes(b"asked")
# The parameters without which a scorer cannot be.
TOLD: Mapping[str, dict[str, Any]] = {
    "regex": {"pattern": r"\d+"},
    "json_schema": {"schema": {"type": "object"}},
    "one_of": {"texts": ["はい", "いいえ"]},
    "judge": {"endpoint": "main", "model": "m", "rubric": "r"},
    "lm_eval": {"metric": "acc"},
}
OF_TEXT = [name for name, one in CATALOGUE.items() if Answering.GENERATE in one.answering and name != "judge"]


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_scorer_of_the_catalogue_is_there_and_knows_its_parameters(name: str) -> None:
    spec = ScorerSpec(name=name, parameters=TOLD.get(name, {}))
    assert isinstance(check(spec), CATALOGUE[name].parameters)
    assert (Grading(Access()).scorer(spec) is None) is CATALOGUE[name].by_answering
    with pytest.raises(ScorerMisused) as refused:
        check(ScorerSpec(name=name, parameters={**TOLD.get(name, {}), "知らない": 1}))
    assert refused.value.code == "suite_scorer_parameters"


@pytest.mark.parametrize("name", OF_TEXT)
@given(output=st.text(max_size=60), reference=st.text(max_size=30))
@settings(max_examples=25, deadline=None)
def test_a_score_is_within_its_range_or_there_is_none(name: str, output: str, reference: str) -> None:
    one = CATALOGUE[name]
    item, answer = Item(id="q", prompt="?", references=(reference,)), Answer(item="q", asked=ASKED, output=output)
    scored = Grading(Access()).graded([item], [answer], [ScorerSpec(name=name, parameters=TOLD.get(name, {}))])[0]
    if (score := scored.scores[name]) is None:
        assert scored.problem == ScoreProblem.REFERENCE_UNREADABLE
        return
    assert scored.problem is None
    assert not one.binary or score in {0, 1}
    assert one.low is None or score >= one.low
    assert one.high is None or score <= one.high


@pytest.mark.parametrize("name", ["exact_match", "normalised_match", "contains", "token_f1", "rouge_l", "chrf", "bleu"])
@pytest.mark.parametrize("text", ["Paris is the capital.", "日本の首都は東京です。", "Ringiは稟議。", "42"])
def test_a_text_is_perfect_beside_itself(name: str, text: str) -> None:
    scorer = Grading(Access()).scorer(ScorerSpec(name=name))
    assert scorer is not None
    assert scorer(Item(id="q", prompt="?", references=(text,)), Answer(item="q", asked=ASKED, output=text)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "parameters", "answering", "code"),
    [
        ("nonsense", {}, None, "suite_scorer_unknown"),
        ("module:", {}, None, "suite_scorer_unknown"),
        ("a;b:c", {}, None, "suite_scorer_unknown"),
        ("モジュール:関数", {}, None, "suite_scorer_unknown"),
        ("accuracy", {}, Answering.GENERATE, "suite_scorer_unfit"),
        ("chrf", {}, Answering.CHOICE, "suite_scorer_unfit"),
        ("numeric", {"absolute": -1}, None, "suite_scorer_parameters"),
        ("numeric", {"absolute": float("inf")}, None, "suite_scorer_parameters"),
        ("regex", {}, None, "suite_scorer_parameters"),
        ("regex", {"pattern": "a" * 1001}, None, "suite_scorer_parameters"),
        ("length_within", {"minimum": 3, "maximum": 2}, None, "suite_scorer_parameters"),
        ("acme.scorers:tone", {"timeout_s": 0}, None, "suite_scorer_parameters"),
    ],
)
def test_a_scorer_that_is_misused_is_refused_with_a_code(
    name: str, parameters: dict[str, Any], answering: Answering | None, code: str
) -> None:
    with pytest.raises(ScorerMisused) as refused:
        check(ScorerSpec(name=name, parameters=parameters), answering)
    assert refused.value.code == code
    assert str(refused.value)


def test_a_custom_scorer_says_itself_what_its_scores_are() -> None:
    told = measure_of(ScorerSpec(name="acme.scorers:tone", parameters={"lower_is_better": True, "high": 10.0}))
    assert (told.lower_is_better, told.high, told.binary, told.gateable) == (True, 10.0, False, True)
    assert not CATALOGUE["macro_f1"].gateable
    assert not CATALOGUE["length"].gateable
    assert [name for name, one in CATALOGUE.items() if one.lower_is_better] == ["nll", "perplexity", "exposure"]


def test_an_answer_that_answering_could_not_give_gets_no_score_and_keeps_its_problem() -> None:
    items = [Item(id=name, prompt="?", references=("東京",)) for name in ("a", "b")]
    answers = [Answer(item="a", asked=ASKED, problem="prompt_too_long"), Answer(item="b", asked=ASKED, output="東京", scores={"nll": 1.5})]
    found = Grading(Access()).graded(items, answers, [ScorerSpec(name="exact_match"), ScorerSpec(name="chrf", label="近さ")])
    assert [answer.scores for answer in found] == [{"exact_match": None, "近さ": None}, {"nll": 1.5, "exact_match": 1.0, "近さ": 1.0}]
    assert [answer.problem for answer in found] == ["prompt_too_long", None]


def test_a_scorer_that_fails_spoils_its_own_score_only() -> None:
    items, answers = [Item(id="a", prompt="?", references=("東京",))], [Answer(item="a", asked=ASKED, output="東京")]
    found = Grading(Access()).graded(items, answers, [ScorerSpec(name="numeric"), ScorerSpec(name="exact_match")])
    assert found[0].scores == {"numeric": None, "exact_match": 1.0}
    assert found[0].problem == ScoreProblem.REFERENCE_UNREADABLE
    assert "no reference holds a number" in found[0].notes["numeric"]


def test_the_table_of_the_documentation_is_current() -> None:
    assert scorer_table.PAGE.read_text("utf-8") == scorer_table.page()
    text = scorer_table.PAGE.read_text("utf-8")
    assert [problem for problem in ScoreProblem if f"`{problem}`" not in text] == []


def shipped(name: Shipped) -> tuple[list[dict[str, Any]], list[Requirement]]:
    document = yaml.safe_load(document_of(name))
    assert set(document) == {"tasks", "requirements"}
    return document["tasks"], [Requirement.model_validate(one) for one in document["requirements"]]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_suite_is_in_the_words_of_suites_and_of_the_gate(name: Shipped) -> None:
    tasks, requirements = shipped(name)
    metrics: dict[str, dict[str, ScorerSpec]] = {}
    for task in tasks:
        assert set(task) <= {"name", "answering", "render", "decoding", "scorers", "items"}
        answering = Answering(task["answering"])
        Decoding.model_validate(task.get("decoding", {}))
        items = [Item.model_validate(one) for one in task["items"]]
        specs = [ScorerSpec.model_validate(one) for one in task["scorers"]]
        metrics[task["name"]] = {spec.metric: spec for spec in specs}
        for spec in specs:
            check_deeply(spec, answering)
            if CATALOGUE[spec.name].needs == "reference":
                assert all(item.references and all(item.references) for item in items)
        assert len({item.id for item in items}) == len({item.prompt for item in items}) == len(items)
        assert all(set(item.tags) >= {"language"} for item in items)
    for one in requirements:
        measure = CATALOGUE[metrics[one.task][one.metric].name]
        assert measure.gateable
        assert one.lower_is_better is measure.lower_is_better
        items = [Item.model_validate(item) for task in tasks if task["name"] == one.task for item in task["items"]]
        assert all(line.supported for line in advise(one, len(items), Counter()))
    assert {one.task for one in requirements} == set(metrics)


def test_the_safety_suite_covers_both_languages_many_harms_and_needless_refusals() -> None:
    tasks, requirements = shipped("safety")
    found = {task["name"]: task["items"] for task in tasks}
    assert sum(map(len, found.values())) >= 60
    for language in ("en", "ja"):
        assert len({item["tags"]["category"] for item in found[f"refusal-{language}"]}) >= 12
        assert len(found[f"over-refusal-{language}"]) >= 12
        assert {item["tags"]["language"] for item in found[f"refusal-{language}"]} == {language}
    assert {one.task for one in requirements if one.safety} == {"refusal-en", "refusal-ja", "language", "personal-data"}


def test_the_off_task_probe_has_two_hundred_prompts_whose_references_pass() -> None:
    tasks, requirements = shipped("off-task")
    items = [item for task in tasks for item in task["items"]]
    assert len(items) >= 200
    assert min(Counter(item["tags"]["language"] for item in items).values()) >= 90
    assert {one.tier for one in requirements if one.metric == "nll"} == {Tier.SUPPORTING}
    for task in tasks:
        if task["answering"] != Answering.GENERATE or not task["items"][0].get("references"):
            continue
        scorer = Grading(Access()).scorer(ScorerSpec.model_validate(task["scorers"][0]))
        assert scorer is not None
        for one in task["items"]:
            item = Item.model_validate(one)
            assert scorer(item, Answer(item=item.id, asked=ASKED, output=f"答え：{item.references[0]}")) == 1, item.id
            assert scorer(item, Answer(item=item.id, asked=ASKED, output="🤷")) == 0, item.id


@given(
    st.sampled_from(sorted(CATALOGUE)),
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=2)),
)
@settings(max_examples=150, deadline=None)
def test_no_parameter_makes_the_check_fail_in_another_way(name: str, value: Any) -> None:
    fields = CATALOGUE[name].parameters.model_fields
    for field in [*fields, "other"]:
        with suppress(ScorerMisused):
            told = check_deeply(ScorerSpec(name=name, parameters={**TOLD.get(name, {}), field: value}))
            assert json.loads(told.model_dump_json(by_alias=True)) is not None


@pytest.mark.parametrize("name", ["refusal", "no_toxicity", "no_personal_data"])
def test_no_reference_of_the_probe_is_taken_for_a_refusal_a_curse_or_personal_data(name: str) -> None:
    parameters = {"expected": "comply"} if name == "refusal" else {}
    scorer = Grading(Access()).scorer(ScorerSpec(name=name, parameters=parameters))
    assert scorer is not None
    references = [(item["id"], text) for task in shipped("off-task")[0] for item in task["items"] for text in item.get("references", ())]
    assert len(references) > 200
    assert [one for one, text in references if scorer(Item(id=one, prompt="?"), Answer(item=one, asked=ASKED, output=text)) != 1] == []
