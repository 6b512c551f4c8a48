# `make test` is the README's test command, `make check` is what CI runs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Tools are kept outside the tree, one file for each version.
TOOLS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/credential-broker/bin
GOLANGCI_LINT_VERSION := v2.15.0
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)
ACTIONLINT_VERSION := v1.7.12
ACTIONLINT := $(TOOLS)/actionlint-$(ACTIONLINT_VERSION)
FUZZTIME ?= 10s
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: test
test: peers client page policy-tests ## every test, under the race detector, in random order
	CLIENTS=elsewhere TERRAFORM=elsewhere go test -race -shuffle=on -timeout 20m ./... # the page in a browser takes two minutes, on a busy machine nine
	go test ./.ci/mutants ./.ci/workflows
	@$(MAKE) --no-print-directory not-run

# As a team's own CI does it: the program as it is built, a configuration, and the
# cases that are kept beside it.
.PHONY: policy-tests
policy-tests: build ## the example configuration, checked and held against its cases by the built program
	bin/credential-broker check --config deploy/config.example.yaml
	bin/credential-broker test --config deploy/config.example.yaml deploy/policy-tests

# go test hides what it skips. What is skipped for want of something is said here;
# with CI=true the tests fail instead.
.PHONY: not-run
not-run:
	@[ -x $(PEERS)/versitygw ] || echo "NOT RUN: the proof on versitygw: it is built on Linux, with the Go module proxy in reach"
	@[ -x $(TOXIPROXY) ] || echo "NOT RUN: the chaos between broker, Auth0 and AWS: it needs toxiproxy, which is built with the Go module proxy in reach"
	@unshare -Urn true 2>/dev/null || echo "NOT RUN: the proof on versitygw: this system gives no network namespace (as root it may)"
	@$(UNLESS_CI) || exit 0; echo "NOT RUN: deploy/terraform with OpenTofu: make terraform"
	@[ -e $(SIMULATE)/node_modules/.package-lock.json ] || echo "NOT RUN: what another IAM evaluator says: it needs Node.js, npm and the npm registry"
	@[ -e $(REDOCLY)/node_modules/.package-lock.json ] || echo "NOT RUN: the lint of the API's description: it needs Node.js, npm and the npm registry"
	@[ -e $(DUCKDB)/node_modules/.package-lock.json ] || echo "NOT RUN: the SQL of deploy/audit: it needs Node.js, npm and the npm registry"
	@[ -e $(EXPRESS)/node_modules/.package-lock.json ] || echo "NOT RUN: the broker beside Express: it needs Node.js, npm and the npm registry"
	@[ -e $(CLIENT)/node_modules/.package-lock.json ] || echo "NOT RUN: the browser helper: it needs Node.js, npm and the npm registry"
	@[ -e $(PAGE)/dist ] || echo "NOT RUN: the page: it needs Node.js 20.19 or newer, npm and the npm registry"
	@command -v $${CHROMIUM:-chromium} chromium-browser google-chrome >/dev/null || echo "NOT RUN: the page: it needs Chromium"
	@command -v redis-server >/dev/null && command -v redis-sentinel >/dev/null || echo "NOT RUN: what replicas share, before a real Redis: it needs Debian's redis-server and redis-sentinel"
	@command -v promtool >/dev/null || echo "NOT RUN: the rules and the dashboard, asked of a real Prometheus: they need Debian's prometheus"
	@$(UNLESS_CI) || exit 0; echo "NOT RUN: deploy/clients.md with the real clients: make clients-test"
	@for tool in curl jq aws; do command -v $$tool >/dev/null || echo "NOT RUN: the lines to try by hand: they need $$tool"; done

.PHONY: check
check: vet lint modules test ## what CI runs

.PHONY: vet
vet: ## go vet, and gofmt
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not gofmt: $$unformatted"; exit 1; fi
	go vet ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) $(ACTIONLINT) ## golangci-lint and actionlint, installed on the first run
	$(GOLANGCI_LINT) run ./...
	$(ACTIONLINT)

$(GOLANGCI_LINT):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(TOOLS)/golangci-lint $@

$(ACTIONLINT):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) go install github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT_VERSION)
	mv $(TOOLS)/actionlint $@

.PHONY: modules
modules: ## go.mod is tidy, and the modules are what go.sum says
	go mod tidy -diff
	go mod verify

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (10s)
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

.PHONY: bench
bench: ## the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-servers
bench-servers: ## the broker beside bare Echo, in one run; wrk, where it is installed, loads them
	go run ./cmd/bench

# In a worktree of its own, so that nothing of this one is touched.
BENCH ?= ./broker/... ./policy ./cmd/bench
BENCHSTAT := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
.PHONY: bench-compare
bench-compare: ## the micro-benchmarks of the commit FROM and of this tree, by benchstat, on a machine that does nothing else
	@[ -n "$(FROM)" ] || { echo "make bench-compare FROM=commit"; exit 1; }
	@dir=$$(mktemp -d); trap "git worktree remove --force $$dir/from; rm -r $$dir" EXIT; \
	git worktree add --quiet --detach $$dir/from $(FROM); \
	(cd $$dir/from && go test -run '^$$' -bench . -benchmem -count 6 $(BENCH) >$$dir/old); \
	go test -run '^$$' -bench . -benchmem -count 6 $(BENCH) >$$dir/new; \
	go run $(BENCHSTAT) $$dir/old $$dir/new

