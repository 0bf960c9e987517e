#include "options.h"

#include <assert.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

enum {
	LINGER_DEFAULT_US = US_PER_SECOND / 2,
	LATENCY_DEFAULT_US = 5 * US_PER_MS,
	LATENCY_MAX_MS = 60 * 1000,
	RETRY_DEFAULT_US = 30 * US_PER_SECOND,         /* -r without a value */
	IDLE_TIMEOUT_DEFAULT_US = 300 * US_PER_SECOND, /* RFC 4787, REQ-5 */
	SECONDS_MAX = 1000000000,                      /* thirty years: nobody waits longer */
};

enum {
	NO_SANDBOX = 256 /* an option without a letter */
};

static_assert((uint64_t)SECONDS_MAX * US_PER_SECOND < (uint64_t)1 << 53, "exact as a double");
static_assert(TAGS <= 999999999, "nine digits are enough for -n");

/* The options of both programs; -b is for dec only. */
static const char short_options[] = ":46ui:n:l:t:r::s:b:vqhV";
static const struct option long_options[] = {
	{"unidirectional", no_argument, NULL, 'u'},
	{"idle", required_argument, NULL, 'i'},
	{"max-flows", required_argument, NULL, 'n'},
	{"latency", required_argument, NULL, 'l'},
	{"linger", required_argument, NULL, 't'},
	{"retry", optional_argument, NULL, 'r'},
	{"stats", required_argument, NULL, 's'},
	{"bind", required_argument, NULL, 'b'},
	{"no-sandbox", no_argument, NULL, NO_SANDBOX},
	{"verbose", no_argument, NULL, 'v'},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

#define HELP_OPTIONS_BOTH                                                                          \
	"  -l, --latency=MS       delay to aim for in the pipe (5); 0 leaves the pipe alone\n"     \
	"  -r, --retry[=SECONDS]  run COMMAND again when it ends, after up to SECONDS (30): -r5\n" \
	"      --no-sandbox       keep the right to open files and to run programs\n"              \
	"  -s, --stats=SECONDS    show the counters every SECONDS; on a terminal, rates\n"         \
	"  -v, --verbose          say more: flows that come and go, the counters at the end\n"     \
	"  -q, --quiet            print only fatal errors, and the counters if you ask for them\n" \
	"  -h, --help             show this help and exit\n"                                       \
	"  -V, --version          show the version and exit\n"                                     \
	"\n"                                                                                       \
	"Without COMMAND, frames use standard input and output. SIGUSR1 prints the counters.\n"

const char options_help_enc[] =
	"Usage: uott-enc [OPTION]... [HOST:]PORTS[,...] [-- COMMAND [ARG]...]\n"
	"Listen for UDP datagrams and carry them as frames over a byte pipe to uott-dec.\n"
	"\n"
	"  uott-enc 5300 -- ssh host uott-dec 127.0.0.1:53    a UDP service behind ssh\n"
	"  uott-enc -u 514 | ssh loghost uott-dec -u 127.0.0.1:514    one way\n"
	"\n"
	"Without HOST, listen on loopback; with *, on all addresses. HOST PORT may be two words.\n"
	"53,5060-5069 are several ports: each belongs to the target of uott-dec in the same "
	"place.\n"
	"\n"
	"  -4, -6                 use this address family only\n"
	"  -u, --unidirectional   send only: read no frames, deliver no replies\n"
	"  -i, --idle=SECONDS     forget a flow that has been idle for so long (300)\n"
	"  -t, --linger=SECONDS   at the end, time for the queue to leave and COMMAND to end "
	"(0.5)\n"
	"  -n, --max-flows=N      at most N flows at once\n" HELP_OPTIONS_BOTH;

const char options_help_dec[] =
	"Usage: uott-dec [OPTION]... HOST:PORTS[,...] [-- COMMAND [ARG]...]\n"
	"Take frames of uott-enc from a byte pipe and exchange their datagrams with HOST:PORT.\n"
	"\n"
	"  ssh host uott-dec 127.0.0.1:53                     as run by uott-enc 5300 -- ...\n"
	"  uott-dec 127.0.0.1:53 -- ssh host uott-enc 5300    the other way round\n"
	"\n"
	"HOST PORT may be two words. A:53,B:5060-5069 are several targets: each belongs to the "
	"port\n"
	"of uott-enc in the same place.\n"
	"\n"
	"  -4, -6                 use this address family only\n"
	"  -u, --unidirectional   receive only: write no frames, take no replies\n"
	"  -i, --idle=SECONDS     forget a flow that has been idle for so long (300)\n"
	"  -t, --linger=SECONDS   at the end, time for late replies and the queue to leave (0.5)\n"
	"  -n, --max-flows=N      at most N flows at once\n"
	"  -b, --bind=HOST        source address of the datagrams\n" HELP_OPTIONS_BOTH;

/* Writes why the command line is wrong, as one line that a terminal can show. Returns false. */
__attribute__((format(printf, 2, 3))) static bool refuse(
	char error[static OPTIONS_ERROR_SIZE], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error, OPTIONS_ERROR_SIZE, format, arguments);
	va_end(arguments);
	for (char *c = error; *c; c++)
		if ((unsigned char)*c < ' ' || *c == '\x7f')
			*c = '?';
	return false;
}

