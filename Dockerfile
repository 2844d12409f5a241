# The service on the embedded model, on a CPU:
#   docker build -t feedback-chat . && docker run -p 127.0.0.1:7860:7860 \
#     -v feedback-chat:/data feedback-chat
# torch's usual wheels hold CUDA (gigabytes); for a small CPU image give PyTorch's index of CPU
# builds, which its installation page names: --build-arg TORCH_INDEX=...
# On a GPU:
#   docker build -t feedback-chat --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 . \
#     && docker run --gpus all -p 127.0.0.1:7860:7860 -v feedback-chat:/data feedback-chat
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG TORCH_INDEX=

RUN python3 -c 'import ensurepip' \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv \
        && rm -rf /var/lib/apt/lists/*)
RUN useradd --create-home --uid 10001 chat && install -d -o chat -g chat /data

ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 HF_HOME=/data/huggingface
RUN python3 -m venv /opt/venv && pip install torch==2.13.0 ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX}

WORKDIR /opt/feedback-chat
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY feedback_store feedback_store
COPY rlhf_core rlhf_core
COPY chat_app chat_app
RUN pip install -c constraints.txt .

USER chat
WORKDIR /home/chat
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
# Inside, the service must listen on all addresses; outside, these commands publish it on this machine
# only, so it is open as it would be without a container. Published further, it has to be closed:
#   docker run -e FEEDBACK_CHAT_ACCESS=keys -e FEEDBACK_CHAT_PAGES=known ...
ENV FEEDBACK_CHAT_ACCESS=open FEEDBACK_CHAT_PAGES=anyone
CMD ["feedback-chat", "serve", "--host", "0.0.0.0", "--data", "/data"]
