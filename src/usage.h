/*
 * How the programs begin: the command line is read, and --help, --version and errors are answered.
 */
#ifndef USAGE_H
#define USAGE_H

#include "options.h"

/*
 * Reads the command line into *options, which borrows its words, and opens the log. Does not return
 * when there is nothing to run: after --help, which prints `help`, and --version (status 0), and
 * after a wrong usage, with a message (status 2).
 */
void usage_read(
	enum program program, const char *help, int argc, char **argv, struct options *options);

#endif
