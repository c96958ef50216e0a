# docker build -t classmates . && docker run --rm --shm-size 1g -v "$PWD/runs:/classmates/runs" classmates
FROM python:3.11-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir uv
WORKDIR /classmates
COPY . .
RUN make setup
CMD ["make", "demo"]
