/*
 * The sockets on which enc listens: one for each service.
 */
#ifndef LISTEN_H
#define LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"

struct listener {
	int socket;
	uint32_t kernel_drops; /* as udp_receive() has it */
};

/*
 * Opens a socket for each service, in their order; the caller owns them. Returns false after a
 * message that names the port that cannot be had; the program is to end then.
 */
bool listen_open(const struct options *options, struct listener listeners[static SERVICES_MAX]);

/* Says where it listens. Who let the system choose a port needs to know. */
void listen_say_where(
	const struct options *options, const struct listener listeners[static SERVICES_MAX]);

#endif
