# The sidecar's image, and the Envoy module to put beside a proxy. Each step is a target of the
# Makefile, so that what is built here is what is built and tested outside.
FROM debian:12 AS build
RUN apt-get update && apt-get install -y --no-install-recommends make python3
WORKDIR /src
COPY . .
RUN make module
RUN make runtime PREFIX=/opt/meshkey

FROM debian:12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 softhsm2 \
    && rm -rf /var/lib/apt/lists/* \
    # Its own user, never the proxy's (1337): the proxy must not reach PINs or sockets.
    && useradd --system --uid 1338 --user-group --no-create-home --shell /usr/sbin/nologin meshkey \
    && install -d -o meshkey -g meshkey -m 0750 /run/meshkey \
    && install -d -o meshkey -g meshkey -m 0700 /var/lib/meshkey
COPY --from=build /opt/meshkey /opt/meshkey
COPY --from=build /src/envoy-module/target/release/libmeshkey.so /opt/meshkey/lib/libmeshkey.so
USER 1338:1338
ENTRYPOINT ["/opt/meshkey/bin/meshkey"]
CMD ["serve"]
