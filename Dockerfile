# The sidecar's image, and the Envoy module to put beside a proxy. Each step is a target of the
# Makefile, so that what is built here is what is built and tested outside.
FROM debian:12 AS build
RUN apt-get update && apt-get install -y --no-install-recommends make python3
WORKDIR /src
COPY . .
RUN make module
# kubernetes, where its CSR API is the CA.
ARG EXTRA=
RUN make runtime PREFIX=/opt/meshkey EXTRA=$EXTRA

FROM debian:12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 softhsm2 \
    && rm -rf /var/lib/apt/lists/* \
    # Its own user, never the proxy's. Callers share a group with it (1337, as Istio's proxy
    # has it): that group may enter /run/meshkey and use the signing socket, and nothing else.
    && groupadd --system --gid 1337 meshkey-callers \
    && useradd --system --uid 1338 --gid 1337 --no-create-home --shell /usr/sbin/nologin meshkey \
    && install -d -o meshkey -g meshkey-callers -m 0750 /run/meshkey \
    && install -d -o meshkey -g meshkey-callers -m 0700 /run/meshkey-admin \
        /var/lib/meshkey /var/lib/meshkey/tokens \
    && printf 'directories.tokendir = /var/lib/meshkey/tokens\nobjectstore.backend = file\n' \
        > /etc/meshkey-softhsm2.conf
ENV SOFTHSM2_CONF=/etc/meshkey-softhsm2.conf
COPY --from=build /opt/meshkey /opt/meshkey
COPY --from=build /src/envoy-module/target/release/libmeshkey.so /opt/meshkey/lib/libmeshkey.so
USER 1338:1337
ENTRYPOINT ["/opt/meshkey/bin/meshkey"]
CMD ["serve"]
