# syntax=docker/dockerfile:1
# `spanhook serve` in an image that holds nothing else: no shell, no package manager, no root.

# The versions are `rust-version` of Cargo.toml. What Alpine builds is static, so no image needs a C library.
FROM rust:1.95-alpine AS build
# aws-lc-sys asks for linux/random.h.
RUN apk add --no-cache linux-headers
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile serve --locked --package spanhook \
 && cp target/serve/spanhook / \
 && mkdir /empty

# `docker build --target job --output . .` writes `spanhook` for CI jobs, which runs in any Linux image.
FROM rust:1.95-alpine AS build-job
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=job \
    cargo build --release --locked --package spanhook --no-default-features \
 && cp target/release/spanhook /

FROM scratch AS job
COPY --from=build-job /spanhook /

# `docker build --target relay .` is the image of the relay in a cluster.
FROM rust:1.95-alpine AS build-relay
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=relay \
    cargo build --release --locked --package spanhook-relay \
 && cp target/release/spanhook-relay /

FROM scratch AS relay
COPY --from=build-relay /spanhook-relay /
COPY --from=build-relay /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["/spanhook-relay"]

FROM scratch
COPY --from=build /spanhook /
# The public roots, for HTTPS to a Collector.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# The queue. A fresh named volume takes the owner of this folder; Kubernetes uses fsGroup.
COPY --from=build --chown=65532:65532 /empty /data
USER 65532:65532
ENV SPANHOOK_LISTEN=0.0.0.0:3000 SPANHOOK_DATA=/data
VOLUME /data
EXPOSE 3000
ENTRYPOINT ["/spanhook"]
CMD ["serve"]
