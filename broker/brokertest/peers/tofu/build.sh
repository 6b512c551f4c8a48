#!/usr/bin/env bash
# build.sh FILE: builds OpenTofu, of the version in go.mod, as FILE. Left out are the
# state backends and the key stores of other clouds: no test asks for them, and their
# SDKs are more than half of the work.
set -euo pipefail
file=$(realpath -m "$1")
cd "$(dirname "$0")"
go mod download github.com/opentofu/opentofu
from=$(go list -m -f '{{.Dir}}' github.com/opentofu/opentofu)
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
cp -r "$from/." "$source"
chmod -R u+w "$source"
cd "$source"
backends='azure|consul|cos|gcs|http|kubernetes|oss|pg'
sed -i -E "/remote-state\/($backends)\"/d; /backend(Azure|Consul|Cos|GCS|HTTP|Kubernetes|OSS|Pg)\.New/d" internal/backend/init/init.go
sed -i -E '/keyprovider\/(azure_vault|gcp_kms|openbao)"/d; /(azure_vault|gcp_kms|openbao)\.New/,/^\t}/d' internal/encryption/default_registry.go
CGO_ENABLED=0 go build -ldflags '-s -w' -o "$file" ./cmd/tofu
