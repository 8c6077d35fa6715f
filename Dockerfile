# A worker for the queue object that ASSISTANT_QUEUE_APP names; add your own module to /app.
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY assistant_queue assistant_queue
COPY docs docs
RUN pip install --no-cache-dir . && useradd --create-home worker

WORKDIR /app
COPY examples/app.py ./

USER worker
ENV ASSISTANT_QUEUE_APP=app:queue PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
CMD ["sh", "-c", "exec assistant-queue worker --app \"$ASSISTANT_QUEUE_APP\""]
