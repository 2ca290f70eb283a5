"""THE commit: one session per request, committed before the response is sent, rolled back on any error.

`scope="function"` matters: without it FastAPI (0.118 and later) runs the code after `yield` when the response is already out,
so a client could read "201" and the commit could still fail. Use `SessionDep` only; a bare `Depends(get_session)` opens a second session.
With it the order is: endpoint, rendered answer, what `web/route.py` adds to the transaction, this commit, the first byte of the answer.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from ringi.db.session import get_reading, get_sessionmaker

_READS = frozenset({"GET", "HEAD"})


async def get_session(request: Request) -> AsyncIterator[Session]:
    """The request's transaction, or what a read asks with; `request.state.session` is for what keeps the answer in it (web/idempotency.py).

    Neither opening nor closing it asks the database anything, so both happen on the event loop; the commit has a thread.
    """
    session = (get_reading() if request.method in _READS else get_sessionmaker())()
    request.state.session = session
    try:
        yield session
        if request.method not in _READS:
            await run_in_threadpool(session.commit)
    except BaseException:
        if session.in_transaction():
            await run_in_threadpool(session.rollback)
        raise
    finally:
        session.close()


SessionDep = Annotated[Session, Depends(get_session, scope="function")]
