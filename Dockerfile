# The service alone: no shell, no package manager, no other user than 65532, and
# nothing but the binary that can be run. Written for old engines too: no syntax
# line, no heredoc, no COPY --link, no --start-interval.
FROM --platform=${BUILDPLATFORM} golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=unknown
ARG TARGETOS
ARG TARGETARCH
# The same sources, Go and VERSION make the same bytes: no paths, no build id of the linker's, no state of a repository.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=${VERSION}" -o /credential-broker ./cmd/credential-broker

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="credential-broker" \
      org.opencontainers.image.description="Temporary AWS credentials, confined to a tenant's prefix, for callers with a token" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=build /credential-broker /credential-broker
COPY --chmod=0444 deploy/image/config.yaml /etc/credential-broker/config.yaml
USER 65532:65532
EXPOSE 8080
ENV BROKER_CONFIG=/etc/credential-broker/config.yaml
# A broker has been ready within a second; the start period is for one whose issuer is slow to give its keys.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/credential-broker", "healthcheck"]
ENTRYPOINT ["/credential-broker"]
CMD ["serve"]
