# LoRA Workbench in a container.
#
#   docker build -t lora-workbench .                            for a processor
#   docker build -t lora-workbench --build-arg DEVICE=cuda .    for an NVIDIA card, driver 580 or newer
#
#   docker run --rm -p 127.0.0.1:7860:7860 -v workbench:/data -e WORKBENCH_TOKEN=A-LONG-WORD lora-workbench
#   docker run --rm --gpus all ...                              the same with the card
#
# Then open http://127.0.0.1:7860/?token=A-LONG-WORD. Jobs, data and models lie in the volume.
FROM python:3.12-slim

ARG DEVICE=cpu
# What Triton's kernels are compiled with at first use, on a card alone.
RUN if [ "$DEVICE" = cuda ]; then \
      apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    fi

WORKDIR /opt/lora-workbench
COPY requirements.txt ./
# The pin is read from the one place where it stands. On Linux pip's own build is the one for CUDA 13.
RUN torch="$(grep '^torch==' requirements.txt)" \
    && if [ "$DEVICE" = cuda ]; then pip install --no-cache-dir "$torch"; \
       else pip install --no-cache-dir "$torch" --index-url https://download.pytorch.org/whl/cpu; fi \
    && pip install --no-cache-dir -r requirements.txt

COPY launch.py LICENSE README.md ./
COPY app app
COPY assets assets
COPY presets presets
COPY docs docs

RUN useradd --create-home workbench && mkdir /data && chown workbench /data
USER workbench
ENV WORKBENCH_HOME=/data HF_HOME=/data/hub PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 7860

# The shell passes the token on; without one the page does not start, since the container's network can reach it.
CMD ["sh", "-c", "exec python launch.py ui --no-browser --host 0.0.0.0 --port 7860 --token \"${WORKBENCH_TOKEN:?give the page a token: -e WORKBENCH_TOKEN=A-LONG-WORD}\""]
