"""THE commit: one session per request, committed before the response is sent, rolled back on any error.

`scope="function"` matters: without it FastAPI (0.118 and later) runs the code after `yield` when the response is already out,
so a client could read "201" and the commit could still fail. Use `SessionDep` only; a bare `Depends(get_session)` opens a second session.
"""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.orm import Session

from ringi.db.session import get_sessionmaker


def get_session() -> Iterator[Session]:
    """The request's transaction."""
    with get_sessionmaker().begin() as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session, scope="function")]