static bool parse_time(const char *text, uint64_t unit_us, double max, uint64_t *result_us)
{
	char *end;
	double number = strtod(text, &end);

	/* strtod() also takes signs, exponents, hexadecimal numbers and words. */
	if (end == text || text[strspn(text, "0123456789.")] != '\0' || *end != '\0' ||
		number > max)
		return false;
	*result_us = (uint64_t)(number * (double)unit_us + 0.5);
	return true;
}

static bool parse_interval(
	const char *what, uint64_t *result_us, char error[static OPTIONS_ERROR_SIZE])
{
	return (parse_time(optarg, US_PER_SECOND, SECONDS_MAX, result_us) && *result_us > 0) ||
	       refuse(error, "bad %s '%s': expected seconds, more than 0", what, optarg);
}

static bool parse_max_flows(struct options *options, char error[static OPTIONS_ERROR_SIZE])
{
	size_t digits = strspn(optarg, "0123456789");
	bool is_number = digits > 0 && digits <= 9 && optarg[digits] == '\0';

	options->max_flows = is_number ? strtoul(optarg, NULL, 10) : 0;
	return (options->max_flows >= 1 && options->max_flows <= TAGS) ||
	       refuse(error, "bad number of flows '%s': expected 1 to %d", optarg, TAGS);
}

static bool parse_source(struct options *options, char error[static OPTIONS_ERROR_SIZE])
{
	const char *wrong = host_port_join(optarg, "0", &options->source);

	options->has_source = true;
	return !wrong || refuse(error, "bad source address '%s': %s", optarg, wrong);
}

/* One or two words in front of "--" are the addresses. */
static bool parse_addresses(
	struct options *options, int words, char **word, char error[static OPTIONS_ERROR_SIZE])
{
	bool are_targets = options->program == UOTT_DEC;
	char item[SERVICES_ITEM_SIZE];
	const char *wrong;

	if (words == 0)
		return refuse(error, "expected %s",
			are_targets ? "HOST:PORT to send to" : "[HOST:]PORT to listen on");
	if (words > 2)
		return refuse(error,
			"unexpected '%s': expected HOST PORT, and -- in front of a COMMAND",
			word[2]);
	if (words == 2 && options->retry_us > 0 && strspn(word[0], "0123456789") == strlen(word[0]))
		return refuse(error, "bad address '%s %s': did you mean -r%s?", word[0], word[1],
			word[0]);
	wrong = services_parse(&options->services, are_targets, words == 2 ? word[0] : NULL,
		word[words - 1], item);
	return !wrong || refuse(error, "bad address '%s%s%s': %s", words == 2 ? word[0] : "",
				 words == 2 ? " " : "", item, wrong);
}

static const char *long_name(int letter)
{
	for (const struct option *option = long_options; option->name; option++)
		if (option->val == letter)
			return option->name;
	return NULL;
}

