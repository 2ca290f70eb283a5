"""Fill an MLflow server as a company would have: `python other_registry.py URL BASE_FOLDER`. Runs as a process of its own.

FAQ Bot         3 versions of a PEFT folder logged as artifacts of runs; the second is silent (its B matrices are zero), the third is the first again
顧客対応 回答   a PEFT model through the flavour `mlflow.transformers`
churn           no PEFT model
other base      a PEFT folder made for another base model
"""

import json
import math
import sys
import tempfile
from pathlib import Path

import mlflow
import torch
from mlflow import MlflowClient
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE_NAME = "example/tiny-base"


def peft_model(base: Path, *, seed: int, silent: bool = False) -> PeftModel:
    """A LoRA on the base; with random weights it moves the logits, `silent` it does nothing."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=silent)
    return get_peft_model(model, config)


def peft_folder(base: Path, out: Path, *, seed: int, silent: bool = False, base_name: str = BASE_NAME) -> Path:
    """As `save_pretrained` writes it, with what a trainer leaves beside it."""
    peft_model(base, seed=seed, silent=silent).save_pretrained(str(out))
    config = out / "adapter_config.json"
    document = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(document | {"base_model_name_or_path": base_name}), encoding="utf-8")
    (out / "optimizer.pt").write_bytes(b"left by a trainer")
    return out


def logged(client: MlflowClient, name: str, folder: Path, *, at: str, loss: float) -> str:
    """A run with the folder as artifacts, and a version that points into the run; returns the version."""
    with mlflow.start_run(run_name=f"{name} の学習") as run:
        mlflow.log_params({"learning_rate": 0.01, "データ": "問い合わせ"})
        mlflow.log_metrics({"loss": loss, "eval_acc": 0.75})
        mlflow.set_tag("担当", "愛子")
        mlflow.log_artifacts(str(folder), artifact_path=at)
    version = client.create_model_version(name, source=f"{run.info.artifact_uri}/{at}", run_id=run.info.run_id, description="説明")
    client.set_model_version_tag(name, version.version, "段階", "検証済み")
    return str(version.version)


def fill(url: str, base: Path, scratch: Path) -> None:
    """Everything that the docstring lists."""
    mlflow.set_tracking_uri(url)
    client = MlflowClient(url)
    mlflow.set_experiment("移行前")

    client.create_registered_model("FAQ Bot", tags={"部門": "サポート"}, description="よくある質問")
    first = peft_folder(base, scratch / "first", seed=1)
    logged(client, "FAQ Bot", first, at="out/adapter", loss=math.nan)
    logged(client, "FAQ Bot", peft_folder(base, scratch / "silent", seed=2, silent=True), at="adapter", loss=2.5)
    logged(client, "FAQ Bot", first, at="adapter", loss=1.25)
    client.set_registered_model_alias("FAQ Bot", "champion", "1")

    client.create_registered_model("顧客対応 回答")
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1.5)
        model, tokenizer = peft_model(base, seed=4), AutoTokenizer.from_pretrained(base)
        # As if it had been trained on a model of the hub.
        model.peft_config["default"].base_model_name_or_path = BASE_NAME
        info = mlflow.transformers.log_model(
            {"model": model, "tokenizer": tokenizer}, name="answers", task="text-generation", pip_requirements=["peft"]
        )
    client.create_model_version("顧客対応 回答", source=info.model_uri, run_id=run.info.run_id, model_id=info.model_id)

    client.create_registered_model("churn")
    plain = scratch / "plain"
    plain.mkdir()
    (plain / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n", encoding="utf-8")
    (plain / "model.pkl").write_bytes(b"not unpickled here")
    logged(client, "churn", plain, at="model", loss=0.5)

    client.create_registered_model("other base")
    logged(client, "other base", peft_folder(base, scratch / "other", seed=5, base_name="someone/else"), at="adapter", loss=0.5)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        fill(sys.argv[1], Path(sys.argv[2]), Path(folder))
