FROM debian:bookworm-slim AS build

RUN apt-get update \
    && apt-get install -y --no-install-recommends make

WORKDIR /src
COPY . .

RUN sh conf/deps.sh build \
    && make module sidecar \
    && strip --strip-unneeded build/ngx_http_runcoach_module.so \
        build/runcoach-sidecar


FROM debian:bookworm-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates curl libcurl4 libhiredis0.14 libjansson4 \
        libmicrohttpd12 libpq5 nginx \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 runcoach \
    && useradd --uid 10001 --gid runcoach --no-create-home \
        --home-dir /var/lib/runcoach --shell /usr/sbin/nologin runcoach \
    && install -d -o runcoach -g runcoach -m 750 /var/lib/runcoach

COPY --from=build /src/build/ngx_http_runcoach_module.so /usr/share/runcoach/
COPY --from=build /src/build/runcoach-sidecar /usr/local/bin/
COPY conf/ /usr/share/runcoach/conf/

ENV RUNCOACH_HOME=/var/lib/runcoach \
    PORT=8080

USER runcoach
WORKDIR /var/lib/runcoach
EXPOSE 8080

STOPSIGNAL SIGTERM

HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 \
    CMD curl -fsS -o /dev/null "http://127.0.0.1:${PORT}/health"

ENTRYPOINT ["/bin/sh", "/usr/share/runcoach/conf/entrypoint.sh"]
