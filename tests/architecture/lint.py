"""The house rules as checks: `python tests/architecture/lint.py PATHS…`. Each has a test in test_lint.py.

A rule with an escape takes a comment `# <escape>: <why>` inside the function, at the line or above it (outside a function: on the line or the
one before). The escapes: `unscoped` a read that does not start from what the actor may see; `thread` clients at once, or a network, in a test;
`replaces` a test that changes an imported thing; `long` a file or function over its length, said at its top.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FUNCTION_LINES = 60
FILE_LINES = {"platform": 300, "workers": 300, "tests": 500, "benchmarks": 300}
BANNED_NAMES = frozenset({"util", "utils", "helper", "helpers", "common", "manager", "managers"})
# The heartbeats of a running job and of its worker, the thread that feeds MLflow, the notifier's slots: they belong to the process they serve.
# So does the anchoring of the sequencer, which must not wait for a witness.
# The door of a process that has none answers while its loop works.
# A process of a run waits for the end of the one that started it, which may be kill -9.
# A login from a terminal opens the browser and waits for its answer at the same time.
# The clients of a benchmark are threads: they stand for people, not for parts of the platform.
MAY_START_THREADS = (
    "workers/ringi_workers/runtime.py",
    "workers/ringi_workers/training/rank.py",
    "workers/ringi_workers/tracking.py",
    "workers/ringi_workers/membership.py",
    "workers/ringi_workers/notifier.py",
    "workers/ringi_workers/anchoring.py",
    "platform/ringi/observe/serving.py",
    "platform/ringi/cli/logins/flows.py",
    "benchmarks/",
)
# Other programs and other machines give no signal: these poll a child process, or a server's answer.
MAY_SLEEP = ("platform/ringi/embedded/", "platform/ringi/cli/", "benchmarks/")
MONKEYPATCH_SETS_THE_SCENE = frozenset({"setenv", "delenv", "chdir", "syspath_prepend"})
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Violation(NamedTuple):
    """One broken rule at a line."""

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


Found = Iterator[tuple[int, str]]


class Source:
    """A parsed file; `path` is relative to the repository's root, `owned` names the models that belong to a tenant."""

    def __init__(self, path: str, text: str, *, owned: frozenset[str] = frozenset()) -> None:
        self.path, self.text, self.owned = path, text, owned
        self.root = path.partition("/")[0]
        self.tree = ast.parse(text)
        self.nodes = tuple(ast.walk(self.tree))
        self.functions = [node for node in self.nodes if isinstance(node, Function)]

    @cached_property
    def comments(self) -> dict[int, str]:
        """Line -> its comment without the hash."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}

    @cached_property
    def imported(self) -> frozenset[str]:
        """Names that imports bind anywhere in the file."""
        aliases = (alias for node in self.nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names)
        return frozenset(alias.asname or alias.name.partition(".")[0] for alias in aliases)

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Every call with the dotted name of what is called."""
        return ((node, dotted(node.func)) for node in self.nodes if isinstance(node, ast.Call))

    def imports(self) -> Iterator[tuple[ast.stmt, str]]:
        """Every import as `module` or `module.name`."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)

    def escaped(self, node: ast.expr | ast.stmt, escape: str) -> bool:
        """Whether a reason stands beside the node, or above it in a function around it."""
        last = node.end_lineno or node.lineno
        around = [one.lineno for one in self.functions if one.lineno <= node.lineno <= (one.end_lineno or 0)]
        return any(self.comments.get(line, "").startswith(f"{escape}: ") for line in range(min(around, default=node.lineno - 1), last + 1))


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute, empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""


def owned_models(models_files: Iterable[Path]) -> frozenset[str]:
    """Names of the classes with an owner mixin among their bases."""
    classes = (node for path in models_files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))
    return frozenset(one.name for one in classes if {dotted(base) for base in one.bases} & {"OwnedByProject", "OwnedByOrganization"})


def unscoped_read(source: Source) -> Found:
    """Rule 6: every read starts from what the actor may see."""
    if source.root not in {"platform", "workers"} or source.path.endswith("identity/permissions.py"):
        return
    for call, name in source.calls():
        by_key = name.rpartition(".")[2] in {"get", "get_one"} and len(call.args) > 1
        if name not in {"select", "exists"} and not by_key:
            continue
        asked = call.args[:1] if by_key else call.args
        models = {node.id for argument in asked for node in ast.walk(argument) if isinstance(node, ast.Name)} & source.owned
        if models and not source.escaped(call, "unscoped"):
            yield (
                call.lineno,
                f"reads {', '.join(sorted(models))} without visible(actor, …), and no '# unscoped: why' says that this is right",
            )


def edge_commits(source: Source) -> Found:
    """Rules 1 and 2: one session alias, and the edge commits."""
    for call, name in source.calls():
        inner = dotted(call.args[0]) if call.args else ""
        if name.endswith("Depends") and inner.endswith("get_session") and not source.path.endswith("web/session.py"):
            yield call.lineno, "a bare Depends(get_session) opens a second session; use SessionDep"
        if source.root in {"platform", "workers"} and name.rpartition(".")[2] == "commit" and "session" in name:
            yield call.lineno, "services flush, the edge commits"


def real_processes(source: Source) -> Found:
    """Rule 13: no eager tasks, no sleeping, no threads that play workers."""
    for node in source.nodes:
        keys = node.keys if isinstance(node, ast.Dict) else [node.slice] if isinstance(node, ast.Subscript) else []
        named = {getattr(node, "arg", None), getattr(node, "attr", None), *(getattr(key, "value", None) for key in keys)}
        if "task_always_eager" in named:
            yield getattr(node, "lineno", 1), "tasks run in worker processes, never eagerly"
    for call, name in source.calls():
        if name in {"time.sleep", "asyncio.sleep"} and not source.path.startswith(MAY_SLEEP):
            yield call.lineno, "wait for a condition (support/waiting.py), not for a time"
        if name in {"threading.Thread", "threading.Timer", "ThreadPoolExecutor", "futures.ThreadPoolExecutor", "ProcessPoolExecutor"}:
            in_test = source.root == "tests" and source.escaped(call, "thread")
            if not source.path.startswith(MAY_START_THREADS) and not in_test:
                yield call.lineno, "starts a thread; in a test that needs clients at once say '# thread: why'"
    for statement, name in source.imports():
        if name in {"time.sleep", "asyncio.sleep", "threading.Thread", "threading.Timer"}:
            yield statement.lineno, f"write {name} in full, so that the rules see it"


def nothing_patched(source: Source) -> Found:
    """Rule 13: real parts; no mocks, no patched clocks, no patched code."""
    for statement, name in source.imports():
        if name.startswith(("unittest", "mock", "freezegun", "time_machine", "pytest_mock")):
            yield statement.lineno, f"{name.partition('.')[0]} is for mocks and patched clocks; use the real part"
    for node in source.nodes:
        if isinstance(node, ast.arg) and node.arg == "mocker":
            yield node.lineno, "no mocks of our own code"
        if isinstance(node, ast.Attribute) and dotted(node).startswith("monkeypatch.") and node.attr not in MONKEYPATCH_SETS_THE_SCENE:
            yield node.lineno, f"monkeypatch.{node.attr} changes code; setenv and chdir set a scene"
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else []
        for target in targets:
            changed = isinstance(target, ast.Attribute) and dotted(target).partition(".")[0] in source.imported
            if source.root == "tests" and changed and not source.escaped(target, "replaces"):
                yield target.lineno, f"changes {dotted(target)}, which is imported; if it must, say '# replaces: why'"


def gates_do_not_assert(source: Source) -> Found:
    """Rule 9: `python -O` removes an assert, and its failure has no code."""
    if source.root in {"platform", "workers"}:
        yield from ((node.lineno, "raise a RingiError; an assert is no gate") for node in source.nodes if isinstance(node, ast.Assert))


def names_and_lengths(source: Source) -> Found:
    """Names of the trade, empty `__init__.py`, files and functions that fit a head."""
    path = Path(source.path)
    if banned := {path.stem, *path.parent.parts} & BANNED_NAMES:
        yield 1, f"'{banned.pop()}' says nothing; name the role"
    if path.name == "__init__.py" and source.text.strip():
        yield 1, "__init__.py files are empty"
    if path == Path("platform/__init__.py"):
        yield 1, "platform/ is a source root; with this file the standard library's `platform` is gone"
    allowed, lines = FILE_LINES.get(source.root), source.text.count("\n")
    first = source.tree.body[0].end_lineno or 1 if source.tree.body else 1
    explained = any(comment.startswith("long: ") for line, comment in source.comments.items() if line <= first + 2)
    if allowed is not None and lines > allowed and not explained:
        yield 1, f"{lines} lines; split it at {allowed}"
    for function in source.functions:
        length = (function.end_lineno or 0) - function.lineno + 1
        if source.root in FILE_LINES and length > FUNCTION_LINES and not source.escaped(function.body[0], "long"):
            yield function.lineno, f"{function.name} has {length} lines; split it at {FUNCTION_LINES}"


def heavy_imports(source: Source) -> Found:
    """Torch stays in the workers, also inside functions."""
    if source.root == "platform":
        for node, name in source.imports():
            if name.partition(".")[0] in {"torch", "transformers", "peft", "mlflow", "celery", "ringi_workers"}:
                yield node.lineno, f"the platform never imports {name.partition('.')[0]}"


def explicit_loads(source: Source) -> Found:
    """Rule 7: relationships raise when they were not loaded, and have no backref."""
    for call, name in source.calls():
        if name.rpartition(".")[2] == "relationship":
            options = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
            if options.get("lazy") != "raise" or {"backref", "back_populates"} & set(options):
                yield call.lineno, 'a relationship is lazy="raise" and goes upstream only'


RULES: dict[str, Callable[[Source], Found]] = {
    "unscoped-read": unscoped_read,
    "edge-commits": edge_commits,
    "real-processes": real_processes,
    "nothing-patched": nothing_patched,
    "no-assert-gates": gates_do_not_assert,
    "names-and-lengths": names_and_lengths,
    "heavy-import": heavy_imports,
    "explicit-loads": explicit_loads,
}


def check_text(path: str, text: str, *, owned: frozenset[str] = frozenset()) -> list[Violation]:
    """Every violation of one file's text."""
    try:
        source = Source(path, text, owned=owned)
    except SyntaxError as error:
        return [Violation(path, error.lineno or 1, "syntax", f"no Python {sys.version_info.major}.{sys.version_info.minor}: {error.msg}")]
    found = [Violation(path, line, rule, message) for rule, look in RULES.items() for line, message in look(source)]
    return sorted(found, key=lambda one: one.line)


def main(paths: list[str], *, root: Path = ROOT) -> int:
    """Check files and folders under `root`; returns 1 when a rule is broken."""
    files = sorted({file.resolve() for path in paths for file in ([Path(path)] if Path(path).is_file() else Path(path).rglob("*.py"))})
    owned = owned_models((root / "platform").rglob("models.py"))
    broken = [one for file in files for one in check_text(file.relative_to(root).as_posix(), file.read_text(), owned=owned)]
    for one in broken:
        print(one)
    print(f"{len(files)} files, {len(broken)} violations of the house rules")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