# What tests run and the product does not have: a third-party S3 with STS, where
# broker/brokertest/versitygw looks for it, a third-party IAM evaluator, and a linter.
# Without a network the tests that need them are skipped; with CI=true they fail.
PEERS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/credential-broker/peers
TOXIPROXY := $(PEERS)/toxiproxy-2.5.0
TOFU := $(PEERS)/tofu-v1.12.6
STUB := broker/brokertest/peers/tofu
SIMULATE := broker/brokertest/peers/simulate
REDOCLY := broker/brokertest/peers/redocly
DUCKDB := broker/brokertest/peers/duckdb
EXPRESS := cmd/bench/peers
UNLESS_CI := [ "$${CI:-}" != true ]

.PHONY: peers
peers: $(if $(filter Linux,$(shell uname -s)),$(PEERS)/versitygw) $(TOXIPROXY) $(if $(shell command -v npm),$(SIMULATE)/node_modules/.package-lock.json $(REDOCLY)/node_modules/.package-lock.json $(DUCKDB)/node_modules/.package-lock.json $(EXPRESS)/node_modules/.package-lock.json) ## the third-party tools that tests run, outside the product's module

$(PEERS)/versitygw: broker/brokertest/peers/go.mod broker/brokertest/peers/go.sum
	@echo "building versitygw, a third-party S3: two minutes, once"
	@mkdir -p $(PEERS)
	cd broker/brokertest/peers && GOBIN=$(PEERS) CGO_ENABLED=0 go install tool || $(UNLESS_CI)
	@touch -c $@

$(TOXIPROXY): broker/brokertest/peers/toxiproxy/go.mod broker/brokertest/peers/toxiproxy/go.sum
	@mkdir -p $(PEERS)
	cd broker/brokertest/peers/toxiproxy && CGO_ENABLED=0 go build -o $@ github.com/Shopify/toxiproxy/v2/cmd/server || $(UNLESS_CI)
	@touch -c $@

$(SIMULATE)/node_modules/.package-lock.json $(REDOCLY)/node_modules/.package-lock.json $(DUCKDB)/node_modules/.package-lock.json $(EXPRESS)/node_modules/.package-lock.json: %/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --ignore-scripts --no-audit --no-fund || $(UNLESS_CI)
	@touch -c $@

# Once for a version, not once for a clone.
$(TOFU):
	@echo "building OpenTofu: three minutes on an idle machine, once"
	@mkdir -p $(PEERS)
	cd $(STUB) && CGO_ENABLED=0 go build -ldflags '-s -w' -o $@ github.com/opentofu/opentofu/cmd/tofu || $(UNLESS_CI)

.PHONY: tofu
tofu: $(TOFU) $(STUB)/bin/stub ## OpenTofu, and what stands in for its providers

