# The image of batch jobs: the installation that the Makefile makes, without what tests need.
#   docker build --build-arg TORCH=cuda -t REF .    PyPI's torch, which brings CUDA (the default)
#   docker build --build-arg TORCH=cpu -t REF .     torch without CUDA, a fraction of the size
FROM python:3.11-slim-bookworm

ARG TORCH=cuda
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

# tini passes signals on to the program and leaves its exit codes as they are.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/scopeworks
COPY . .
RUN if [ "$TORCH" = cpu ]; then \
        pip install --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' constraints.txt)"; \
    fi \
    && pip install --constraint constraints.txt . \
    && useradd --create-home --uid 1000 scopeworks

USER 1000
WORKDIR /home/scopeworks
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["scopeworks", "--help"]
