#include "usage.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "log.h"

static void print_and_exit(const char *text)
{
	fputs(text, stdout);
	exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

void usage_read(
	enum program program, const char *help, int argc, char **argv, struct options *options)
{
	const char *name = program == UOTT_ENC ? "uott-enc" : "uott-dec";
	char text[OPTIONS_ERROR_SIZE];

#ifdef __linux__
	(void)prctl(PR_SET_NAME, name); /* what uott-carry runs has the name of a descriptor */
#endif
	log_open(name, LOG_WARNING);
	switch (options_parse(options, program, argc, argv, text)) {
	case OPTIONS_HELP:
		print_and_exit(help);
		break;
	case OPTIONS_VERSION:
		snprintf(text, sizeof(text), "%s %s\n", name, UOTT_VERSION);
		print_and_exit(text);
		break;
	case OPTIONS_WRONG:
		log_line(LOG_ERROR, "%s", text);
		log_line(LOG_ERROR, "try '%s --help'", name);
		exit(2);
	case OPTIONS_RUN:
		break;
	}
	log_open(name, options->quiet ? LOG_ERROR : options->verbose ? LOG_DETAIL : LOG_WARNING);
}
