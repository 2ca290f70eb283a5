"""What a template of a YAML may make: bounded where it is rendered, whatever the documents are, and otherwise as Jinja renders it."""

import time

import lm_eval.utils
import pytest
from jinja2.exceptions import SecurityError

from ringi.suites.harness_patterns import MAX_TEXT, WordsRefused
from ringi.suites.harness_words import names_of
from ringi_workers.evaluation.harness import library
from support.harness_tasks import documents

DOUBLING = "{% set a0=question %}" + "".join(f"{{% set a{n + 1}=a{n}~a{n} %}}" for n in range(40)) + "{{a40}}"
NESTED = "{% set a0=[question] %}" + "".join(f"{{% set a{n + 1}=[a{n}, a{n}] %}}" for n in range(40))
EXHAUSTING = {
    "a chain of texts that double": DOUBLING,
    "a chain of sums that double": DOUBLING.replace("~", "+"),
    "a list that holds itself many times": NESTED + "{{a40}}",
    "the same as a text": NESTED + "{{a40|string|length}}",
    "the same as JSON": NESTED + "{{a40|tojson|length}}",
    "the same joined": NESTED + "{{a40|join|length}}",
    "replacing what is everywhere": "{{question" + "|replace('', question)" * 9 + "}}",
    "the same by a method": "{{question" + ".replace('', question)" * 9 + "}}",
    "the same by a pattern": "{{question" + "|regex_replace('', 'aaaaaaaaaaaaaaaaaaaa')" * 9 + "}}",
    "joining with a long text": "{{question|list|join(question)}}{{question.join(question.join(question.join(question)))}}",
    "a number with a long end": "{{1.5|round(999999999, 'floor')}}",
    "JSON far to the right": "{{options|tojson(999999999)}}",
    "a range of a document": "{% for x in range(question|length|string|replace('', '99')|int) %}{% endfor %}",
    "a loop that works and says nothing": "{% for x in question|replace('', question) %}{% if question|upper|lower|title == x %}{% endif %}{% endfor %}",
    "a loop that says much": "{% for x in question|replace('', question) %}{{question}}{% endfor %}",
    "a doubling that got past sealing": "{% set a='x' %}" + "{% set a=a~a %}" * 40 + "{{a}}",
    "loops in loops that got past sealing": "{% for a in range(999) %}" * 3 + "{{question}}" + "{% endfor %}" * 3,
}  # fmt: skip


@pytest.mark.parametrize("template", EXHAUSTING.values(), ids=EXHAUSTING)
def test_a_template_that_would_use_up_time_or_memory_ends_soon(template: str) -> None:
    document = {**documents(2)[0], "question": "棚に何がありますか。" * 20}
    begun = time.process_time()
    with library.rendering(sandboxed=True), pytest.raises((SecurityError, WordsRefused)):
        lm_eval.utils.apply_template(template, document)
    assert time.process_time() - begun < 30


def test_constants_are_not_computed_while_a_template_is_read() -> None:
    """Jinja folds filters of constants while it looks for names: this one would be longer than any memory."""
    assert names_of("{{'a'" + "|replace('', 'aaaaaaaaaa')" * 60 + "}}{{question}}") == {"question"}


@pytest.mark.parametrize(
    "template",
    [
        "質問: {{question.strip()}}\n答え:{{' ' ~ options[label] ~ label}}", "{% for c in options %}{{loop.index}}. {{c|trim}}\n{% endfor %}",
        "{% set start = question[:4] %}{{[start+options[0], start+options[1]]}}", "{{options|join('、')}}{{', '.join(options)}}{{label + 1}}",
        "{{question|replace('棚', '本棚')|regex_replace('[ 　]+(\\\\w)', '_\\\\1')}}{{question.replace('a', 'b', 1)}}", "{{options|tojson}}{{2.345|round(1)}}",
        "{{options|unique|list}}{{options|sort|first}}{{options|default('x')}}", "{{missing|default('無し')}}{{options}}",
        "{% for i in range(options|length) %}{{'ABCD'[i]}}{% endfor %}{{question.split('?')[-1] if question else ''}}",
    ],
)  # fmt: skip
def test_templates_as_tasks_use_them_say_what_the_librarys_own_environment_says(template: str) -> None:
    for document in documents(4):
        theirs = lm_eval.utils.apply_template(template, document)
        with library.rendering(sandboxed=True):
            assert lm_eval.utils.apply_template(template, document) == theirs
        assert 0 < len(theirs) < MAX_TEXT


def test_patterns_are_run_by_re2_within_and_by_python_without() -> None:
    hangs, text = "(?:aa|a.)" * 40 + "b", "a" * 4000
    filters = library.module("lm_eval.filters.extraction")
    before = filters.re
    with library.rendering(sandboxed=True):
        assert filters.RegexFilter(regex_pattern=hangs, fallback="[無効]").apply([[text, "答え"]], [{}]) == [["[無効]", "[無効]"]]
        chosen = filters.MultiChoiceRegexFilter(regex_pattern=r"(\([A-Z]\))", regexes_to_ignore=[hangs])
        assert chosen.apply([["答えは赤い 猫", "(B)"]], [{"choices": ["青い 猫", "赤い 猫"]}]) == [["(B)", "(B)"]]
        score = library.module("lm_eval.api.metrics").exact_match_hf_evaluate
        assert score(predictions=[text + "x"], references=[text], regexes_to_ignore=[hangs, "x$"])["exact_match"] == 1.0
    assert filters.re is before
