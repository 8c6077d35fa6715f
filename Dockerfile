# Workers, the HTTP service and the audit, for the queue object that ASSISTANT_QUEUE_APP names; add
# your own module to /app.
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY assistant_queue assistant_queue
COPY docs docs
RUN pip install --no-cache-dir ".[web,speed,prometheus,audit,telegram]" && useradd --create-home worker

WORKDIR /app
COPY examples/app.py examples/stack.py ./

USER worker
ENV ASSISTANT_QUEUE_APP=app:queue PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
CMD ["assistant-queue", "worker"]
