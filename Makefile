# Roundhouse. `make` alone lists what there is to make; every target sets
# itself up on a machine that has Go, git and make.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unversioned)
LDFLAGS  := -s -w -X main.version=$(VERSION)
PLATFORMS := linux/amd64 linux/arm64 darwin/arm64 darwin/amd64
RACE     := ./engine ./engine/cpu ./engine/cache ./engine/safetensors ./engine/sample ./engine/sched ./engine/tokenizer ./plugins/host ./workbench ./workbench/live ./workbench/metrics ./workbench/openai ./workbench/term
FUZZTIME ?= 10s
SOAKTIME ?= 5m
LOADTIME ?= 10m
HOUSE    := go run ./workbench/house
BUF      := github.com/bufbuild/buf/cmd/buf@v1.75.0
LINTER   := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

export CGO_ENABLED ?= 0

##@ Every day
.PHONY: run build test help
run: build ## serve the demo model; on a terminal, talk with it
	@bin/roundhouse run

build: ## build bin/roundhouse
	@go build -trimpath -ldflags '$(LDFLAGS)' -o bin/roundhouse ./workbench/cmd/roundhouse

test: ## run every Go test; skips are counted and their reasons printed
	@$(HOUSE) test ./...

help: ## print this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Before a change lands
.PHONY: lint gen gen-check web proto kernels race cross tour conformance ci
lint: ## gofmt, vet and golangci-lint as .golangci.yml says; go.mod is tidy
	@go mod tidy -diff
	@go run $(LINTER) run ./...

gen: ## run every generator
	@go generate ./...

gen-check: ## generate in a copy of the tree and compare the bytes; one image of the kernels and the pages too
	@$(HOUSE) gen-check
	@go run ./kernels/build -check
	@bash web/build.sh --check

web: ## build the pages of web/src into web/dist (needs npm)
	@bash web/build.sh

proto: ## the plugins' messages: style, and nothing of what is promised may change
	@cd plugins/proto && go run $(BUF) lint && go run $(BUF) breaking --against v1.binpb

kernels: ## compile kernels/*.cu into kernels/bin; fetches nvcc 13.0 where there is none
	@go run ./kernels/build

race: ## the packages with goroutines, under the race detector (needs gcc)
	@CGO_ENABLED=1 $(HOUSE) test -short -race $(RACE)

cross: ## compile for every platform of a release
	@for platform in $(PLATFORMS); do \
	  echo "$$platform"; \
	  GOOS=$${platform%/*} GOARCH=$${platform#*/} go build -trimpath -o /dev/null ./workbench/cmd/roundhouse; \
	done

TOURS := README.md workbench/docs/hooks-in-ten-minutes.md workbench/docs/scripts-testing.md workbench/docs/plugins-in-ten-minutes.md

tour: build ## run the tours of README.md and of pages of the handbook as they are written
	@for page in $(TOURS); do $(HOUSE) tour $$page; done

conformance: build ## real clients against the server, tsc over the scripts (needs python3 and npm)
	@bash workbench/conformance/run.sh

ci: ## all of the above, as the builders run it
	@bash .ci/run

##@ On a GPU
.PHONY: gpu-bundle gpu-test
gpu-bundle: ## pack the device's tests for a machine without Go into dist/gpu (SHARED=1: the shared goldens too)
	@$(HOUSE) gpu-bundle -version '$(VERSION)' $(if $(SHARED),-shared)

gpu-test: gpu-bundle ## the bundle's tests on this machine's GPU (SETS="kernels bench": only these sets)
	@bash workbench/gpu/run.sh $(SETS)

##@ Longer runs
.PHONY: fuzz load soak bench parity evidence hostile plugin-faults dist clean
fuzz: ## every fuzz target for FUZZTIME (10s)
	@$(HOUSE) fuzz -jobs 2 -time $(FUZZTIME)

load: ## many streams, cancels and slow readers for LOADTIME (10m), 1,000 crashes of plugins: no wrong stream, flat memory
	@ROUNDHOUSE_SOAK=$(LOADTIME) go test -count 1 -timeout 0 -v -run Soak ./engine ./plugins/host

soak: load ## the load, then every fuzz target for SOAKTIME (5m); writes workbench/docs/soak.md
	@$(HOUSE) fuzz -time $(SOAKTIME) -jobs 4 -keep 16 -report workbench/docs/soak.md

bench: ## Go benchmarks: values with units
	@go test -run '^$$' -bench . -benchmem ./...

parity: build ## compare every golden; writes workbench/docs/parity.md
	@$(HOUSE) parity

evidence: build ## measure what the handbook promises (NAMES="demo sampler": only these)
	@$(HOUSE) evidence $(NAMES)

hostile: ## every attack of a script, in process and in a worker; writes workbench/docs/hostile.md
	@$(HOUSE) hostile -report workbench/docs/hostile.md

plugin-faults: ## every fault of a plugin, crashes and hosts that are killed; writes workbench/docs/plugin-faults.md
	@$(HOUSE) plugin-faults -report workbench/docs/plugin-faults.md

dist: ## archives for every platform, checksums and completions in dist/
	@$(HOUSE) dist -version '$(VERSION)' $(PLATFORMS)

clean: ## remove what make built
	@rm -rf bin dist .cache
