/*
 * Signals as bytes of a pipe, so that the loop waits for them like for everything else.
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
 * signal has come, or -1 with errno.
 */
int signals_open(void);

/* Returns which signals have come since the last call, as a set of enum signals_seen. */
unsigned int signals_read(int fd);

#endif
