# tttjax with its configs, for clusters that run images.
#
#   docker build -t tttjax .                                    # CPU
#   docker build -t tttjax --build-arg EXTRAS=tpu,gguf .        # or cuda,gguf; the extras of setup.cfg
#   docker run --rm tttjax                                      # the quickstart
FROM python:3.11-slim
ARG EXTRAS=gguf
WORKDIR /tttjax
COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY tttjax tttjax
RUN pip install --no-cache-dir -e ".[${EXTRAS}]"
COPY configs configs
COPY launch launch
COPY third_party third_party
CMD ["python", "-m", "tttjax.main", "--config=configs/quickstart.py"]