# What stands in for the providers.
$(STUB)/bin/stub: $(STUB)/go.mod $(wildcard $(STUB)/stub/*.go)
	cd $(STUB) && CGO_ENABLED=0 go build -ldflags '-s -w' -o bin/stub ./stub || $(UNLESS_CI)

.PHONY: terraform
terraform: tofu ## the tests of deploy/terraform, with OpenTofu
	TERRAFORM=1 go test ./broker/brokertest/tofu
	TERRAFORM=1 go test -run 'Terraform|TheExample|TheComparison' ./cmd/credential-broker/...

.PHONY: chaos
chaos: $(TOXIPROXY) ## ten minutes (or CHAOS=2m) of faults between the real service, Auth0 and AWS under load, every answer judged; prints a report
	CHAOS=$${CHAOS:-10m} go test -count=1 -v -run '^TestChaos$$' -timeout 24h ./cmd/credential-broker/serve

.PHONY: mutants
mutants: ## take out each guard of a tenant in turn: a test has to notice (half an hour; PACKAGES='policy broker' for some)
	go run ./.ci/mutants $(PACKAGES)

# The libraries that the browser helper is for, and the compiler of its types.
CLIENT := broker/client

.PHONY: client
client: $(if $(shell command -v npm),$(CLIENT)/node_modules/.package-lock.json) ## what the tests of the browser helper run, where npm is

$(CLIENT)/node_modules/.package-lock.json: $(CLIENT)/package.json $(CLIENT)/package-lock.json
	cd $(CLIENT) && npm ci --ignore-scripts --no-audit --no-fund || $(UNLESS_CI)
	@touch -c $@

# The clients in JavaScript of deploy/clients.md. The others (AWS CLI, boto3, rclone,
# curl, Chromium) are Debian's: awscli, python3-boto3, rclone, curl, chromium.
CLIENTS := broker/brokertest/clients

.PHONY: clients
clients: $(if $(shell command -v npm),$(CLIENTS)/node_modules/.package-lock.json) ## what the tests of deploy/clients.md run, where npm is

$(CLIENTS)/node_modules/.package-lock.json: $(CLIENTS)/package.json $(CLIENTS)/uppy5/package.json $(CLIENTS)/package-lock.json
	cd $(CLIENTS) && npm ci --ignore-scripts --no-audit --no-fund || $(UNLESS_CI)
	@touch -c $@

.PHONY: clients-test
clients-test: clients $(TOFU) ## deploy/clients.md with the real clients: three minutes of CPU, on a machine that does nothing else
	CLIENTS=1 go test -count=1 -timeout 30m -v ./broker/brokertest/clients

# The demo builds its page itself; before the tests, so that their time is not spent on it.
PAGE := cmd/demo/web

.PHONY: page
page: ## the demo's page, where npm is
	@! command -v npm >/dev/null || go run ./cmd/demo --build || $(UNLESS_CI)

# As in the Dockerfile: the same sources, Go and VERSION make the same bytes.
.PHONY: build
build: ## the service, into bin/, byte for byte what the image has
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -X main.version=$(VERSION)' -o bin/credential-broker ./cmd/credential-broker

# DOCKER_BUILD_FLAGS is for an engine whose network is the host's, as .ci/engine has it.
DOCKER ?= docker
IMAGE ?= credential-broker
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)

.PHONY: image
image: ## the container image, as $(IMAGE)
	DOCKER_BUILDKIT=1 $(DOCKER) build $(DOCKER_BUILD_FLAGS) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) -t $(IMAGE) .

# What the image's and the chart's tests run: each a file for its version, outside the tree.
COMPOSE_VERSION := v5.6.0
COMPOSE := $(TOOLS)/docker-compose-$(COMPOSE_VERSION)
HELM_VERSION := v4.3.1
HELM := $(TOOLS)/helm-$(HELM_VERSION)
DLINT := $(TOOLS)/dlint

.PHONY: image-test
image-test: $(COMPOSE) ## the image built, looked at, run hardened and drained; compose; the walk of deploy/README.md (.ci/engine make image-test)
	.ci/image
	COMPOSE=$(COMPOSE) .ci/compose
	.ci/walk

.PHONY: image-lint
image-lint: $(DLINT) ## BuildKit's own rules on the Dockerfile
	$(DLINT) Dockerfile

.PHONY: chart
chart: $(HELM) ## the chart: linted, rendered for many values, decoded, given to the broker
	CGO_ENABLED=0 go build -o bin/chart-broker ./cmd/credential-broker
	cd .ci/chart && HELM=$(HELM) BROKER=$(CURDIR)/bin/chart-broker go test -count=1 ./... # what Helm and the broker read, the cache of go test does not see

$(COMPOSE): # its version is in its name: a fresh clone builds nothing anew
	@mkdir -p $(TOOLS)
	cd .ci/tools/compose && CGO_ENABLED=0 go build -ldflags '-s -w -X github.com/docker/compose/v5/internal.Version=$(COMPOSE_VERSION)' -o $@ github.com/docker/compose/v5/cmd
	@touch $@

$(HELM):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) CGO_ENABLED=0 go install -ldflags '-s -w' helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)
	mv $(TOOLS)/helm $@

$(DLINT): .ci/tools/dlint/go.sum .ci/tools/dlint/main.go
	@mkdir -p $(TOOLS)
	cd .ci/tools/dlint && CGO_ENABLED=0 go build -ldflags '-s -w' -o $@ .
	@touch $@

# What reads .goreleaser.yaml as GoReleaser does, without the rest of it.
RELEASE := $(TOOLS)/release

.PHONY: release-lint
release-lint: $(RELEASE) ## .goreleaser.yaml, read as strictly as GoReleaser reads it
	$(RELEASE) .goreleaser.yaml

$(RELEASE): .ci/tools/release/go.sum .ci/tools/release/main.go
	@mkdir -p $(TOOLS)
	cd .ci/tools/release && CGO_ENABLED=0 go build -ldflags '-s -w' -o $@ .
	@touch $@

# A release's image, for both processors, with its bill of materials, by a buildx that is logged in.
PLATFORMS ?= linux/amd64,linux/arm64
.PHONY: image-push
image-push: ## the image for PLATFORMS, pushed to IMAGE; its digest goes to image.json
	$(DOCKER) buildx build --platform $(PLATFORMS) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg SOURCE=$(SOURCE) \
		--provenance mode=max --sbom true --metadata-file image.json --tag $(IMAGE):$(VERSION) --push .

.PHONY: chart-package
chart-package: $(HELM) ## the chart, for VERSION, into dist/
	$(HELM) package deploy/helm/credential-broker --version $(VERSION:v%=%) --app-version $(VERSION) --destination dist

.PHONY: print-helm
print-helm: $(HELM)
	@echo $(HELM)
