"""Makes the samples beside it, by lm-evaluation-harness as its users run it, over a tiny model and questions that are made here; nothing is fetched.

    PYTHONPATH=platform:workers:tests python tests/gating/lm_eval_samples/make.py ~/.cache/ringi/benchmarks/lm-eval/bin/lm_eval

The program is that of a virtual environment with lm_eval[hf] 0.4.13 (`python -m benchmarks.sweep_vs_lm_eval` makes one). What it writes is kept as it is,
but for paths of the machine.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from support.tiny_model import make_tiny_base, tiny_rows

HERE = Path(__file__).parent
CHOICES = ["赤い猫", "青い川", "red cat", "blue river"]
_COMMON = {"dataset_path": "json", "test_split": "test", "doc_to_text": "質問: {{question}}\n答え:", "metadata": {"version": 1}}


def tasks(rows: Path) -> dict[str, dict[str, object]]:
    """A task of each kind that the import reads. JSON is YAML."""
    common = {**_COMMON, "dataset_kwargs": {"data_files": {"test": str(rows)}}}
    accuracy = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")]
    match = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
    chosen = {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "answer", "metric_list": accuracy}
    written = {
        "output_type": "generate_until", "doc_to_target": "{{choices[answer]}}", "metric_list": match,
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
    }  # fmt: skip
    first_word = [{"function": "regex", "regex_pattern": r"(\S+)"}, {"function": "take_first"}]
    filtered = {"filter_list": [{"name": "first-word", "filter": first_word}, {"name": "none", "filter": [{"function": "take_first"}]}]}
    return {
        "shelves_choice": {**common, "task": "shelves_choice", **chosen},
        "shelves_written": {**common, "task": "shelves_written", **written},
        "shelves_filtered": {**common, "task": "shelves_filtered", **written, **filtered},
        "shelves_text": {
            **common, "task": "shelves_text", "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{question}}",
            "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}],
        },
    }  # fmt: skip


def main(lm_eval: str) -> None:
    """Run it, and keep what it logged in place of what is there."""
    for old in HERE.glob("samples_*.jsonl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.jsonl"
        with rows.open("w", encoding="utf-8") as lines:
            for number, row in enumerate(tiny_rows(6, seed=2)):
                kind = "日本語" if number % 3 == 2 else "English"
                doc = {"id": f"棚{number}", "question": row["prompt"], "choices": CHOICES, "answer": number % 4, "言語": kind}
                lines.write(json.dumps(doc, ensure_ascii=False) + "\n")
        for task, told in tasks(rows).items():
            (folder / f"{task}.yaml").write_text(json.dumps(told), encoding="utf-8")
        base = make_tiny_base(folder / "base")
        command = [
            lm_eval, "--model", "hf", "--model_args", f"pretrained={base},dtype=float32", "--tasks", ",".join(tasks(rows)), "--include_path", name,
            "--device", "cpu", "--batch_size", "4", "--log_samples", "--output_path", str(folder / "out"),
        ]  # fmt: skip
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "cache"), "TOKENIZERS_PARALLELISM": "false"}
        subprocess.run(command, env=os.environ | offline, check=True)
        for file in sorted((folder / "out").rglob("samples_*.jsonl")):
            text = file.read_text(encoding="utf-8")
            (HERE / file.name).write_text(text.replace(name, "…"), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
