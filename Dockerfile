# The prediction server. A model is mounted, not built in:
#   docker build -t scribbleseg-serve .                        exported models (ONNX Runtime, no PyTorch)
#   docker build -t scribbleseg-serve --target torch .         model and run folders (PyTorch for the CPU) and exported ones
#   docker run --rm -p 8421:8421 -v "$PWD/leaves-onnx:/model:ro" -v "$PWD/token:/run/secrets/token:ro" scribbleseg-serve
ARG PYTHON=3.12-slim

FROM python:${PYTHON} AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin scribbleseg
WORKDIR /app
COPY docker/requirements.txt ./
RUN pip install -r requirements.txt
EXPOSE 8421
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8421/health/ready', timeout=4)"]
ENTRYPOINT ["scribbleseg", "serve", "/model", "--host", "0.0.0.0", "--port", "8421"]
CMD ["--token-file", "/run/secrets/token"]

FROM base AS torch
RUN pip install --index-url https://download.pytorch.org/whl/cpu "torch>=2.6,<2.14"
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install ".[serve]"
USER 10001:10001

FROM base AS onnx
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-deps .
USER 10001:10001
