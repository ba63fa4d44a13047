# RunCoach Edge: the nginx module and the sidecar.  "make help" lists targets.

BUILD      ?= build
CC         ?= cc
CLANG      ?= clang
CFLAGS     ?= -O2 -g
SANITIZE   ?=
JOBS       ?= $(shell nproc)
PREFIX     ?= /usr/local
MODULES    ?= /usr/lib/nginx/modules
VERSION    := $(shell sed -n 's/^Changes with RunCoach Edge \([0-9.]*\).*/\1/p' \
                CHANGES | head -n 1)

# the headers of Debian's nginx: extracted by "make deps", or installed

NGINX_DEV  := build/nginx-dev/usr/share/nginx/src
NGINX_SRC  ?= $(if $(wildcard $(NGINX_DEV)),$(NGINX_DEV),/usr/share/nginx/src)

ifneq ($(SANITIZE),)
SAN        := -fsanitize=$(SANITIZE) -fno-sanitize-recover=undefined \
              -fno-omit-frame-pointer
endif

WARN       := -Wall -Wextra -Werror
INCS       := -I ngx_runcoach_module/lib -I sidecar -I t/unit \
              -I $(shell pg_config --includedir 2>/dev/null || \
                         echo /usr/include/postgresql)
# V=1 shows the commands

Q          := $(if $(V),,@)

OPTS        = -std=gnu11 $(WARN) $(CFLAGS) $(SAN) -pthread $(INCS) \
              -DRUNCOACH_VERSION='"$(VERSION)"'
LIBS       := -lmicrohttpd -lpq -lhiredis -ljansson -lcurl -lssl -lcrypto -lz \
              -lm -pthread

