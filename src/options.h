/*
 * The command line, as uott-enc(1) and uott-dec(1) describe it. Times are in microseconds. Pure:
 * opens nothing, prints nothing, does not exit.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "services.h"

enum {
	OPTIONS_ERROR_SIZE = 512 /* bytes, with the final 0; a longer text is cut */
};

enum program {
	UOTT_ENC,
	UOTT_DEC,
};

/* The fields are public. What the user did not give has its default. */
struct options {
	enum program program;
	int family; /* AF_UNSPEC, AF_INET or AF_INET6 */
	bool unidirectional;
	bool quiet, verbose;
	bool no_sandbox;
	uint64_t linger_us;
	uint64_t idle_timeout_us; /* at least 1 */
	uint64_t latency_us;      /* queueing delay to aim for in the pipe; 0: no delivery window */
	uint64_t retry_us;        /* the longest wait before COMMAND runs again; 0: it does not */
	uint64_t stats_us;        /* time between two lines of counters; 0: no such lines */
	size_t max_flows;         /* 1 to TAGS */
	bool has_source;          /* dec: -b sets `source`, with port 0 */
	struct host_port source;
	char **command;           /* its words and a NULL; NULL: standard input and output */
	struct services services; /* enc listens there; dec sends to them */
};

enum options_result {
	OPTIONS_RUN,
	OPTIONS_HELP,
	OPTIONS_VERSION,
	OPTIONS_WRONG, /* `error` says why: one line without a newline */
};

/*
 * Reads argv, which ends with NULL, into *options. The words in front of "--" may change places.
 * `command` points into argv; nothing else in *options does. Uses getopt_long(3), so only one
 * thread may call it.
 */
enum options_result options_parse(struct options *options, enum program program, int argc,
	char **argv, char error[static OPTIONS_ERROR_SIZE]);

/* The texts of --help, with lines of at most 100 columns. Each program has only its own in it. */
extern const char options_help_enc[], options_help_dec[];

#endif
