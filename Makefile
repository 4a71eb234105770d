# Relève. `make help` lists what there is to do.

# CGO_ENABLED=0: one static binary that runs on any Linux of the same architecture.
BUILD = CGO_ENABLED=0 go build -trimpath

.PHONY: build test race lint soak siege histories detect fuzz bench demo check clean help packages

build: ## build bin/syncagent and bin/watchdog
	$(BUILD) -o bin/ ./cmd/...

test: packages ## run every test, installing the Debian packages they need where that is allowed
	go test -timeout 30m ./...

# The end-to-end tests run the two programs as processes of their own, which the race detector does not see.
race: packages ## the same with the race detector and in random order, shorter, and without processes
	go test -race -short -shuffle=on -timeout 30m $$(go list ./... | grep -v /test/e2e)

lint: ## gofmt, go vet, staticcheck, go mod tidy
	test/scripts/lint

soak: ## play random histories with faults against the sync engine (SEEDS=1000; SEED=S plays one)
	SOAK_SEEDS=$(or $(SEEDS),1000) SOAK_SEED=$(SEED) go test -count=1 -run 'TestSoak$$' -timeout 0 -parallel 8 -v ./internal/syncagent/

siege: packages ## kill the agent, cut the line, fill the disk, between real servers (root; KILLS=200 CUTS=50 FILLS=40; SEED=S repeats)
	SIEGE_KILLS=$(or $(KILLS),200) SIEGE_CUTS=$(or $(CUTS),50) SIEGE_FILLS=$(or $(FILLS),40) SIEGE_SEED=$(SEED) \
		go test -count=1 -run 'TestSiege' -timeout 0 -v ./test/e2e/

histories: ## play random histories against the decision core (CHECKS=10000)
	go test -count=1 -run 'TestHistories|TestFlapping' -timeout 0 -v ./internal/failover/ -rapid.checks=$(or $(CHECKS),10000)

detect: ## measure, in real time, from prod's death to a switch that OVH has accepted (RUNS=20)
	DETECT_RUNS=$(or $(RUNS),20) go test -count=1 -run 'TestDetect$$' -timeout 10m -v ./internal/watchdog/

fuzz: ## run each fuzz target for a while (FUZZTIME=10s)
	test/scripts/fuzz $(FUZZTIME)

bench: packages ## measure against rsync and lsyncd (root; BENCH="-h" for its flags), then the hot paths
	@test/scripts/packages lsyncd:lsyncd inotify-tools:inotifywait rclone:rclone
	go run ./test/bench -out docs/benchmarks.md $(BENCH)
	go test -run '^$$' -bench . -benchmem ./...

demo: ## play the whole story on this machine; ONCE=1 ends by itself
	@test/scripts/demo $(if $(ONCE),--once)

check: lint test race fuzz ## everything a change has to pass
	$(MAKE) demo ONCE=1

clean: ## remove what was built
	rm -rf bin

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

packages:
	@test/scripts/packages
