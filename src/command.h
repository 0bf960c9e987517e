/*
 * COMMAND: the program whose standard input and output are the pipe. Its start, its end, its
 * status, and how long to wait before it is run again. The fields are private. Times are in
 * microseconds on the clock of clock_now_us().
 */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct command {
	char *const *argv;
	pid_t pid; /* 0: it does not run */
	int status;
	bool ended_by_us;
	bool was_asked;       /* to end (SIGTERM) */
	uint64_t deadline_us; /* of the patience with it; UINT64_MAX: it need not end */
	uint64_t next_wait_us, max_wait_us;
};

/*
 * To be called once, also without a COMMAND (`argv` is NULL then; else it is borrowed).
 * `max_wait_us` is the longest wait before it is run again.
 */
void command_init(struct command *command, char *const *argv, uint64_t max_wait_us);

/*
 * Starts argv[0], looked for in PATH, without a shell, in this process group, with our standard
 * error. *input becomes a descriptor that writes to its standard input. *output becomes one that
 * reads from its standard output; if `output` is NULL, its standard output is ours. The caller owns
 * both; they do not block. Returns 0, or an errno; command_status() is 126 or 127 then if COMMAND
 * is to blame, and 1 if another try may work.
 */
int command_start(struct command *command, int *input, int *output);

/* Hears whether it has ended, without waiting; to be called on SIGCHLD. */
void command_reap(struct command *command);

bool command_is_running(const struct command *command);

/* It is to end by itself within `patience_us`, as its input is closed. See command_advance(). */
void command_end(struct command *command, uint64_t patience_us, uint64_t now_us);

/* The patience is over. */
void command_hurry(struct command *command, uint64_t now_us);

/* When the patience is over, asks it to end (SIGTERM); 2 s later, kills it. */
void command_advance(struct command *command, uint64_t now_us);

/* When to call command_advance(); UINT64_MAX: never. */
uint64_t command_deadline_us(const struct command *command);

/* Kills it at once. It runs until command_reap() hears of its end. */
void command_kill(struct command *command);

/* 0 if COMMAND does not run. */
pid_t command_pid(const struct command *command);

/* The exit status of the last run, or 128 + the signal that ended it. */
int command_status(const struct command *command);

/* Whether the last run was ended by a signal of ours. */
bool command_was_ended_by_us(const struct command *command);

/* Whether the last run says that there is no such program: it will not run the next time either. */
bool command_cannot_run(const struct command *command);

/*
 * Returns how long to wait before it is run again: 0.1 s at first, then twice as long each time, at
 * most max_wait_us; `random` (any number) takes away up to a quarter, so that many tunnels do not
 * come back in step.
 */
uint64_t command_next_wait_us(struct command *command, uint32_t random);

/* It worked: the next wait is 0.1 s again. */
void command_reset_wait(struct command *command);

#endif
