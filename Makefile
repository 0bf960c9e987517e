# make            build/uott-enc and build/uott-dec
# make demo       shows what they do, in 15 seconds
# make test       runs all tests (SAN=1: under ASan and UBSan; PORTABLE=1: with POSIX calls only;
#                 SANDBOX_KILL=1: a system call that the sandbox does not know ends the program;
#                 STATIC=1: static programs, with musl; without the tests that preload a library)
# make coverage   runs the tests, and prints which lines of src they run (ten minutes)
# make test-machines runs the unit tests and a tunnel on other machines, under qemu
# make bench      measures CPU time, rate and delay of datagrams, and compares them with a floor
# make bench-latency, bench-network, bench-memory
#                 measures the delay of a small flow beside a large one, over slow pipes and over
#                 ssh (as root), and the memory of flows (BENCH=quick, ROUNDS=N)
# make fuzz       tries random inputs, of each target in tests/fuzz for FUZZ_SECONDS (10)
# make lint       runs the static checks
# make static     builds the programs without shared libraries, small if musl-gcc is installed
# make static-all the same for each machine that a compiler is installed for: for uott-carry
#                 (make test-static installs a compiler for all of them, and tries them;
#                 MACHINES="x86_64 armv7": these only)
# make dist       makes a tar file of the source, static programs and SHA256SUMS, in build/dist
# make deb        makes a Debian package, in build/deb (make test-dist tries both)
# make install    installs into DESTDIR and PREFIX (make uninstall removes); install-static
#                 also what static-all has built
#
# V=1 shows the commands. SAN, PORTABLE, COVERAGE, WERROR and static have their own folders.

VERSION = 1.0.0

CC      ?= cc
CFLAGS  ?= -O2 -g
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
LIBDIR  ?= $(PREFIX)/lib
DATADIR ?= $(PREFIX)/share
MANDIR  ?= $(DATADIR)/man
INSTALL ?= install

BUILD = build
ifdef PORTABLE
BUILD := $(BUILD)/portable
NEEDED += -DUOTT_PORTABLE
endif
ifdef SAN
BUILD := $(BUILD)/san
NEEDED += -DUOTT_NO_SANDBOX -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
ifdef COVERAGE
BUILD := $(BUILD)/coverage
NEEDED += -DUOTT_NO_SANDBOX --coverage
override CFLAGS = -O0 -g
endif
ifdef SANDBOX_KILL
BUILD := $(BUILD)/sandbox-kill
NEEDED += -DUOTT_SANDBOX_KILL
endif
ifdef WERROR
BUILD := $(BUILD)/werror-$(CC)
NEEDED += -Werror
endif
ifdef STATIC
override BUILD := $(BUILD)/static$(MACHINE:%=/%)
CC     = $(if $(shell command -v musl-gcc),musl-gcc,cc)
CFLAGS = -Os
LDFLAGS += -static -s
endif

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
ifdef STATIC
WARNINGS += -Wno-conversion -Wno-sign-conversion -Wno-sign-compare # for the CMSG macros and narrower types of musl
endif
# The flags, if the compiler takes them all. (zig makes a file of any name for its output.)
takes = $(shell out=$$(mktemp); $(CC) -Werror $(1) -x c -S -o "$$out" /dev/null 2>/dev/null && echo "$(1)"; rm -f "$$out")

# For small programs: no padding in front of code, nothing unwinds the stack at run time (debuggers
# have their own tables), and each program leaves out the functions that only the other one needs.
SMALL := -fno-asynchronous-unwind-tables -fno-unwind-tables -ffunction-sections -fdata-sections \
	$(call takes,-falign-functions=1 -falign-loops=1 -falign-jumps=1)
ifeq ($(shell uname -s),Linux)
LINK_SMALL = -Wl,--gc-sections
ifneq ($(firstword $(CC)),zig)
LINK_SMALL += -Wl,-z,noseparate-code # no padding between code and constants
endif
endif

