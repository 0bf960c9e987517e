/*
 * The addresses on the command line: where enc listens, or dec's targets. A stream carries one
 * service or several, in this order. Pure: looks nothing up.
 */
#ifndef SERVICES_H
#define SERVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "tags.h"

enum {
	SERVICES_ITEM_SIZE = HOST_SIZE + 2 * PORT_SIZE /* bytes, with the final 0 */
};

/* One port of a host, or several in a row. */
struct service_range {
	struct host_port first;
	uint16_t count;
};

/* The fields are public. Only the ranges that are used are ever touched. */
struct services {
	uint16_t count; /* of ports: 1 to SERVICES_MAX */
	size_t range_count;
	struct service_range ranges[SERVICES_MAX];
};

/*
 * Reads a list "[HOST:]PORTS[,...]", where PORTS is a port or "FIRST-LAST", two numbers. `host`: of
 * all of them, and the list has none; NULL: each has its own, or none. Targets must have a host and
 * a port that can be sent to. Returns NULL, or a constant text that says what is wrong with the
 * part of the list that is stored in `item`; *services is then undefined.
 */
const char *services_parse(struct services *services, bool are_targets, const char *host,
	const char *list, char item[static SERVICES_ITEM_SIZE]);

#endif
