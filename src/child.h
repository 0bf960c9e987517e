/*
 * A COMMAND run with pipes as its standard input and output.
 */
#ifndef CHILD_H
#define CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct child {
	pid_t pid;        /* 0: none was started, or it has been waited for */
	int status;       /* then: its exit status, or 128 + the signal that killed it */
	bool was_made_to; /* end, by child_finish() or child_kill() */
};

enum {
	CHILD_CANNOT_RUN = 126,
	CHILD_NOT_FOUND = 127,
};

/*
 * Starts argv[0], looked for in PATH, without a shell, in this process group and with this standard
 * error. *input becomes a non-blocking descriptor that writes to its standard input; *output,
 * unless NULL, one that reads from its standard output, which else is ours. The caller owns both.
 * Returns 0, or an errno; where COMMAND itself is to blame child->status is 126 or 127 then.
 */
int child_start(struct child *child, char *const argv[], int *input, int *output);

/* Waits for the child if it has ended, without blocking. Returns whether it is gone. */
bool child_is_gone(struct child *child);

/*
 * Waits for the child to end by itself, for `patience_us`; then asks it to (SIGTERM), and in the
 * end makes it (SIGKILL). `signals` is that of signals_open(): another signal to end is the end of
 * the patience. Returns whether one came.
 */
bool child_finish(struct child *child, int signals, uint64_t patience_us);

/* Kills the child, if it is running, and waits for it. */
void child_kill(struct child *child);

#endif
