"""Runs migrations as the owner role, which the application never uses. A migration waits at most for a lock, then gives up."""

from alembic import context
from sqlalchemy import create_engine, text

from all_models import metadata
from ringi.kit.errors import RingiError
from ringi.settings import get_settings


class NoOwner(RingiError):
    """Migrations need the owner role."""

    code, status = "migration_owner_missing", 409

    def __init__(self) -> None:
        super().__init__("RINGI_OWNER_DATABASE_URL is not set.", next_step="Set it to the database URL of the role that owns the tables.")


def run() -> None:
    """Run each migration in a transaction of its own: the locks of one are not held through the next."""
    url = get_settings().owner_database_url
    if url is None:
        raise NoOwner
    with create_engine(url).connect() as connection:
        # Set on the connection: a migration that cannot get its lock must not queue up the whole application behind it.
        connection.execute(text("SET lock_timeout = '5s'"))
        connection.commit()
        context.configure(connection=connection, target_metadata=metadata, compare_type=True, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()


run()
