/*
 * The byte pipe that frames travel through: standard input and output, or the pipes of a COMMAND.
 */
#ifndef TRANSPORT_H
#define TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "child.h"

/* How bytes are written without ever blocking, and without changing what others share with us. */
enum output_way {
	OUTPUT_PLAIN,  /* a non-blocking description of our own; or a file, which does not block */
	OUTPUT_SOCKET, /* one call at a time is told not to block */
	OUTPUT_STEPS,  /* a shared pipe: what fits for certain after poll() said there is room */
};

struct transport {
	int input;  /* frames are read here; -1: none */
	int output; /* frames are written here; -1: none */
	enum output_way output_way;
	size_t pipe_size;     /* of the output, where that is a pipe of known size; else 0 */
	size_t pipe_size_max; /* more is not wanted or not allowed */
	struct child child;
};

/*
 * Takes the numbers 0, 1 and 2 where they are closed, so that no socket gets them, and remembers
 * which. To be called first of all.
 */
struct stdio {
	bool input_closed, output_closed;
};
void stdio_claim(struct stdio *stdio);

/*
 * Whether standard input is something that frames can come from: not closed, a terminal or
 * /dev/null.
 */
bool stdio_has_input(const struct stdio *stdio);

/*
 * Makes standard input and standard output the transport, as far as wanted. Returns NULL, or what
 * is wrong with them.
 */
const char *transport_use_stdio(
	struct transport *transport, const struct stdio *stdio, bool reads, bool writes);

/*
 * Makes the pipes of COMMAND the transport. If not `reads`, COMMAND keeps our standard output. Its
 * standard input is a pipe even if nothing is ever written: when that closes, COMMAND knows that we
 * have ended. Returns as child_start() does.
 */
int transport_run(struct transport *transport, char *const command[], bool reads);

/*
 * Reads once. Returns how many bytes, 0 at the end of the stream, or -1 with errno, EAGAIN when
 * there is nothing to read now.
 */
ssize_t transport_read(const struct transport *transport, void *buffer, size_t size);

/*
 * Writes what fits now. Returns how many bytes, or -1 with errno: EAGAIN when nothing fits, EPIPE
 * when the reader is gone.
 */
ssize_t transport_write(const struct transport *transport, const struct iovec *pieces, int count);

/*
 * Returns how many bytes transport_write() may be expected to take; a guess where the output is no
 * pipe. Never 0.
 */
size_t transport_room(const struct transport *transport);

/*
 * Lets little wait between here and the far side, as far as that is ours to say: the pipe to
 * COMMAND, and what a TCP socket takes before the network does.
 */
void transport_keep_short(struct transport *transport);

/* If the output is a pipe, it is to hold at least that many bytes, but no more than 256 KiB. */
void transport_widen(struct transport *transport, size_t bytes);

void transport_close_input(struct transport *transport);
void transport_close_output(struct transport *transport);

#endif
