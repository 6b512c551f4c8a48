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
test: ## every test, under the race detector, in random order
	go test -race -shuffle=on ./...

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

# Where broker/brokertest/versitygw looks for its binary.
PEERS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/credential-broker/peers

.PHONY: peers
peers: ## the third-party tools that tests run, outside the product's module
	@mkdir -p $(PEERS)
	cd broker/brokertest/peers && GOBIN=$(PEERS) CGO_ENABLED=0 go install tool
	cd broker/brokertest/peers/simulate && npm ci --ignore-scripts --no-audit --no-fund

.PHONY: build
build: ## the service, into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/credential-broker ./cmd/credential-broker
