# The API, the migrations, and (with --build-arg EXTRA=[relay]) the relay and the sequencer. No torch: a slip of an import fails here.
#   docker build -f deploy/api.Dockerfile .
FROM python:3.11-slim
ARG EXTRA=""
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY platform platform
COPY workers workers
COPY migrations migrations
# Editable, so that `alembic` finds migrations/ beside pyproject.toml exactly as it does in a checkout.
RUN pip install --no-cache-dir --editable ".${EXTRA}" --constraint constraints.txt \
    && useradd --system --uid 10001 --home-dir /data ringi \
    && install --directory --owner ringi /data /audit /audit/checkpoints \
    && python -c "import importlib.util as i, sys; sys.exit(i.find_spec('torch') is not None)"
USER ringi
VOLUME ["/data", "/audit"]
EXPOSE 8400
# Whose X-Forwarded-For is believed: nobody's, until the address of the proxy in front stands here.
ENV FORWARDED_ALLOW_IPS=""
CMD ["python", "-m", "ringi.api", "--host", "0.0.0.0", "--port", "8400"]
