"""A word to whoever names an environment that no channel serves: mostly it is misspelt, and an approval for it would lead nowhere."""

from ringi.cli.client import RingiClient
from ringi.cli.output import note


def note_unserved(client: RingiClient, project: str, environment: str) -> None:
    """Tell, on stderr, which environments the project's channels serve, where this is none of them; silent as long as there is no channel."""
    served = sorted({channel.environment for channel in client.releases.channels(project)})
    if served and environment not in served:
        note(
            f"No channel of {project} serves the environment '{environment}'; they serve {', '.join(served)}. See: ringi channels create --help."
        )
