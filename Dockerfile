# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
WORKDIR /src
# Writes the list of all crates with their versions into the binary (some 4 KB), where scanners find it: the image carries
# its bill of materials wherever it goes.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo install --locked cargo-auditable --version 0.7.7
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo auditable build --release --locked --bin mailroom \
    && install -s -D /target/release/mailroom /out/mailroom \
    && install -d -m 0750 /out/data

# No shell, no package manager: the C library, certificates, the program.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Mailroom" \
      org.opencontainers.image.description="A mail platform in one binary" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      sbom.format="cargo-auditable" \
      sbom.read="rust-audit-info /usr/local/bin/mailroom"
COPY --from=build /out/mailroom /usr/local/bin/mailroom
COPY --from=build --chown=nonroot:nonroot /out/data /data
USER nonroot
VOLUME /data
EXPOSE 2525 8080
# Inside a container every address is reached through a published port, so it listens on all of them. Mailboxes need a token
# unless -e MAILROOM__MAILBOXES__ACCESS=open -e MAILROOM__MAILBOXES__INSECURE_OPEN=true says otherwise. The operations
# listener stays on the container's loopback, where the health check asks it.
ENV MAILROOM__RUNTIME__DATA=/data \
    MAILROOM__SMTP__LISTEN='["smtp://0.0.0.0:2525"]' \
    MAILROOM__HTTP__LISTEN=0.0.0.0:8080 \
    MAILROOM__MAILBOXES__ACCESS=token
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["/usr/local/bin/mailroom", "stress", "api", "http://127.0.0.1:8025/health/ready", "-c", "1", "-n", "1", "--json"]
# Stopping takes up to [runtime] stop_within, 30 s: docker stop -t 40, stop_grace_period in compose.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/mailroom"]
CMD ["serve"]
