# The Celery workers and MLflow: everything, torch included.
#   docker build -f deploy/worker.Dockerfile --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
# TORCH_INDEX is the index that torch alone comes from, as PyTorch's "Get Started" page names it: .../whl/cpu for a build without CUDA
# (some 200 MB), .../whl/cu130 and the like for one with the CUDA libraries of that version (several GB). The version is that of
# constraints.txt either way. There is no default: the wrong guess either fills the disk or leaves a GPU unused.
FROM python:3.11-slim
ARG TORCH_INDEX
# "[s3,worker,harness]" adds lm-evaluation-harness, for suites with tasks of it (docs/evaluation.md).
ARG EXTRA=[s3,worker]
WORKDIR /app
COPY constraints.txt ./
RUN test -n "${TORCH_INDEX}" \
    && pip install --no-cache-dir --constraint constraints.txt --index-url "${TORCH_INDEX}" --extra-index-url https://pypi.org/simple torch
COPY pyproject.toml README.md ./
COPY platform platform
COPY workers workers
RUN pip install --no-cache-dir --editable ".${EXTRA}" --constraint constraints.txt \
    && useradd --system --uid 10001 --home-dir /data ringi \
    && install --directory --owner ringi /data /mlflow
USER ringi
VOLUME ["/data"]
CMD ["python", "-m", "celery", "-A", "ringi_workers.app", "worker", "-Q", "gpu,cpu", "-P", "solo", "-c", "1", "--without-gossip", "--without-mingle"]
