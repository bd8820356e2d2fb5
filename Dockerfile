# Everything but the driver, which comes from the host:
#   docker build -t ddpm-bench .
#   docker run --gpus all -v "$PWD/results:/ddpm-bench/results" -v ddpm-bench-cache:/root/.cache ddpm-bench
# No CUDA base image: CUDA comes with PyTorch's wheels and those of the extra `cuda`.
FROM python:3.11-slim-bookworm

# Debian keeps one version of a package in a release: there is nothing to pin.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
# What the container gets of the host's driver: libcuda, and NVML for telemetry.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /ddpm-bench
COPY . .
# No driver is here while the image is built: the compiler for Jittor is asked for by name.
RUN make setup CUDA=,cuda PYTHON=python3 && rm -rf /root/.cache/pip
CMD ["make", "bench"]
