/*
 * The byte pipe that frames travel through: standard input and output, or two pipes to COMMAND. The
 * only file that reads and writes bytes of the stream. The fields are private.
 */
#ifndef PIPE_H
#define PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* How bytes are written without ever blocking, and without changing what others share with us. */
enum output_way {
	OUTPUT_PLAIN,  /* a non-blocking description of our own; or a file, which does not block */
	OUTPUT_SOCKET, /* each call is told not to block */
	OUTPUT_STEPS,  /* a shared pipe: only what surely fits after poll(2) said there is room */
};

struct pipe {
	int input;  /* frames are read here; -1: none */
	int output; /* frames are written here; -1: none */
	bool is_ours;
	enum output_way output_way;
	size_t size;     /* of the output, where that is a pipe of known size; else 0 */
	size_t size_max; /* more is not wanted or not allowed */
};

/* What standard input and output were when the program started. */
struct stdio {
	bool input_closed, output_closed;
};

/*
 * Opens /dev/null as 0, 1 and 2 where these are closed, so that no socket gets such a number. To be
 * called before anything is opened. Mutes the log if standard error is the socket that frames go
 * to, as inetd has it.
 */
void stdio_claim(struct stdio *stdio);

/* Whether frames can come from standard input: not if it is closed, a terminal or /dev/null. */
bool stdio_has_input(const struct stdio *stdio);

/*
 * Makes standard input and standard output the pipe, as `reads` and `writes` say. Returns NULL, or
 * what is wrong with them.
 */
const char *pipe_use_stdio(struct pipe *pipe, const struct stdio *stdio, bool reads, bool writes);

/*
 * Makes two descriptors the pipe, non-blocking and owned from now on; `input` is -1 if nothing is
 * read.
 */
void pipe_use(struct pipe *pipe, int input, int output);

/* The descriptors to wait for; -1: none. Stop to watch them before they are closed. */
int pipe_input(const struct pipe *pipe);
int pipe_output(const struct pipe *pipe);

/* Whether a read would find something, or the end. */
bool pipe_has_input_waiting(const struct pipe *pipe);

/*
 * Reads once. Returns how many bytes, 0 at the end of the stream, or -1 with errno; EAGAIN: there
 * is nothing to read now.
 */
ssize_t pipe_read(const struct pipe *pipe, void *buffer, size_t size);

/*
 * Writes what fits now. Returns how many bytes, or -1 with errno; EAGAIN: nothing fits, EPIPE: the
 * reader is gone.
 */
ssize_t pipe_write(const struct pipe *pipe, const struct iovec *pieces, int count);

/* How many bytes pipe_write() is expected to take, at least PIPE_BUF. A guess if it is no pipe. */
size_t pipe_room(const struct pipe *pipe);

/* Lets few bytes wait between here and the far side, where that is up to us. */
void pipe_keep_short(struct pipe *pipe);

/* Lets the output hold `bytes`, at most 256 KiB, if it is a pipe that holds less. */
void pipe_widen(struct pipe *pipe, size_t bytes);

void pipe_close_input(struct pipe *pipe);
void pipe_close_output(struct pipe *pipe);

#endif
