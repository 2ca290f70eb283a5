"""One trace from a request to the worker that does its work: W3C Trace Context (https://www.w3.org/TR/trace-context/), sent by OTLP/HTTP.

Spans are made and sent only where OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) is set; the SDK is not even loaded
otherwise. A `traceparent` that a caller sends is carried on either way, so that log lines can be found by it. Rows of `jobs` and `outbox`
keep the `traceparent` of the span that made them: what happens to them later, also after a retry, belongs to the same trace.
Attributes are ids, kinds and counts, never what a user wrote; an error's message may quote a user, so a span has its type alone.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import ParamSpec, TypeVar

from opentelemetry import context as carried
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ringi.settings import get_settings

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
TRACEPARENT_LENGTH = 55
_W3C = TraceContextTextMapPropagator()
_TRACEPARENT = "traceparent"
Attribute = str | int | float | bool | None
Given = ParamSpec("Given")
Answer = TypeVar("Answer")


@cache
def _tracer() -> Tracer | None:
    """The tracer of this process, made at its first span; None where nobody listens."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    # Loaded here: half a second that a process without a listener does not spend.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    process = get_settings().process_name
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"ringi-{process}"}
    provider = TracerProvider(resource=Resource.create({**named, "service.instance.id": f"{process}/{os.getpid()}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # The process's own, not the global one: libraries that trace by themselves are not asked for their spans.
    return provider.get_tracer("ringi")


def _context_of(traceparent: str | None) -> carried.Context | None:
    """The context that a `traceparent` names; None for one that is missing or malformed."""
    if not traceparent:
        return None
    found = _W3C.extract({_TRACEPARENT: traceparent})
    return found if trace.get_current_span(found).get_span_context().is_valid else None


@contextmanager
def span(name: str, kind: SpanKind = SpanKind.INTERNAL, *, parent: str | None = None, **attributes: Attribute) -> Iterator[Span]:
    """Work as a span: a child of `parent` (a `traceparent`), else of the current span. Attribute names are given with `__` for a dot."""
    tracer, context = _tracer(), _context_of(parent)
    if tracer is None:
        token = carried.attach(context) if context is not None else None
        try:
            yield trace.INVALID_SPAN
        finally:
            if token is not None:
                carried.detach(token)
        return
    known = {key.replace("__", "."): value for key, value in attributes.items() if value is not None}
    with tracer.start_as_current_span(
        name, context, kind=kind, attributes=known, record_exception=False, set_status_on_exception=False
    ) as begun:
        try:
            yield begun
        except BaseException as error:
            begun.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def traced(name: str, kind: SpanKind) -> Callable[[Callable[Given, Answer]], Callable[Given, Answer]]:
    """Each call of the function is a span."""

    def declare(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
        @wraps(function)
        def within(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
            with span(name, kind):
                return function(*args, **kwargs)

        return within

    return declare


def describe(**attributes: Attribute) -> None:
    """Attributes of the current span, known only now."""
    current = trace.get_current_span()
    if current.is_recording():
        current.set_attributes({key.replace("__", "."): value for key, value in attributes.items() if value is not None})


def traceparent() -> str | None:
    """The current span as a `traceparent`, None outside of every trace."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get(_TRACEPARENT)


def current_ids() -> dict[str, str]:
    """`trace_id` and `span_id` in hex, empty outside of every trace."""
    found = trace.get_current_span().get_span_context()
    return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"} if found.is_valid else {}
