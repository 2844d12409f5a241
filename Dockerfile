# The service in a container. What it needs, and how to close it: docs/operations.md#container
#   make image               # on a CPU, feedback-chat:cpu
#   make image DEVICE=cuda   # on an NVIDIA GPU, feedback-chat:cuda
# BASE is any Debian with Python 3.11 or newer; to fix it for ever, add @sha256:... of your registry.
ARG BASE=python:3.11.14-slim-bookworm

# The packages, which change rarely. What builds them stays behind in this stage.
FROM ${BASE} AS packages
ARG DEVICE=cpu
# torch on PyPI is the build for CUDA; the one for CPUs is a third of it and lies in PyTorch's own index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv
RUN case "$DEVICE" in \
        cpu) pip install torch==2.13.0+cpu ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} ;; \
        cuda) pip install torch==2.13.0 ;; \
        *) echo "DEVICE is cpu or cuda, not $DEVICE" >&2; exit 2 ;; \
    esac
COPY pyproject.toml constraints.txt /build/
RUN cd /build \
    && python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > needed.txt \
    && pip install -c constraints.txt -r needed.txt \
    && packages=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
    && rm -rf "$packages"/torch/test "$packages"/torch/include \
    && if [ "$DEVICE" = cpu ]; then rm -f "$packages"/bitsandbytes/libbitsandbytes_[!c]*.so "$packages"/bitsandbytes/libbitsandbytes_cuda*.so; fi

# The program itself, which changes often, in a folder of its own.
FROM packages AS program
WORKDIR /build
COPY README.md LICENSE ./
COPY feedback_store feedback_store
COPY rlhf_core rlhf_core
COPY chat_app chat_app
RUN pip install --no-deps --target /opt/feedback-chat .

FROM ${BASE}
# tini passes on the signal of `docker stop`, also while Python still starts, and buries orphans.
RUN which tini \
    || (apt-get update && apt-get install -y --no-install-recommends tini \
        && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*)
# Python and its libraries write what they must to the home directory or TMPDIR: the volume.
RUN useradd --no-create-home --home-dir /data --uid 10001 chat \
    && install -d -o chat -g chat -m 700 /data /data/tmp
COPY --from=packages /opt/venv /opt/venv
COPY --from=program /opt/feedback-chat /opt/feedback-chat
ENV PATH=/opt/feedback-chat/bin:/opt/venv/bin:$PATH PYTHONPATH=/opt/feedback-chat \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/data/huggingface TMPDIR=/data/tmp FEEDBACK_CHAT_DATA=/data \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

USER chat
WORKDIR /data
VOLUME /data
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
# Inside, the service must listen on all addresses; outside, the documented command publishes it on
# this machine only, so it is open as it would be without a container. Published further, it has to
# be closed: docker run -e FEEDBACK_CHAT_ACCESS=keys -e FEEDBACK_CHAT_PAGES=known ...
ENV FEEDBACK_CHAT_ACCESS=open FEEDBACK_CHAT_PAGES=anyone
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="feedback-chat" \
    org.opencontainers.image.description="A chat service that learns from its users' votes" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
ENTRYPOINT ["tini", "--"]
CMD ["feedback-chat", "serve", "--host", "0.0.0.0", "--data", "/data"]
