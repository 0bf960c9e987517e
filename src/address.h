/*
 * Text to UDP addresses and back. Splitting and formatting are pure; address_resolve() asks the
 * resolver of the system.
 */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	HOST_SIZE = 256, /* a DNS name has at most 253 bytes (RFC 1035) */
	PORT_SIZE = 32,
	ADDRESS_TEXT_SIZE = 96,
	ADDRESS_ERROR_SIZE = 512,
};

/* What the user wrote, taken apart and not yet looked up. */
struct host_port {
	char host[HOST_SIZE]; /* without brackets; empty: none given */
	char port[PORT_SIZE]; /* a number from 0 to 65535, or a service name */
};

/* An IPv4 or IPv6 address and port, as the socket calls take it. A value, copied freely. */
struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
};

/*
 * One of this host's own addresses: where a datagram was sent to, and the answer must come from.
 */
struct local_address {
	struct in6_addr ip; /* IPv4 as ::ffff:a.b.c.d; all zero: not known */
	uint32_t interface; /* its index where `ip` is link-local, else 0 */
};

/*
 * Splits "PORT", "HOST:PORT" or "[V6]:PORT". Returns NULL, or what was expected instead.
 */
const char *host_port_split(const char *text, struct host_port *result);

/* The same for HOST and PORT given as two words, as nc has it; `host` may be in brackets. */
const char *host_port_join(const char *host, const char *port, struct host_port *result);

/*
 * Looks up `name` in `family` (AF_UNSPEC, AF_INET, AF_INET6) and stores up to `max` addresses, best
 * first. The host "*" is the wildcard address, no host is loopback. Returns how many, or 0 with a
 * message in `error`.
 */
size_t address_resolve(const struct host_port *name, int family, struct address *addresses,
	size_t max, char error[static ADDRESS_ERROR_SIZE]);

/* The size of the socket address in it, which the socket calls want to be exact. */
socklen_t address_length(const struct address *address);

bool address_is_wildcard(const struct address *address);

/* Family, IP address, scope and port are the same; flow labels do not matter. */
bool address_equal(const struct address *a, const struct address *b);

bool local_address_equal(const struct local_address *a, const struct local_address *b);

/*
 * Writes "192.0.2.1:53" or "[fe80::1%eth0]:53". Returns `text`.
 */
const char *address_format(const struct address *address, char text[static ADDRESS_TEXT_SIZE]);

#endif
