# The gateway's image: docs/run-docker.md.
#
# For images that are the same tomorrow, pin the base by its digest:
#   docker buildx imagetools inspect python:3.11-slim-bookworm --format '{{.Manifest.Digest}}'
#   docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:… -t lmi-gateway .
# TRACING=true adds what sends traces. `--target local-sagemaker` is the SageMaker that runs on this machine.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# The same with the tools of compilers, of which `strip` is needed. Nothing of it gets into the images.
ARG BUILD_IMAGE=python:3.11-bookworm

# --- What is installed, with tools that the image does not hold -------------------------------------------------------
FROM ${BUILD_IMAGE} AS build
ARG TRACING=false
WORKDIR /build
COPY requirements.lock requirements-otel.lock ./
RUN python -m venv --without-pip /opt/lmi-gateway
RUN if [ "${TRACING}" = true ]; then set -- -r requirements-otel.lock; else set --; fi \
    && python -m pip --python /opt/lmi-gateway/bin/python install --no-input --no-cache-dir --no-compile \
        --disable-pip-version-check --only-binary :all: --require-hashes -r requirements.lock "$@"
COPY gateway /opt/lmi-gateway/app/gateway
COPY adapters /opt/lmi-gateway/app/adapters
COPY deploy/stack/image.py ./
RUN python image.py /opt/lmi-gateway

# --- What both images run on ------------------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS base
# Nothing is installed here any more, so nothing that installs is needed.
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore pip setuptools wheel \
    && install --directory --owner=10001 --group=10001 /etc/lmi-gateway
ENV PATH=/opt/lmi-gateway/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
STOPSIGNAL SIGTERM
USER 10001:10001

# --- A SageMaker that runs on this machine: for trying things out, never for serving ----------------------------------
FROM base AS local-sagemaker
COPY --from=build /opt/lmi-gateway /opt/lmi-gateway
COPY deploy/__init__.py /opt/lmi-gateway/app/deploy/__init__.py
COPY deploy/local /opt/lmi-gateway/app/deploy/local
EXPOSE 8100
ENTRYPOINT ["python", "-P", "-m", "deploy.local", "--host", "0.0.0.0", "--port", "8100"]

# --- The gateway ------------------------------------------------------------------------------------------------------
FROM base AS gateway
LABEL org.opencontainers.image.title="lmi-gateway" \
    org.opencontainers.image.description="An OpenAI-compatible gateway in front of Amazon SageMaker endpoints" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/lmi-gateway /opt/lmi-gateway
ENV LMI_GATEWAY_HOST=0.0.0.0 \
    LMI_GATEWAY_PORT=8080 \
    LMI_GATEWAY_CONFIG=/etc/lmi-gateway/gateway.yaml
# What is written, everything else may be read-only: the metrics of several workers in /tmp; the configuration, where the
# platform puts it there as a file. As volumes they belong to the gateway's user on AWS Fargate, too:
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html
VOLUME ["/etc/lmi-gateway", "/tmp"]
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-P", "-m", "gateway.healthcheck"]
ENTRYPOINT ["lmi-gateway"]
CMD ["serve"]
