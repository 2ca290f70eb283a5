"""THE commit: one session per request, committed before the response is sent, rolled back on any error.

`scope="function"` matters: without it FastAPI (0.118 and later) runs the code after `yield` when the response is already out,
so a client could read "201" and the commit could still fail. Use `SessionDep` only; a bare `Depends(get_session)` opens a second session.
With it the order is: endpoint, rendered answer, what `web/route.py` adds to the transaction, this commit, the first byte of the answer.
"""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from ringi.db.session import get_sessionmaker


def get_session(request: Request) -> Iterator[Session]:
    """The request's transaction; `request.state.session` is for what keeps the answer in it (web/idempotency.py)."""
    with get_sessionmaker().begin() as session:
        request.state.session = session
        yield session


SessionDep = Annotated[Session, Depends(get_session, scope="function")]
