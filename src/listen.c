#include "listen.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "udp.h"

enum {
	ADDRESSES_MAX = 8
};

/* Where a range may be bound, best first; each address has the first port. */
struct candidates {
	bool dual_stack;
	size_t count;
	struct address of[ADDRESSES_MAX];
};

/* Whether the host does not have this address family. Then another one may be used. */
static bool is_family_missing(int error)
{
	return error == EAFNOSUPPORT || error == EADDRNOTAVAIL;
}

/*
 * Without -4 or -6, "*" is one socket for both, and no host is loopback of IPv4, or else of IPv6.
 * Returns false after a message.
 */
static bool find_candidates(struct candidates *found, const struct host_port *where, int family)
{
	char error[ADDRESS_ERROR_SIZE];

	found->count = 0;
	found->dual_stack = family == AF_UNSPEC && strcmp(where->host, "*") == 0;
	if (found->dual_stack) {
		found->count = address_resolve(where, AF_INET6, found->of, 1, error);
		family = AF_INET; /* for a host without IPv6 */
	}
	found->count += address_resolve(
		where, family, found->of + found->count, ADDRESSES_MAX - found->count, error);
	if (family == AF_UNSPEC && where->host[0] == '\0')
		found->count += address_resolve(
			where, AF_INET6, found->of + found->count, 1, error);
	if (found->count == 0)
		log_line(LOG_ERROR, "%s", error);
	return found->count > 0;
}

/*
 * Listens on the first candidate whose family the host has; one whose port is taken is not passed
 * over, since clients would find somebody else there. Returns the socket and stores in *bound where
 * it listens; or -1 after a message.
 */
static int open_port(const struct candidates *candidates, uint16_t offset, struct address *bound)
{
	char text[ADDRESS_TEXT_SIZE];
	int socket = -1;

	for (size_t i = 0; i < candidates->count; i++) {
		*bound = candidates->of[i];
		address_set_port(bound, (uint16_t)(address_port(bound) + offset));
		socket = udp_open_bound(bound, candidates->dual_stack);
		if (socket >= 0 || !is_family_missing(errno))
			break;
	}
	if (socket < 0)
		log_line(LOG_ERROR, "cannot listen on %s: %s", address_format(bound, text),
			strerror(errno));
	return socket;
}

static bool open_range(const struct service_range *range, int family, struct listener *listeners)
{
	struct candidates candidates;
	struct address bound;
	char text[ADDRESS_TEXT_SIZE];

	if (!find_candidates(&candidates, &range->first, family))
		return false;
	for (uint16_t i = 0; i < range->count; i++) {
		listeners[i].socket = open_port(&candidates, i, &bound);
		if (listeners[i].socket < 0)
			return false;
		if (i == 0 && candidates.count > 1 && !candidates.dual_stack &&
			range->first.host[0] != '\0')
			log_line(LOG_WARNING, "'%s' has %zu addresses: listening on %s alone",
				range->first.host, candidates.count, address_format(&bound, text));
	}
	return true;
}

bool listen_open(const struct options *options, struct listener listeners[static SERVICES_MAX])
{
	const struct services *services = &options->services;
	const struct service_range *range = services->ranges;

	for (size_t i = 0; i < services->range_count; i++, range++) {
		if (!open_range(range, options->family, listeners))
			return false;
		listeners += range->count;
	}
	return true;
}

void listen_say_where(
	const struct options *options, const struct listener listeners[static SERVICES_MAX])
{
	const struct services *services = &options->services;

	for (size_t i = 0; i < services->range_count; i++) {
		const struct service_range *range = &services->ranges[i];
		bool was_chosen = range->first.port[strspn(range->first.port, "0")] == '\0';
		char text[ADDRESS_TEXT_SIZE], last[PORT_SIZE] = "";
		struct address bound;

		udp_bound_address(listeners->socket, &bound);
		if (range->count > 1)
			snprintf(last, sizeof(last), "-%u",
				address_port(&bound) + range->count - 1U);
		log_line(was_chosen ? LOG_WARNING : LOG_DETAIL, "listening on %s%s",
			address_format(&bound, text), last);
		listeners += range->count;
	}
}
