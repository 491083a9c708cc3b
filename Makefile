# imgmount: build, test, look at it, install it. `make help` lists what there is.
# Each target first says what it lacks and the one line that gets it.

PREFIX   ?= /usr/local
DESTDIR  ?=
BINDIR   ?= $(PREFIX)/bin
MANDIR   ?= $(PREFIX)/share/man
BASHDIR  ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR   ?= $(PREFIX)/share/zsh/site-functions
FISHDIR  ?= $(PREFIX)/share/fish/vendor_completions.d
UNITDIR  ?= $(PREFIX)/lib/systemd/system
# mount(8) looks for its helpers here and nowhere else, whatever PREFIX is; empty for none.
MOUNTDIR ?= /sbin

CARGO    ?= cargo
TARGET   := $(or $(CARGO_TARGET_DIR),target)
BINARY   := $(TARGET)/release/imgmount
DIST     := $(TARGET)/dist/imgmount
SHELL    := /bin/bash
.SHELLFLAGS := -euo pipefail -c

.DEFAULT_GOAL := build
.PHONY: help build dist test demo guest samples bench bench-disk soak boot-truth lint fmt man completions install uninstall clean cargo cc

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

# The Rust that distributions ship may be years too old for edition 2024, and says so in words that help nobody.
cargo:
	@need=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	have=$$($(CARGO) --version 2>/dev/null | cut -d' ' -f2); \
	if [ -z "$$have" ]; then have=none; fi; \
	if [ "$$(printf '%s\n%s\n' "$$need" "$$have" | sort -V | head -n1)" != "$$need" ] || [ "$$have" = none ]; then \
	  echo "imgmount needs Rust $$need or newer; found: $$have"; \
	  echo "get it with:  curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y   (or, with rustup there:  rustup update stable)"; \
	  exit 1; fi

cc:
	@command -v cc >/dev/null || { echo "a C linker is missing; get it with:  apt-get install -y gcc libc6-dev"; exit 1; }

build: cargo cc ## the program, optimised: target/release/imgmount
	$(CARGO) build --release --locked

dist: cargo cc ## the program as it is installed and measured: slower to build, faster to run
	$(CARGO) build --profile dist --locked

test: cargo cc ## every test; says at the end what was skipped and why
	@CARGO="$(CARGO)" tests/make/run.sh

demo: build ## a tour on samples that are inside the program
	@$(BINARY) demo

guest: ## a real Debian 12 on a disk that boots, in every format: target/guest (root, some minutes, once)
	@tests/make/guest.sh

samples: ## make the samples of the demo and the tests anew: samples/ (root)
	@tests/make/samples.sh

bench: dist ## our figures beside those of others, taken in turn, with verdicts (root; make guest and bench-disk first; SECTIONS=serving)
	@bench/run.sh $(DIST) $(SECTIONS)

bench-disk: ## the 4 GiB disk that serving is measured on, in every format: target/bench (root, some minutes, 17 GiB, once)
	@bench/image.sh

soak: dist ## 16 mixed readers over NBD and FUSE for ten minutes, every byte compared (root; make bench-disk first; SECONDS=600)
	@bench/soak/run.sh $(DIST) $(or $(SECONDS),600)

boot-truth: build guest ## the checker's word against machines that are booted: docs/boot-truth.md (root, half an hour)
	@mkdir -p $(TARGET)/truth
	@tests/truth/boot.py $(BINARY) $(TARGET)/guest/disk.raw $(TARGET)/truth --table $(TARGET)/truth/table.md $(TRUTH)
	@echo "the table: $(TARGET)/truth/table.md"

# Every file by its name: rustfmt does not see modules that a macro declares.
fmt: cargo ## format every file
	@find src tests examples bench -name '*.rs' -print0 | xargs -0 rustfmt --edition 2024

lint: cargo ## formatting, clippy, licences
	@find src tests examples bench -name '*.rs' -print0 | xargs -0 rustfmt --edition 2024 --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check bans licenses sources; \
	else echo "cargo deny: not installed, licences not checked; get it with:  cargo install --locked cargo-deny"; fi

man: build ## the manual pages of the verbs anew: man/, and with those written by hand in target/man
	@$(BINARY) man man
	@rm -rf $(TARGET)/man; mkdir -p $(TARGET)/man
	@cp man/*.[1-8] $(TARGET)/man/
	@ls $(TARGET)/man

completions: build ## completion scripts for bash, zsh and fish: target/completions
	@mkdir -p $(TARGET)/completions
	@$(BINARY) completions bash > $(TARGET)/completions/imgmount
	@$(BINARY) completions zsh > $(TARGET)/completions/_imgmount
	@$(BINARY) completions fish > $(TARGET)/completions/imgmount.fish
	@ls $(TARGET)/completions

install: dist man completions ## program, manual pages, completions, systemd units (PREFIX, DESTDIR)
	install -D -m 755 $(DIST) $(DESTDIR)$(BINDIR)/imgmount
	@for page in $(TARGET)/man/*; do \
	  install -D -m 644 "$$page" "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}"; done
	install -D -m 644 $(TARGET)/completions/imgmount $(DESTDIR)$(BASHDIR)/imgmount
	install -D -m 644 $(TARGET)/completions/_imgmount $(DESTDIR)$(ZSHDIR)/_imgmount
	install -D -m 644 $(TARGET)/completions/imgmount.fish $(DESTDIR)$(FISHDIR)/imgmount.fish
	@for unit in systemd/*; do \
	  install -d -m 755 $(DESTDIR)$(UNITDIR); \
	  sed 's,@BINDIR@,$(BINDIR),' $$unit > $(DESTDIR)$(UNITDIR)/$${unit##*/}; done
	@if [ -z "$(MOUNTDIR)" ]; then :; \
	elif mkdir -p "$(DESTDIR)$(MOUNTDIR)" && ln -sfn "$(BINDIR)/imgmount" "$(DESTDIR)$(MOUNTDIR)/mount.imgmount"; then :; \
	else echo "no 'mount -t imgmount': $(DESTDIR)$(MOUNTDIR) cannot be written; as root:  ln -s $(BINDIR)/imgmount $(MOUNTDIR)/mount.imgmount"; fi
	@echo "installed: $(DESTDIR)$(BINDIR)/imgmount"

uninstall: ## take it away again (PREFIX, DESTDIR)
	rm -f $(DESTDIR)$(BINDIR)/imgmount $(DESTDIR)$(MANDIR)/man[1-8]/imgmount.[1-8] $(DESTDIR)$(MANDIR)/man[1-8]/imgmount-*.[1-8] \
	  $(if $(MOUNTDIR),$(DESTDIR)$(MOUNTDIR)/mount.imgmount) $(DESTDIR)$(MANDIR)/man8/mount.imgmount.8 \
	  $(DESTDIR)$(BASHDIR)/imgmount $(DESTDIR)$(ZSHDIR)/_imgmount $(DESTDIR)$(FISHDIR)/imgmount.fish \
	  $(DESTDIR)$(UNITDIR)/imgmount@.service $(DESTDIR)$(UNITDIR)/imgmount-nbd@.service $(DESTDIR)$(UNITDIR)/imgmount-nbd@.socket

clean: ## remove what was built
	@if [ -d $(TARGET) ]; then find $(TARGET) -mindepth 1 -maxdepth 1 ! -name guest ! -name trixie -exec rm -rf {} +; fi
	@echo "target/guest and target/trixie are kept; remove them by hand"
