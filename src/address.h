/*
 * Text to UDP addresses and back. Only address_resolve() and address_format() ask the system: one
 * its resolver, the other for names of interfaces.
 */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	/* In bytes, with the final 0. */
	HOST_SIZE = 256, /* a DNS name has at most 253 (RFC 1035) */
	PORT_SIZE = 32,  /* a service name has at most 15 (RFC 6335) */
	ADDRESS_TEXT_SIZE = 96,
	ADDRESS_ERROR_SIZE = 512,
};

/* What the user wrote, taken apart and not looked up yet. */
struct host_port {
	char host[HOST_SIZE]; /* without brackets; "": none given */
	char port[PORT_SIZE]; /* a number from 0 to 65535, or a service name */
};

/* An IPv4 or IPv6 address and port, as the socket calls take it. A value: copies are equal. */
struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
};

/* An address of this host: a datagram was sent to it, so the reply has to come from it. */
struct local_address {
	struct in6_addr ip; /* IPv4 as ::ffff:a.b.c.d; all zero: not known */
	uint32_t interface; /* its index where `ip` is link-local, else 0 */
};

/*
 * Splits "PORT", "HOST:PORT" or "[V6]:PORT". Returns NULL, or a constant text that says what is
 * wrong; *result is then undefined.
 */
const char *host_port_split(const char *text, struct host_port *result);

/* The same for two words, HOST and PORT, as nc(1) takes them. Brackets around HOST are optional. */
const char *host_port_join(const char *host, const char *port, struct host_port *result);

/*
 * Looks up `name` in `family` (AF_UNSPEC, AF_INET or AF_INET6) by getaddrinfo(3), which may block.
 * Stores up to `max` (at least 1) addresses, best first (RFC 6724); bytes that an address does not
 * use are 0. The host "*" is the wildcard address; no host is loopback, of IPv4 for AF_UNSPEC.
 * Returns how many addresses it has stored, or 0 with one line in `error`.
 */
size_t address_resolve(const struct host_port *name, int family, struct address *addresses,
	size_t max, char error[static ADDRESS_ERROR_SIZE]);

/* The port, in host byte order. */
uint16_t address_port(const struct address *address);
void address_set_port(struct address *address, uint16_t port);

/* Returns the size in bytes of the socket address in it: the socket calls need the exact size. */
socklen_t address_length(const struct address *address);

/* Whether it is 0.0.0.0 or ::, with any port. */
bool address_is_wildcard(const struct address *address);

/* Whether family, IP address, scope and port are the same. Flow labels do not matter. */
bool address_equal(const struct address *a, const struct address *b);

bool local_address_equal(const struct local_address *a, const struct local_address *b);

/*
 * Writes "192.0.2.1:53", for ::ffff:192.0.2.1 too, or "[fe80::1%eth0]:53", without "%eth0" if no
 * interface has this scope. Returns `text`.
 */
const char *address_format(const struct address *address, char text[static ADDRESS_TEXT_SIZE]);

#endif
