# Training in a container: see docs/training.md. BASE may be any Debian or Ubuntu with Python 3.10 to
# 3.13; without a GPU, `docker build --build-arg BASE=python:3.12-slim .` trains the demo on a CPU.
ARG BASE=nvidia/cuda:12.8.1-base-ubuntu24.04
FROM ${BASE}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# A C compiler and Python's headers: torch.compile builds its kernels' launchers with them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        gcc libc6-dev python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv /opt/byg
ENV PATH=/opt/byg/bin:$PATH

WORKDIR /opt/byg-train
COPY pyproject.toml README.md LICENSE ./
COPY byg_train byg_train
# The `lowvram` libraries are for CUDA alone; without them the plan says what it cannot offer.
ARG EXTRAS=train,lowvram
# The versions are those of pyproject.toml.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[${EXTRAS}]"

# Mounted from outside: data, runs, and downloaded base models.
WORKDIR /workspace
ENV HF_HOME=/workspace/models
VOLUME ["/workspace"]
ENTRYPOINT ["byg_train"]
CMD ["--help"]
