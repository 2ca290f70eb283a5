# The witness of an audit log: docker build -f deploy/witness.Dockerfile -t ringi-witness .
# Run it on another machine than the platform, under other hands:
#   docker run -d -p 8490:8490 -v ringi-witness:/witness ringi-witness serve --state /witness/state --key /witness/key --log /witness/logs --listen 0.0.0.0:8490
FROM python:3.11-slim
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt cryptography && useradd --create-home --uid 1000 witness && install -d -o witness /witness
# These files are all of it: no database, no settings, nothing else of the platform.
COPY platform/ringi/__init__.py /app/ringi/__init__.py
COPY platform/ringi/audit/__init__.py platform/ringi/audit/durable.py platform/ringi/audit/keys.py platform/ringi/audit/note.py platform/ringi/audit/ringi_verify.py /app/ringi/audit/
COPY platform/ringi/witness /app/ringi/witness
ENV PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1
USER witness
VOLUME /witness
ENTRYPOINT ["python", "-m", "ringi.witness.command"]
