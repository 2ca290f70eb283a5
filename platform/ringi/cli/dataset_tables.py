"""How a dataset version and a trace are drawn for a person."""

from rich.table import Table

from ringi.cli.output import cell, facts, table
from ringi.datasets.schemas import DatasetVersionOut
from ringi.training.schemas import TraceOut


def drawn(version: DatasetVersionOut) -> Table:
    """A version: what it is, what was found in it, and its rows by category."""
    report = version.report
    found = [
        ("empty rows", report.empty_rows, "empty_rows"),
        ("duplicate rows", report.duplicate_rows, "duplicate_rows"),
        ("pairs that occur more than once", report.duplicated_pairs, "duplicated_pairs"),
        ("prompts with different answers", report.conflicting_prompts, "conflicting_prompts"),
        ("leaks into validation prevented", report.leakage_prevented, "leakage_prevented"),
        ("rows nearly equal to an earlier one", report.near_duplicates, "near_duplicates"),
        ("near duplicates taken out", report.near_removed, "near_removed"),
        ("validation rows nearly equal to one of train", report.near_leaks, "near_leaks"),
        *((f"changed by {step}", count, "") for step, count in report.prepared.items()),
        *((f"personal data: {kind}", count, f"personal_data_{kind}") for kind, count in (report.personal_data or {}).items()),
    ]
    findings = table(["finding", "count", "lines"], [(name, count, report.examples.get(key)) for name, count, key in found])
    tags = table(
        ["tag", "rows by value"],
        [(tag, [f"{value} {cell(n)}" for value, n in values.items()]) for tag, values in report.categories.items()],
    )
    about = facts([*_about(version), *_terms(version)])
    whole = Table.grid()
    for part in (about, "", findings, "", tags) if report.categories else (about, "", findings):
        whole.add_row(part)
    return whole


def _about(version: DatasetVersionOut) -> list[tuple[str, object]]:
    report = version.report
    told = [
        ("version", version.reference),
        ("digest", version.digest),
        ("source", version.source_digest),
        ("read as", f"{report.row_format}, {report.file_type}"),
        ("rows", f"{report.rows} ({report.unique_pairs} unique pairs)"),
        ("sealed", f"{report.train_rows + report.validation_rows} rows, {report.characters:,} characters"),
        ("train", f"{report.train_rows} rows  {version.train_digest}"),
        ("validation", f"{report.validation_rows} rows  {version.validation_digest}"),
    ]
    if report.kept_validation_of is not None:
        kept, lost = report.kept_validation_prompts, report.lost_validation_prompts
        told.append(("validation kept of", f"{report.kept_validation_of}: {kept} prompts are here again, {lost} are not"))
    if report.scripts:
        told.append(("written in", ", ".join(f"{script} {count}" for script, count in report.scripts.items())))
    for name, one in report.lengths.items():
        told.append((f"characters of {name}", f"median {one.median}, 95 of 100 up to {one.p95}, longest {one.longest}"))
    steps = version.recipe
    recipe = f"unicode {steps.unicode}, white space {steps.white_space}, near duplicates {steps.near_duplicates}, personal data {steps.personal_data}"
    return [*told, ("recipe", recipe)]


def _terms(version: DatasetVersionOut) -> list[tuple[str, object]]:
    terms = version.terms
    named = [("licence", terms.licence), ("origin", terms.origin), ("consent", terms.consent), ("kept until", terms.retain_until)]
    return [(name, value) for name, value in named if value]


def traced(found: TraceOut) -> Table:
    """Where rows are, and what was trained on them."""
    rows = table(
        ["version", "in train", "in validation", "rows"],
        [(one.version, one.train_rows, one.validation_rows, [row.source_id or row.id for row in one.rows[:5]]) for one in found.versions],
    )
    runs = table(
        ["trained on it", "dataset", "state", "run"],
        [(one.version or one.adapter, one.dataset, one.state, one.run_id) for one in found.trained],
    )
    whole = Table.grid()
    for part in (facts([("versions searched", found.searched_versions)]), "", rows, "", runs):
        whole.add_row(part)
    return whole
