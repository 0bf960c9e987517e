# make            build/uott-enc and build/uott-dec
# make demo       shows how they work
# make test       runs all tests (SAN=1: under ASan and UBSan; PORTABLE=1: with POSIX calls only)
# make bench      measures CPU time, rate and delay of datagrams, and compares them with a floor
# make bench-latency, bench-network, bench-memory
#                 measures the delay of a small flow beside a large one, over slow pipes and over
#                 ssh (as root), and the memory of flows (BENCH=quick, ROUNDS=N)
# make lint       runs the static checks
# make static     builds the programs without shared libraries, small if musl-gcc is installed
# make install    installs into DESTDIR and PREFIX (make uninstall removes)
#
# V=1 shows the commands. SAN, PORTABLE, WERROR and static have their own folders. For another CC,
# set BUILD=folder or run make clean first.

VERSION = 0.1.0

CC      ?= cc
CFLAGS  ?= -O2 -g
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
MANDIR  ?= $(PREFIX)/share/man
INSTALL ?= install

BUILD = build
ifdef PORTABLE
BUILD := $(BUILD)/portable
NEEDED += -DUOTT_PORTABLE
endif
ifdef SAN
BUILD := $(BUILD)/san
NEEDED += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
ifdef WERROR
BUILD := $(BUILD)/werror-$(CC)
NEEDED += -Werror
endif
ifdef STATIC
BUILD := $(BUILD)/static
CC     = $(if $(shell command -v musl-gcc),musl-gcc,cc)
CFLAGS = -Os
LDFLAGS += -static -s
endif

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
ifdef STATIC
WARNINGS += -Wno-conversion -Wno-sign-conversion # for the CMSG macros and narrower types of musl
endif
# For small programs: nothing unwinds the stack at run time (debuggers have their own tables), and
# each program leaves out the functions that only the other one needs.
SMALL = -fno-asynchronous-unwind-tables -ffunction-sections
ifeq ($(shell uname -s),Linux)
LINK_SMALL = -Wl,--gc-sections -Wl,-z,noseparate-code # no padding between code and constants
endif
NEEDED += -std=c11 -D_GNU_SOURCE -D__APPLE_USE_RFC_3542 -DUOTT_VERSION='"$(VERSION)"' \
	$(WARNINGS) $(SMALL)
COMPILE = $(CC) $(CPPFLAGS) $(NEEDED) -MMD -MP $(CFLAGS)
LINK    = $(CC) $(NEEDED) $(CFLAGS) $(LINK_SMALL) $(LDFLAGS)

PURE    = address control counters flow frame options quarantine queue receiver sender services \
	siphash tags window writes
COMMON  = $(PURE) command limit listen log loop-epoll loop-poll pipe report signals stream tunnel \
	udp usage
HOT     = flow queue sender siphash
TOOLS   = far load peer slowpipe
PROGRAMS = $(BUILD)/uott-enc $(BUILD)/uott-dec
TESTED  = $(PURE) command limit signals
UNIT_TESTS = $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/*_test.c))
BENCH_TOOLS = floor start
TEST_TOOLS = $(TOOLS:%=$(BUILD)/tests/%) $(BUILD)/tests/clock.so $(BUILD)/tests/nomemory.so

ifndef V
.SILENT:
endif

all: $(PROGRAMS)

$(PROGRAMS): $(BUILD)/%: $(BUILD)/%.o $(COMMON:%=$(BUILD)/%.o)
	$(LINK) -o $@ $^

# Files on the path of datagrams are compiled for speed, all others for size, unless CFLAGS is set.
ifeq ($(origin CFLAGS),file)
$(filter-out $(HOT:%=$(BUILD)/%.o),$(COMMON:%=$(BUILD)/%.o) $(PROGRAMS:%=%.o)): CFLAGS += -Os
endif

$(BUILD)/%.o: src/%.c Makefile
	mkdir -p $(@D)
	$(COMPILE) -c -o $@ $<

$(UNIT_TESTS): $(BUILD)/tests/%: tests/unit/%.c $(TESTED:%=$(BUILD)/%.o) Makefile
	mkdir -p $(@D)
	$(COMPILE) -Isrc $(LDFLAGS) -o $@ $< $(TESTED:%=$(BUILD)/%.o)

$(BUILD)/tests/%.so: tests/tools/%.c Makefile
	mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE $(WARNINGS) -Wno-pedantic -O2 -fPIC -shared -o $@ $< -ldl

$(BUILD)/tests/load: $(addprefix tests/tools/,judge.c judge.h congestion.c congestion.h tool.h)
$(TOOLS:%=$(BUILD)/tests/%) $(BUILD)/tests/link: $(BUILD)/tests/%: tests/tools/%.c Makefile
	mkdir -p $(@D)
	$(COMPILE) $(LDFLAGS) -o $@ $(filter %.c,$^)

$(BENCH_TOOLS:%=$(BUILD)/tests/%): $(BUILD)/tests/%: tests/bench/%.c Makefile
	mkdir -p $(@D)
	$(COMPILE) $(LDFLAGS) -o $@ $<

static:
	$(MAKE) --no-print-directory STATIC=1

demo: all $(TEST_TOOLS)
	BUILD=$(BUILD) examples/demo

# First installs what the tests need. BATS_ARGS may name single files or filters.
test:
	tests/setup
	$(MAKE) --no-print-directory check

unit-tests: $(UNIT_TESTS)

check: all $(UNIT_TESTS) $(TEST_TOOLS)
	BUILD=$(abspath $(BUILD)) tests/run $(BATS_ARGS)

BENCHES = bench-latency bench-memory bench-network
bench-network: $(BUILD)/tests/link
bench: bench-throughput
bench-throughput $(BENCHES): bench-%: all $(TEST_TOOLS) $(BENCH_TOOLS:%=$(BUILD)/tests/%)
	BUILD=$(abspath $(BUILD)) tests/bench/$* $(BENCH_ARGS)

lint:
	tests/setup lint
	tests/lint

install: all
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5
	$(INSTALL) -m 755 $(PROGRAMS) $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 src/uott-enc.1 src/uott-dec.1 $(DESTDIR)$(MANDIR)/man1
	$(INSTALL) -m 644 src/uott.5 $(DESTDIR)$(MANDIR)/man5

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/uott-enc $(DESTDIR)$(BINDIR)/uott-dec
	rm -f $(DESTDIR)$(MANDIR)/man1/uott-enc.1 $(DESTDIR)$(MANDIR)/man1/uott-dec.1
	rm -f $(DESTDIR)$(MANDIR)/man5/uott.5

clean:
	rm -rf build

.PHONY: all static demo test unit-tests check bench bench-throughput $(BENCHES) lint install uninstall clean
-include $(wildcard $(BUILD)/*.d $(BUILD)/tests/*.d)
