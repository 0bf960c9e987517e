/*
 * What a program gives up once it has started: should somebody take it over through the datagrams
 * or frames that it reads, he can open no file, run no program and reach nothing over TCP.
 */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

#include "options.h"

/*
 * Enters the sandbox, for good, with all files and sockets that are open now. `child` is the only
 * process that may still get signals (0: none). Returns false if this system has no sandbox.
 * On Linux: no_new_privs, seccomp(2) and landlock(7). On OpenBSD: unveil(2) and pledge(2).
 */
bool sandbox_enter(enum program program, pid_t child);

#endif