/* After an error getopt_long() leaves the letter in optopt, or 0 for an unknown word. */
static bool refuse_option(int found, char **argv, char error[static OPTIONS_ERROR_SIZE])
{
	const char *name = long_name(optopt);

	if (optopt == 0)
		return refuse(error, "unknown option '%s'", argv[optind - 1]);
	if (!name)
		return refuse(error, "unknown option '-%c'", optopt);
	if (optopt == NO_SANDBOX)
		return refuse(error, "option '--%s' takes no value", name);
	return refuse(error, "option '-%c' or '--%s' %s", optopt, name,
		found == ':' ? "wants a value" : "takes no value");
}

static bool parse_option(
	struct options *options, int found, char **argv, char error[static OPTIONS_ERROR_SIZE])
{
	switch (found) {
	case '4':
		options->family = AF_INET;
		return true;
	case '6':
		options->family = AF_INET6;
		return true;
	case 'u':
		options->unidirectional = true;
		return true;
	case 'i':
		return parse_interval("idle timeout", &options->idle_timeout_us, error);
	case 'n':
		return parse_max_flows(options, error);
	case 'l':
		return parse_time(optarg, US_PER_MS, LATENCY_MAX_MS, &options->latency_us) ||
		       refuse(error, "bad latency '%s': expected milliseconds, at most %d", optarg,
			       LATENCY_MAX_MS);
	case 'r':
		options->retry_us = RETRY_DEFAULT_US;
		return !optarg || parse_interval("retry time", &options->retry_us, error);
	case 's':
		return parse_interval("time between counters", &options->stats_us, error);
	case NO_SANDBOX:
		options->no_sandbox = true;
		return true;
	case 'v':
		options->verbose = true;
		return true;
	case 'q':
		options->quiet = true;
		return true;
	case 't':
		return parse_time(optarg, US_PER_SECOND, SECONDS_MAX, &options->linger_us) ||
		       refuse(error, "bad linger time '%s': expected seconds, as in 0.5", optarg);
	case 'b':
		if (options->program == UOTT_DEC)
			return parse_source(options, error);
		return refuse(error, "option '-b' or '--bind' is for uott-dec only");
	default:
		return refuse_option(found, argv, error);
	}
}

static enum options_result parse_words(
	struct options *options, int argc, char **argv, char error[static OPTIONS_ERROR_SIZE])
{
	int found;

	opterr = 0;
	optind = 0; /* also forgets where an earlier parse stopped */
	while ((found = getopt_long(argc, argv, short_options, long_options, NULL)) != -1) {
		if (found == 'h')
			return OPTIONS_HELP;
		if (found == 'V')
			return OPTIONS_VERSION;
		if (!parse_option(options, found, argv, error))
			return OPTIONS_WRONG;
	}
	return parse_addresses(options, argc - optind, argv + optind, error) ? OPTIONS_RUN
									     : OPTIONS_WRONG;
}

/* Takes the words behind "--"; *separator is NULL without it. */
static bool parse_command(
	struct options *options, char **separator, char error[static OPTIONS_ERROR_SIZE])
{
	if (!*separator)
		return options->retry_us == 0 ||
		       refuse(error, "-r needs a COMMAND to run again, after --");
	options->command = separator + 1;
	return options->command[0] || refuse(error, "expected a COMMAND after --");
}

enum options_result options_parse(struct options *options, enum program program, int argc,
	char **argv, char error[static OPTIONS_ERROR_SIZE])
{
	enum options_result result;
	int own = 1; /* number of words in front of "--" */
	char *separator;

	memset(options, 0, offsetof(struct options, services)); /* which is large */
	options->program = program;
	options->family = AF_UNSPEC;
	options->latency_us = LATENCY_DEFAULT_US;
	options->linger_us = LINGER_DEFAULT_US;
	options->idle_timeout_us = IDLE_TIMEOUT_DEFAULT_US;
	options->max_flows = TAGS;
	while (own < argc && strcmp(argv[own], "--") != 0)
		own++;
	separator = argv[own];
	argv[own] = NULL; /* not every getopt_long() stops at argc */
	result = parse_words(options, own, argv, error);
	argv[own] = separator;
	if (result == OPTIONS_RUN && !parse_command(options, argv + own, error))
		return OPTIONS_WRONG;
	return result;
}
