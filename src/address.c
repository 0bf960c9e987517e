#include "address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static_assert(HOST_SIZE >= INET6_ADDRSTRLEN + IF_NAMESIZE, "an address fits, with its interface");
static_assert(
	ADDRESS_TEXT_SIZE >= INET6_ADDRSTRLEN + IF_NAMESIZE + sizeof("[%]:65535"), "and its port");
static_assert(ADDRESS_ERROR_SIZE >= HOST_SIZE + PORT_SIZE + 128, "so do the longest names");

static bool copy_text(char *to, size_t size, const char *from, size_t length)
{
	if (length >= size)
		return false;
	memcpy(to, from, length);
	to[length] = '\0';
	return true;
}

/* Whether it is a number in range or may be a service name, which has a letter (RFC 6335). */
static bool is_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	if (text[digits] == '\0')
		return digits >= 1 && digits <= 5 && strtoul(text, NULL, 10) <= UINT16_MAX;
	return isalnum((unsigned char)text[0]) && !strpbrk(text, " :[]/\t\n\r") &&
	       strpbrk(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

static const char *set_port(const char *port, struct host_port *result)
{
	if (!is_port(port) || !copy_text(result->port, PORT_SIZE, port, strlen(port)))
		return "a port is a number from 0 to 65535 or a service name";
	return NULL;
}

static const char *set_host(const char *host, size_t length, struct host_port *result)
{
	if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
		host++;
		length -= 2;
	}
	if (length == 0)
		return "the host is empty (uott-enc listens on all addresses with *)";
	if (memchr(host, '[', length) || memchr(host, ']', length))
		return "expected HOST:PORT or [V6ADDRESS]:PORT";
	if (!copy_text(result->host, HOST_SIZE, host, length))
		return "the host is too long";
	return NULL;
}

const char *host_port_join(const char *host, const char *port, struct host_port *result)
{
	const char *error = set_host(host, strlen(host), result);

	return error ? error : set_port(port, result);
}

const char *host_port_split(const char *text, struct host_port *result)
{
	const char *colon = strrchr(text, ':');
	const char *error;

	if (!colon) {
		result->host[0] = '\0';
		return set_port(text, result);
	}
	if (text[0] != '[' && memchr(text, ':', (size_t)(colon - text)))
		return "an IPv6 address is written in brackets, as in [::1]:53";
	if (text[0] == '[' && colon[-1] != ']')
		return "expected [V6ADDRESS]:PORT";
	error = set_host(text, (size_t)(colon - text), result);
	return error ? error : set_port(colon + 1, result);
}

size_t address_resolve(const struct host_port *name, int family, struct address *addresses,
	size_t max, char error[static ADDRESS_ERROR_SIZE])
{
	struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_DGRAM};
	struct addrinfo *found, *next;
	const char *host = name->host;
	size_t count = 0;
	int result;

	if (strcmp(host, "*") == 0) {
		host = NULL;
		hints.ai_flags = AI_PASSIVE;
	} else if (host[0] == '\0') {
		host = family == AF_INET6 ? "::1" : "127.0.0.1";
	}
	result = getaddrinfo(host, name->port, &hints, &found);
	if (result != 0) {
		snprintf(error, ADDRESS_ERROR_SIZE, "cannot resolve host '%s' port '%s': %s",
			host ? host : "*", name->port,
			result == EAI_SYSTEM ? strerror(errno) : gai_strerror(result));
		return 0;
	}
	for (next = found; next && count < max; next = next->ai_next) {
		assert(next->ai_addrlen <= sizeof(addresses[count]));
		memset(&addresses[count], 0, sizeof(addresses[count]));
		memcpy(&addresses[count++], next->ai_addr, next->ai_addrlen);
	}
	freeaddrinfo(found);
	return count;
}

/* Both families have the port in the same place, and by POSIX in the same type. */
static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port),
	"the port is in the same place");

uint16_t address_port(const struct address *address)
{
	return ntohs(address->v4.sin_port);
}

void address_set_port(struct address *address, uint16_t port)
{
	address->v4.sin_port = htons(port);
}

socklen_t address_length(const struct address *address)
{
	return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

bool address_is_wildcard(const struct address *address)
{
	if (address->any.sa_family == AF_INET6)
		return IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr);
	return address->v4.sin_addr.s_addr == htonl(INADDR_ANY);
}

static bool ip6_equal(const struct in6_addr *a, const struct in6_addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

bool address_equal(const struct address *a, const struct address *b)
{
	if (a->any.sa_family != b->any.sa_family)
		return false;
	if (a->any.sa_family == AF_INET6)
		return a->v6.sin6_port == b->v6.sin6_port &&
		       a->v6.sin6_scope_id == b->v6.sin6_scope_id &&
		       ip6_equal(&a->v6.sin6_addr, &b->v6.sin6_addr);
	return a->v4.sin_port == b->v4.sin_port && a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
}

bool local_address_equal(const struct local_address *a, const struct local_address *b)
{
	return a->interface == b->interface && ip6_equal(&a->ip, &b->ip);
}

const char *address_format(const struct address *address, char text[static ADDRESS_TEXT_SIZE])
{
	char ip[INET6_ADDRSTRLEN] = "?";

	if (address->any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &address->v4.sin_addr, ip, sizeof(ip));
		snprintf(text, ADDRESS_TEXT_SIZE, "%s:%u", ip, address_port(address));
	} else if (IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr)) {
		inet_ntop(AF_INET, &address->v6.sin6_addr.s6_addr[12], ip, sizeof(ip));
		snprintf(text, ADDRESS_TEXT_SIZE, "%s:%u", ip, address_port(address));
	} else {
		char interface[IF_NAMESIZE] = "";
		uint32_t scope = address->v6.sin6_scope_id;

		if (scope != 0 && !if_indextoname(scope, interface))
			snprintf(interface, sizeof(interface), "%" PRIu32, scope);
		inet_ntop(AF_INET6, &address->v6.sin6_addr, ip, sizeof(ip));
		snprintf(text, ADDRESS_TEXT_SIZE, "[%s%s%s]:%u", ip, scope != 0 ? "%" : "",
			interface, address_port(address));
	}
	return text;
}
