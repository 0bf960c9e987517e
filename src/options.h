/*
 * The command line. Pure: opens nothing, prints nothing, does not exit.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

enum {
	OPTIONS_ERROR_SIZE = 512
};

enum program {
	UOTT_ENC,
	UOTT_DEC,
};

struct options {
	enum program program;
	int family; /* AF_UNSPEC, AF_INET, AF_INET6 */
	bool unidirectional;
	bool quiet, verbose;
	uint64_t linger_us, idle_timeout_us;
	uint64_t latency_us; /* queueing delay to aim for in the pipe; 0: leaves the pipe alone */
	uint64_t retry_us;   /* the longest wait before COMMAND is run again; 0: never is */
	uint64_t stats_us;   /* how often the counters are shown; 0: never */
	size_t max_flows;
	bool has_source; /* dec: -b was given */
	struct host_port source;
	struct host_port address;
	char **command; /* NULL: standard input and output */
};

enum options_result {
	OPTIONS_RUN,
	OPTIONS_HELP,
	OPTIONS_VERSION,
	OPTIONS_WRONG, /* `error` says what, with the user's own text */
};

/*
 * Reads argv into *options, which borrows the strings; the words of argv may change places.
 */
enum options_result options_parse(struct options *options, enum program program, int argc,
	char **argv, char error[static OPTIONS_ERROR_SIZE]);

/* The text of --help. */
const char *options_help(enum program program);

#endif
