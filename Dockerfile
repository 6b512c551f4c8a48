# The service alone: no shell, no package manager, no other user than 65532.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=unknown
ARG TARGETOS
ARG TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /credential-broker ./cmd/credential-broker

FROM gcr.io/distroless/static-debian12:nonroot
LABEL org.opencontainers.image.title="credential-broker" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /credential-broker /credential-broker
USER 65532:65532
EXPOSE 8080 9090
ENV BROKER_CONFIG=/etc/credential-broker/config.yaml
HEALTHCHECK --interval=10s --timeout=5s --retries=3 CMD ["/credential-broker", "healthcheck"]
ENTRYPOINT ["/credential-broker"]
CMD ["serve"]
