# The writer's image: the API, the relay, the worker and the migrations, one command each.
#
#   docker build -f docker/writer.Dockerfile -t shortlinks-writer .
#   docker run … shortlinks-writer [serve | relay | worker | migrate | create-key]
#
# BASE is any image with CPython 3.11 or newer and glibc; a release names it by digest. The build works
# with BuildKit and with the classic builder, and is reproducible (SOURCE_DATE_EPOCH).
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /src
# Bytecode and wheels must not depend on the hash seed of this run.
ENV PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/build.txt requirements/writer.txt requirements/
RUN python3 -m venv /build \
 && /build/bin/pip install --quiet --require-hashes --no-deps --only-binary=:all: -r requirements/build.txt \
 && python3 -m venv --without-pip /opt/shortlinks \
 && /build/bin/pip --python /opt/shortlinks/bin/python install --quiet --no-compile --require-hashes \
    --no-deps --only-binary=:all: -r requirements/writer.txt

# Our packages are built with the tools installed above: the build needs no network from here on.
ARG SOURCE_DATE_EPOCH=0
COPY libs/shortcore libs/shortcore
COPY services/writer services/writer
RUN /build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /wheels \
    ./libs/shortcore ./services/writer \
 && /build/bin/pip --python /opt/shortlinks/bin/python install --quiet --no-compile --no-index --no-deps \
    --find-links /wheels shortcore shortlinks-writer
COPY docker/finish.py /src/
RUN /opt/shortlinks/bin/python finish.py /opt/shortlinks writer.main uvicorn.protocols.http.h11_impl

FROM ${BASE}
ARG VERSION=0.0.0+local
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=https://github.com/shortlinks/shortlinks
LABEL org.opencontainers.image.title="shortlinks-writer" \
      org.opencontainers.image.description="The Shortlinks API, its outbox relay, its click worker and its migrations" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=build /opt/shortlinks /opt/shortlinks
ENV PATH=/opt/shortlinks/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPYCACHEPREFIX=/opt/shortlinks/bytecode
USER 65532:65532
WORKDIR /
EXPOSE 8000 9000 9002 9003
STOPSIGNAL SIGTERM
# Each command has its own admin port, so the check reads the command of process 1.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["/opt/shortlinks/bin/python", "-S", "-c", \
    "import http.client as h,os;w=open('/proc/1/cmdline').read().split('\\0');n,p=next((x for x in (('RELAY','9002'),('WORKER','9003')) if x[0].lower() in w),('WRITER','9000'));c=h.HTTPConnection('127.0.0.1',int(os.environ.get(f'SHORTLINKS_{n}_ADMIN_PORT',p)),timeout=2);c.request('GET','/livez');raise SystemExit(c.getresponse().status!=200)"]
ENTRYPOINT ["/opt/shortlinks/bin/shortlinks-writer"]
CMD ["serve"]
