/*
 * The limit of open files (RLIMIT_NOFILE): each port of enc and each flow of dec needs one.
 */
#ifndef LIMIT_H
#define LIMIT_H

/* Raises the limit to the highest allowed. To be called once, before limit_restore(). */
void limit_raise(void);

/* For COMMAND, which may use select(2), made for 1024 files: the limit is the original one. */
void limit_restore(void);

/* COMMAND was started: the limit is the highest again. */
void limit_raise_again(void);

#endif
