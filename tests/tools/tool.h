/*
 * What the tools have in common: UDP sockets and the clock. An error ends the tool with a message.
 */
#ifndef TOOL_H
#define TOOL_H

#include <err.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define SECOND INT64_C(1000000000) /* in ns, as all times are */

static inline int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static inline double milliseconds(int64_t time)
{
	return (double)time * 1e3 / (double)SECOND;
}

/* For qsort. */
static inline int compare_times(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* What the user gave as an argument. */
static inline double number(const char *text, double least, double most)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= least && value <= most))
		errx(2, "'%s': expected a number from %.0f to %.0f", text, least, most);
	return value;
}

static inline void set_receive_buffer(int fd, int size)
{
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
}

static inline int udp_socket(int family)
{
	int fd = socket(family, SOCK_DGRAM, 0);

	if (fd < 0)
		err(1, "socket");
	set_receive_buffer(fd, 4 * 1024 * 1024);
	return fd;
}

static inline struct addrinfo *look_up(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found;
	int error = getaddrinfo(host, port, &hints, &found);

	if (error != 0)
		errx(1, "%s %s: %s", host, port, gai_strerror(error));
	return found;
}

static inline int bind_to(const char *host, const char *port)
{
	struct addrinfo *where = look_up(host, port);
	int fd = udp_socket(where->ai_family);

	if (bind(fd, where->ai_addr, where->ai_addrlen) != 0)
		err(1, "bind to %s %s", host, port);
	freeaddrinfo(where);
	return fd;
}

/* From the address own, if there is one; several sockets may share a port that it names. */
static inline int connect_from(const struct sockaddr_in *own, const char *host, const char *port)
{
	struct addrinfo *where = look_up(host, port);
	int fd = udp_socket(where->ai_family);

	if (own && own->sin_port != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (own && bind(fd, (const struct sockaddr *)own, sizeof(*own)) != 0)
		err(1, "bind");
	if (connect(fd, where->ai_addr, where->ai_addrlen) != 0)
		err(1, "connect to %s %s", host, port);
	freeaddrinfo(where);
	return fd;
}

static inline int connect_to(const char *host, const char *port)
{
	return connect_from(NULL, host, port);
}

static inline uint16_t port_in(const struct sockaddr_storage *address)
{
	return ntohs(address->ss_family == AF_INET6
			     ? ((const struct sockaddr_in6 *)address)->sin6_port
			     : ((const struct sockaddr_in *)address)->sin_port);
}

static inline uint16_t port_of(int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
		err(1, "getsockname");
	return port_in(&address);
}

/* On any port, of loopback if no host is given. Says "port N" on standard output. */
static inline int listen_on(const char *host)
{
	int fd = bind_to(host ? host : "127.0.0.1", "0");

	printf("port %u\n", port_of(fd));
	fflush(stdout);
	return fd;
}

/* As many descriptors as the hard limit allows. */
static inline void raise_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

#endif