# Against mistakes that we have not found, as the compiler takes it. (The strong form of the
# stack protector would make the programs larger than 64 KiB.)
ifndef SAN
HARDEN := $(foreach flag,-fPIE -fstack-protector -fstack-clash-protection -fcf-protection -fno-plt,$(call takes,$(flag)))
HARDEN += $(if $(filter-out -O0,$(filter -O%,$(CFLAGS))),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
ifeq ($(shell uname -s),Linux)
LINK_HARDEN = -Wl,-z,relro,-z,now $(if $(filter -static,$(LDFLAGS)),,-pie)
endif
endif

NEEDED += -std=c11 -D_GNU_SOURCE -D__APPLE_USE_RFC_3542 -DUOTT_VERSION='"$(VERSION)"' \
	$(WARNINGS) $(SMALL) $(HARDEN)
COMPILE = $(CC) $(CPPFLAGS) $(NEEDED) -MMD -MP $(CFLAGS)
LINK    = $(CC) $(NEEDED) $(CFLAGS) $(LINK_SMALL) $(LINK_HARDEN) $(LDFLAGS)

PURE    = address control counters flow frame options quarantine queue receiver sender services \
	siphash tags window writes
COMMON  = $(PURE) command limit listen log loop-epoll loop-poll pipe report sandbox signals stream tunnel \
	udp usage
HOT     = flow queue sender siphash
TOOLS   = far hostile link load peer slowpipe
PROGRAMS = $(BUILD)/uott-enc $(BUILD)/uott-dec
TESTED  = $(PURE) command limit signals
UNIT_TESTS = $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/*_test.c))
BENCH_TOOLS = floor start
FUZZ_TARGETS = $(filter-out replay,$(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c)))
FUZZ_REPLAYS = $(FUZZ_TARGETS:%=$(BUILD)/tests/fuzz_%)
PRELOADED = $(if $(STATIC),,clock faults nomemory)
TEST_TOOLS = $(TOOLS:%=$(BUILD)/tests/%) $(PRELOADED:%=$(BUILD)/tests/%.so)

ifndef V
.SILENT:
endif

all: $(PROGRAMS)

$(PROGRAMS): $(BUILD)/%: $(BUILD)/%.o $(COMMON:%=$(BUILD)/%.o)
	$(LINK) -o $@ $^
	$(if $(findstring s,$(firstword -$(MAKEFLAGS))),:,echo "built $@")

# Another compiler builds everything again.
$(BUILD)/compiler: FORCE
	mkdir -p $(@D)
	echo '$(CC)' | cmp -s - $@ || echo '$(CC)' >$@

# Files on the path of datagrams are compiled for speed, all others for size, unless CFLAGS is set.
ifeq ($(origin CFLAGS),file)
$(filter-out $(HOT:%=$(BUILD)/%.o),$(COMMON:%=$(BUILD)/%.o) $(PROGRAMS:%=%.o)): CFLAGS += -Os
endif

$(BUILD)/%.o: src/%.c Makefile $(BUILD)/compiler
	mkdir -p $(@D)
	$(COMPILE) -c -o $@ $<

$(UNIT_TESTS): $(BUILD)/tests/%: tests/unit/%.c $(TESTED:%=$(BUILD)/%.o) Makefile
	mkdir -p $(@D)
	$(COMPILE) -Isrc $(LDFLAGS) -o $@ $< $(TESTED:%=$(BUILD)/%.o)

$(BUILD)/tests/replay.o: tests/fuzz/replay.c Makefile
	mkdir -p $(@D)
	$(COMPILE) -Isrc -c -o $@ $<

$(FUZZ_REPLAYS): $(BUILD)/tests/fuzz_%: tests/fuzz/%.c $(BUILD)/tests/replay.o $(PURE:%=$(BUILD)/%.o) Makefile
	mkdir -p $(@D)
	$(COMPILE) -Isrc $(LDFLAGS) -o $@ $(filter %.c %.o,$^)

$(BUILD)/tests/%.so: tests/tools/%.c Makefile
	mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE $(WARNINGS) -Wno-pedantic -O2 -fPIC -shared -o $@ $< -ldl

$(BUILD)/tests/load: $(addprefix tests/tools/,judge.c judge.h congestion.c congestion.h tool.h)
$(TOOLS:%=$(BUILD)/tests/%): $(BUILD)/tests/%: tests/tools/%.c Makefile
	mkdir -p $(@D)
	$(COMPILE) $(LDFLAGS) -o $@ $(filter %.c,$^)

ifdef STATIC
$(BUILD)/tests/link: CC = cc # musl-gcc has no headers of Linux
endif

$(BENCH_TOOLS:%=$(BUILD)/tests/%): $(BUILD)/tests/%: tests/bench/%.c Makefile
	mkdir -p $(@D)
	$(COMPILE) $(LDFLAGS) -o $@ $<

static:
	command -v $(if $(filter command,$(firstword $(origin CC))),true,musl-gcc) >/dev/null || \
		echo "musl-gcc (Debian: musl-tools) would make these programs small, without a warning"
	$(MAKE) --no-print-directory STATIC=1

# As "uname -m" has it. For each the first compiler that is installed, with musl: small programs.
MACHINES = x86_64 aarch64 armv7 i686 riscv64
ZIG_TARGET_armv7 = arm-linux-musleabihf -mcpu=generic+v7a
ZIG_TARGET_i686  = x86-linux-musl
CROSS_armv7      = arm-linux-musleabihf-gcc armv7l-linux-musleabihf-gcc
installed   = $(foreach cc,$(1),$(if $(shell command -v $(cc)),$(cc)))
native      = $(if $(filter $(1),$(shell uname -m)),musl-gcc)
by_zig      = zig cc -target $(or $(ZIG_TARGET_$(1)),$(1)-linux-musl)
compiler_of = $(or $(firstword $(call installed,$(native) $(or $(CROSS_$(1)),$(1)-linux-musl-gcc))),\
	$(if $(call installed,zig),$(by_zig)))

static-all: $(MACHINES:%=static-%)
$(MACHINES:%=static-%): static-%:
	$(if $(call compiler_of,$*),$(MAKE) --no-print-directory STATIC=1 MACHINE=$* \
		CC='$(call compiler_of,$*)',echo "left out $*: no compiler for it")

dist:
	MACHINES='$(MACHINES)' .github/dist
deb: static-all
	.github/deb

demo: all $(addprefix $(BUILD)/tests/,load peer slowpipe)
	BUILD=$(BUILD) examples/demo

# First installs what the tests need. BATS_ARGS may name single files or filters.
test:
	tests/setup
	$(MAKE) --no-print-directory check

coverage:
	tests/setup
	tests/coverage

test-static test-machines test-dist: test-%:
	MACHINES='$(MACHINES)' tests/$*

unit-tests: $(UNIT_TESTS)

# With libFuzzer, which is a part of clang. Inputs that are new go to build/fuzz/corpus.
FUZZ_SECONDS ?= 10
COMPILE_FUZZ = clang -std=c11 -D_GNU_SOURCE -DUOTT_VERSION='"$(VERSION)"' $(WARNINGS) -O1 -g -MMD -MP \
	-fsanitize=fuzzer$(1),address,undefined -fno-sanitize-recover=all
fuzz:
	tests/setup fuzz
	$(MAKE) --no-print-directory -j2 $(FUZZ_TARGETS:%=fuzz-%)

build/fuzz/%.o: src/%.c Makefile
	mkdir -p $(@D)
	$(call COMPILE_FUZZ,-no-link) -c -o $@ $<

$(FUZZ_TARGETS:%=build/fuzz/fuzz_%): build/fuzz/fuzz_%: tests/fuzz/%.c $(PURE:%=build/fuzz/%.o) Makefile
	$(COMPILE_FUZZ) -Isrc -o $@ $(filter %.c %.o,$^)

$(FUZZ_TARGETS:%=fuzz-%): fuzz-%: build/fuzz/fuzz_%
	mkdir -p build/fuzz/corpus/$*
	$< -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build/fuzz/ build/fuzz/corpus/$* \
		tests/fuzz/seeds/$* >build/fuzz/$*.log 2>&1 || { tail -n 60 build/fuzz/$*.log; exit 1; }
	echo "fuzz $*: $$(tail -n 1 build/fuzz/$*.log)"

check: all $(UNIT_TESTS) $(FUZZ_REPLAYS) $(TEST_TOOLS)
	$(MAKE) --no-print-directory SAN= PORTABLE= COVERAGE= SANDBOX_KILL= BUILD=build static-$(shell uname -m)
	BUILD=$(abspath $(BUILD)) UOTT_STATIC=$(CURDIR)/build/static tests/run $(BATS_ARGS)

BENCHES = bench-latency bench-memory bench-network
bench: bench-throughput
bench-throughput $(BENCHES): bench-%: all $(TEST_TOOLS) $(BENCH_TOOLS:%=$(BUILD)/tests/%)
	BUILD=$(abspath $(BUILD)) tests/bench/$* $(BENCH_ARGS)

lint:
	tests/setup lint
	tests/lint

# The shell, and where it looks for completions: bash and fish for a file of each program.
COMPLETIONS = zsh:zsh/site-functions/_uott \
	$(foreach program,uott-enc uott-dec uott-carry,bash:bash-completion/completions/$(program) \
		fish:fish/vendor_completions.d/$(program).fish)

install: all
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5
	$(INSTALL) -m 755 $(PROGRAMS) $(DESTDIR)$(BINDIR)
	sed 's|/usr/local/lib|$(LIBDIR)|' examples/carry >$(BUILD)/uott-carry
	$(INSTALL) -m 755 $(BUILD)/uott-carry $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 src/uott-enc.1 src/uott-dec.1 src/uott-carry.1 $(DESTDIR)$(MANDIR)/man1
	$(INSTALL) -m 644 src/uott.5 $(DESTDIR)$(MANDIR)/man5
	for file in $(COMPLETIONS); do \
		to=$(DESTDIR)$(DATADIR)/$${file#*:}; \
		$(INSTALL) -d "$${to%/*}" && $(INSTALL) -m 644 src/uott.$${file%%:*} "$$to" || exit; \
	done

install-static: install
	for file in $(BUILD)/static/*/uott-???; do \
		machine=$${file%/*}; machine=$(DESTDIR)$(LIBDIR)/uott/$${machine##*/}; \
		$(INSTALL) -d "$$machine" && $(INSTALL) -m 755 "$$file" "$$machine" || exit; \
	done

uninstall:
	rm -f $(addprefix $(DESTDIR)$(BINDIR)/,uott-enc uott-dec uott-carry)
	rm -rf $(DESTDIR)$(LIBDIR)/uott
	rm -f $(addprefix $(DESTDIR)$(MANDIR)/man1/,uott-enc.1 uott-dec.1 uott-carry.1)
	rm -f $(DESTDIR)$(MANDIR)/man5/uott.5
	for file in $(COMPLETIONS); do rm -f $(DESTDIR)$(DATADIR)/$${file#*:}; done

clean:
	rm -rf build

.PHONY: all static static-all $(MACHINES:%=static-%) dist deb demo test coverage test-static test-machines test-dist unit-tests fuzz $(FUZZ_TARGETS:%=fuzz-%) check bench bench-throughput $(BENCHES) lint install install-static uninstall clean FORCE
-include $(wildcard $(BUILD)/*.d $(BUILD)/tests/*.d build/fuzz/*.d)
