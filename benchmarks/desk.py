"""Where the stories of the benchmarks begin: a platform of their own with a project, the people in it, and SmolLM2-135M."""

from ringi_workers.demo.sources import default_cache, fetch_base_model
from ringi_workers.demo.stage import Stage


def open_desk(stage: Stage) -> None:
    """The administrator `mio`, the contributor `aiko` of the project `desk`, and the base `smollm2`; by `ringi` commands."""
    data_dir = str(stage.data_dir)
    stage.run("up", "--data-dir", data_dir)
    stage.run("setup", "sakura", "--admin", "mio", "--display-name", "株式会社さくら", "--data-dir", data_dir, "--save-as", "mio")
    stage.run("projects", "create", "desk", "--display-name", "窓口", user="mio")
    stage.run("users", "create", "aiko", user="mio")
    stage.run("roles", "grant", "aiko", "contributor", "--project", "desk", user="mio")
    stage.run("tokens", "issue", "aiko", "--save-as", "aiko", user="mio")
    stage.run("bases", "create", "smollm2", user="mio")
    stage.run("bases", "register", "smollm2", str(fetch_base_model(default_cache())), user="mio")
