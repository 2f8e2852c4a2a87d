# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo build --release --locked --bin mailroom \
    && install -s -D /target/release/mailroom /out/mailroom \
    && install -d -m 0750 /out/data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/mailroom /usr/local/bin/mailroom
COPY --from=build --chown=nonroot:nonroot /out/data /data
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
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/mailroom"]
CMD ["serve"]
