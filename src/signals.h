/*
 * Signals that wake the loop through a pipe, like everything else that it waits for.
 */
#ifndef SIGNALS_H
#define SIGNALS_H

enum signals_seen {
	SIGNALS_END = 1,    /* SIGINT, SIGTERM or SIGHUP: the user wants an end */
	SIGNALS_CHILD = 2,  /* SIGCHLD */
	SIGNALS_REPORT = 4, /* SIGUSR1 */
};

/*
 * Installs the handlers, and ignores SIGPIPE and SIGXFSZ. A SIGINT, SIGHUP or SIGTERM that was
 * ignored (nohup, background jobs) stays ignored. Returns a descriptor that is readable when a
 * signal has come, for the life of the program; or -1 with errno.
 */
int signals_open(void);

/* Returns which signals have come since the last call, as a set of enum signals_seen. */
unsigned int signals_read(int fd);

#endif