LIB_OBJS   := $(patsubst ngx_runcoach_module/lib/%.c,$(BUILD)/lib/%.o,\
                $(wildcard ngx_runcoach_module/lib/*.c))
SIDE_OBJS  := $(patsubst sidecar/%.c,$(BUILD)/sidecar/%.o,\
                $(filter-out sidecar/main.c,$(wildcard sidecar/*.c)))
UNITS      := $(patsubst t/unit/%.c,$(BUILD)/unit/%,$(wildcard t/unit/*.c))
FUZZ_NAMES := $(filter-out standalone,$(patsubst t/fuzz/%.c,%,\
                $(wildcard t/fuzz/*.c)))
REPLAYS    := $(FUZZ_NAMES:%=$(BUILD)/replay/%)
FUZZERS    := $(FUZZ_NAMES:%=$(BUILD)/fuzz/%)
FUZZ       ?= $(FUZZ_NAMES)
TIME       ?= 30
TESTS      ?= t/*.t

# a byte at a time, not those which look at the clock (the first line), nor
# those which run no nginx of the harness (the second)

NO_SHIM    := accuracy faults flood memory pgbouncer storefaults \
              aws docs migrate run script style unit
SHIM       ?= $(filter-out $(NO_SHIM:%=t/%.t),$(wildcard t/*.t))

# valgrind is too slow for those which look at the clock

VALGRIND   ?= $(patsubst %,t/%.t,auth authcache batch carriers conf cors \
                identity issuers keys leaks limit limitheaders log optional \
                presign redis rotation status store)

# those of the sidecar, whose leaks are looked for as well

VALGRIND_SIDECAR ?= $(patsubst %,t/%.t,complete deletions doctor endpoint \
                files jobs migrate pgbouncer relay selfcomplete storefaults \
                svix usage users webhook)


.PHONY: all module sidecar unit replay fuzzers deps deps-run deps-check \
        deps-fuzz deps-bench run test shim soak \
        bench check asan fuzz coverage install clean help FORCE

all: module sidecar  ## build the module and the sidecar


# ---- the module ----

module: $(BUILD)/nginx/Makefile  ## build/ngx_http_runcoach_module.so
	@$(MAKE) --no-print-directory -s -f $(abspath $(BUILD))/nginx/Makefile \
	    -C "$$(cat $(BUILD)/nginx/tree)" modules
	@cmp -s $(BUILD)/nginx/ngx_http_runcoach_module.so \
	    $(BUILD)/ngx_http_runcoach_module.so || \
	    install -m 644 $(BUILD)/nginx/ngx_http_runcoach_module.so \
	    $(BUILD)/ngx_http_runcoach_module.so

$(BUILD)/nginx/Makefile: config ngx_runcoach_module/configure.sh \
    $(BUILD)/nginx/options $(wildcard build/nginx-dev/version)
	@echo "  CONFIGURE $@"
	$(Q)CC="$(CC)" CC_OPT="$(CFLAGS) -Wextra -Wno-unused-parameter \
	    -Wno-cast-function-type $(SAN)" \
	    LD_OPT="$(SAN)" bash ngx_runcoach_module/configure.sh \
	    "$(NGINX_SRC)" $(BUILD)/nginx

# other options, or another nginx, need another Makefile

$(BUILD)/nginx/options: FORCE
	@mkdir -p $(BUILD)/nginx
	@echo "$(NGINX_SRC) $(VERSION) $(CC) $(CFLAGS) $(SAN)" | cmp -s - $@ || \
	    echo "$(NGINX_SRC) $(VERSION) $(CC) $(CFLAGS) $(SAN)" > $@


# ---- the sidecar ----

sidecar: $(BUILD)/runcoach-sidecar  ## build/runcoach-sidecar

$(BUILD)/runcoach-sidecar: $(BUILD)/sidecar/main.o $(BUILD)/libsidecar.a \
    $(BUILD)/libruncoach.a
	@echo "  LD $@"
	$(Q)$(CC) $(SAN) -o $@ $^ $(LIBS)

$(BUILD)/libruncoach.a: $(LIB_OBJS)
	@rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/libsidecar.a: $(SIDE_OBJS) $(BUILD)/sidecar/migrations.o
	@rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/lib/%.o: ngx_runcoach_module/lib/%.c | $(BUILD)/lib
	@echo "  CC $@"
	$(Q)$(CC) $(OPTS) -MMD -c -o $@ $<

$(BUILD)/sidecar/%.o: sidecar/%.c | $(BUILD)/sidecar
	@echo "  CC $@"
	$(Q)$(CC) $(OPTS) -MMD -c -o $@ $<

$(BUILD)/sidecar/migrations.o: $(BUILD)/migrations.c | $(BUILD)/sidecar
	@echo "  CC $@"
	$(Q)$(CC) $(OPTS) -c -o $@ $<

$(BUILD)/migrations.c: $(wildcard migrations/*.sql) sidecar/migrate.sh
	@mkdir -p $(BUILD)
	$(Q)sh sidecar/migrate.sh migrations > $@.tmp && mv $@.tmp $@

$(BUILD)/lib $(BUILD)/sidecar $(BUILD)/unit $(BUILD)/replay $(BUILD)/fuzz:
	@mkdir -p $@


# ---- tests ----

# a test includes the file it tests, so the archives lend only the others

unit: $(UNITS)

$(BUILD)/unit/%: t/unit/%.c $(wildcard t/unit/*.h) $(BUILD)/libsidecar.a \
    $(BUILD)/libruncoach.a | $(BUILD)/unit
	@echo "  CC $@"
	$(Q)$(CC) $(OPTS) -o $@ $< $(BUILD)/libsidecar.a $(BUILD)/libruncoach.a $(LIBS)

replay: $(REPLAYS)

$(BUILD)/replay/%: t/fuzz/%.c t/fuzz/standalone.c $(BUILD)/libsidecar.a \
    $(BUILD)/libruncoach.a | $(BUILD)/replay
	@echo "  CC $@"
	$(Q)$(CC) $(OPTS) -o $@ $< t/fuzz/standalone.c $(BUILD)/libsidecar.a \
	    $(BUILD)/libruncoach.a $(LIBS)

$(BUILD)/eagain.so: t/faults/eagain.c
	@mkdir -p $(BUILD)
	@echo "  CC $@"
	$(Q)$(CC) -std=gnu11 $(WARN) -O2 -g -pthread -fPIC -shared -o $@ $<

$(BUILD)/presign: t/peer/presign.c $(BUILD)/libruncoach.a
	@echo "  CC $@"
	$(Q)$(CC) $(OPTS) -o $@ $^ -ljansson -lcrypto

deps:  ## install what building, running and testing need (apt)
	@sh conf/deps.sh build run test

deps-run deps-check deps-fuzz deps-bench:
	@sh conf/deps.sh build $(@:deps-%=%)

run: deps-run  ## the whole system on this machine, in the foreground
	@$(MAKE) --no-print-directory all
	@exec sh conf/run.sh

test: deps  ## everything that is fast enough to run each time
	@$(MAKE) --no-print-directory all unit replay $(BUILD)/presign \
	    $(BUILD)/eagain.so
	@sh t/peer/install.sh
	@sh t/peer/radosgw.sh
	@prove -j$(JOBS) -It/lib $(TESTS)

# what is suppressed takes out parameters for uses of what is not set

check: deps-check all  ## compilers, style, documentation, static analysis
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/clang CC=$(CLANG) all unit
	@git diff --check
	@prove -It/lib t/style.t t/docs.t
	@cppcheck --quiet --error-exitcode=1 --enable=warning,portability \
	    --suppress=returnDanglingLifetime --suppress=ctuuninitvar \
	    --suppress=uninitvar --suppress=legacyUninitvar \
	    --suppress=normalCheckLevelMaxBranches \
	    -I ngx_runcoach_module/lib -I sidecar ngx_runcoach_module/lib sidecar

asan:  ## the tests with AddressSanitizer and UBSan in module and sidecar
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan CFLAGS="-O1 -g" \
	    SANITIZE=address,undefined all unit replay $(BUILD)/asan/presign \
	    $(BUILD)/asan/eagain.so
	@RUNCOACH_ASAN=1 RUNCOACH_BUILD=$(BUILD)/asan prove -It/lib $(TESTS)

fuzz: deps-fuzz $(FUZZ:%=$(BUILD)/fuzz/%)  ## FUZZ=jwt TIME=600: fuzz a parser
	@for f in $(FUZZ); do \
	    mkdir -p $(BUILD)/corpus/$$f; \
	    $(BUILD)/fuzz/$$f -max_total_time=$(TIME) -print_final_stats=1 \
	        $(BUILD)/corpus/$$f t/fuzz/corpus/$$f || exit 1; \
	done

fuzzers: $(FUZZERS)

$(BUILD)/fuzz/%: t/fuzz/%.c $(wildcard ngx_runcoach_module/lib/*.c) \
    $(wildcard sidecar/*.c) | $(BUILD)/fuzz
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzzlib CC=$(CLANG) \
	    CFLAGS="-O1 -g -fsanitize=fuzzer-no-link" \
	    SANITIZE=address,undefined \
	    $(BUILD)/fuzzlib/libsidecar.a $(BUILD)/fuzzlib/libruncoach.a
	@echo "  CC $@"
	$(Q)$(CLANG) $(OPTS) -fsanitize=fuzzer,address,undefined -o $@ $< \
	    $(BUILD)/fuzzlib/libsidecar.a $(BUILD)/fuzzlib/libruncoach.a $(LIBS)

shim:  ## the tests of the module, each call on a socket moves one byte
	@$(MAKE) --no-print-directory all $(BUILD)/presign $(BUILD)/eagain.so
	@RUNCOACH_SHIM=1 RUNCOACH_TEST_TIMEOUT=30 prove -j$(JOBS) -It/lib $(SHIM)

soak: asan shim  ## what takes longer: sanitizers, valgrind, kill rounds, fuzzing
	@RUNCOACH_SOAK=1 prove -It/lib t/faults.t t/memory.t t/reload.t \
	    t/accuracy.t t/flood.t
	@RUNCOACH_VALGRIND=1 RUNCOACH_TEST_TIMEOUT=60 prove -It/lib $(VALGRIND)
	@RUNCOACH_VALGRIND=sidecar RUNCOACH_TEST_TIMEOUT=60 prove -It/lib \
	    $(VALGRIND_SIDECAR)
	@$(MAKE) --no-print-directory fuzz TIME=600

bench: deps-bench  ## BENCH_CASES=name: CPU time, webhooks, completions
	@$(MAKE) --no-print-directory all
	@perl -It/lib t/bench/bench.pl
	@perl -It/lib t/bench/sidecar.pl

coverage:  ## lines of lib/ and the sidecar which the unit tests reach
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/coverage \
	    CFLAGS="-O0 -g --coverage" unit replay
	@for t in $(BUILD)/coverage/unit/*; do \
	    case $$t in *.gc*) ;; *) $$t > /dev/null || exit 1 ;; esac; \
	done
	@gcovr -r . --object-directory $(BUILD)/coverage \
	    -f ngx_runcoach_module/lib -f sidecar


# ---- the rest ----

install: all  ## DESTDIR= PREFIX=/usr/local MODULES=/usr/lib/nginx/modules
	install -d $(DESTDIR)$(MODULES) $(DESTDIR)$(PREFIX)/bin \
	    $(DESTDIR)$(PREFIX)/share/runcoach
	install -m 644 $(BUILD)/ngx_http_runcoach_module.so $(DESTDIR)$(MODULES)
	install -m 755 $(BUILD)/runcoach-sidecar $(DESTDIR)$(PREFIX)/bin
	install -m 644 conf/*.conf conf/env.example conf/env.sh \
	    $(DESTDIR)$(PREFIX)/share/runcoach

clean:  ## remove everything that was built
	rm -rf $(BUILD)

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/\1\t\2/p' Makefile | expand -t 12

-include $(wildcard $(BUILD)/lib/*.d $(BUILD)/sidecar/*.d)
