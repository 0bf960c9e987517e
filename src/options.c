#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tags.h"
#include "util.h"

enum {
	LINGER_DEFAULT_US = US_PER_SECOND / 2,
	LATENCY_DEFAULT_US = 5 * US_PER_MS,
	LATENCY_MAX_MS = 60 * 1000,
	RETRY_DEFAULT_US = 30 * US_PER_SECOND,
	IDLE_TIMEOUT_DEFAULT_US = 300 * US_PER_SECOND, /* RFC 4787, REQ-5 */
	SECONDS_MAX = 1000000000, /* thirty years: longer than anyone waits, and no overflow */
};

/* What the option strings cannot say is only which ones are dec's alone. */
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
	{"verbose", no_argument, NULL, 'v'},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

#define HELP_OPTIONS_BOTH                                                                          \
	"  -l, --latency=MS       delay to aim for in the pipe (5); 0 leaves the pipe alone\n"     \
	"  -r, --retry[=SECONDS]  run COMMAND again when it ends, after up to SECONDS (30): -r5\n" \
	"  -s, --stats=SECONDS    show the counters that often; on a terminal, rates\n"            \
	"  -v, --verbose          say more: flows that come and go, the counters at the end\n"     \
	"  -q, --quiet            say only why the program had to end, and what was asked for\n"   \
	"  -h, --help             show this help and exit\n"                                       \
	"  -V, --version          show the version and exit\n"                                     \
	"\n"                                                                                       \
	"Without COMMAND, frames use standard input and output. SIGUSR1 prints the counters.\n"

static const char help_enc[] =
	"Usage: uott-enc [OPTION]... [HOST:]PORT [-- COMMAND [ARG]...]\n"
	"Listen for UDP datagrams and carry them as frames over a byte pipe to uott-dec.\n"
	"\n"
	"  uott-enc 5353 -- ssh host uott-dec 127.0.0.1:53    a UDP service behind ssh\n"
	"  uott-enc -u 514 | ssh loghost uott-dec -u 127.0.0.1:514    one way\n"
	"\n"
	"HOST is loopback unless given, * for all addresses; HOST PORT may be two words.\n"
	"\n"
	"  -4, -6                 use this address family only\n"
	"  -u, --unidirectional   send only: read no frames, deliver no replies\n"
	"  -i, --idle=SECONDS     forget a flow without datagrams after that long (300)\n"
	"  -n, --max-flows=N      at most N flows at once\n"
	"  -t, --linger=SECONDS   time to flush, and for COMMAND to end, at the end "
	"(0.5)\n" HELP_OPTIONS_BOTH;

static const char help_dec[] =
	"Usage: uott-dec [OPTION]... HOST:PORT [-- COMMAND [ARG]...]\n"
	"Take frames of uott-enc from a byte pipe and exchange their datagrams with HOST:PORT.\n"
	"\n"
	"  ssh host uott-dec 127.0.0.1:53                     as run by uott-enc 5353 -- ...\n"
	"  uott-dec 127.0.0.1:53 -- ssh host uott-enc 5353    the other way round\n"
	"\n"
	"HOST PORT may be two words.\n"
	"\n"
	"  -4, -6                 use this address family only\n"
	"  -u, --unidirectional   receive only: write no frames, take no replies\n"
	"  -i, --idle=SECONDS     forget a flow without datagrams after that long (300)\n"
	"  -n, --max-flows=N      at most N flows at once\n"
	"  -t, --linger=SECONDS   time for late replies, and for the queue at the end (0.5)\n"
	"  -b, --bind=HOST        source address of the datagrams\n" HELP_OPTIONS_BOTH;

const char *options_help(enum program program)
{
	return program == UOTT_ENC ? help_enc : help_dec;
}

static bool parse_time(const char *text, uint64_t unit_us, double max, uint64_t *result_us)
{
	char *end;
	double number = strtod(text, &end);

	/* No sign, exponent, hexadecimal number or word, all of which strtod() takes. */
	if (end == text || text[strspn(text, "0123456789.")] != '\0' || *end != '\0' ||
		number > max)
		return false;
	*result_us = (uint64_t)(number * (double)unit_us + 0.5);
	return true;
}

static bool parse_seconds(const char *text, uint64_t *result_us)
{
	return parse_time(text, US_PER_SECOND, SECONDS_MAX, result_us);
}

static bool parse_interval(
	const char *what, uint64_t *result_us, char error[static OPTIONS_ERROR_SIZE])
{
	if (parse_seconds(optarg, result_us) && *result_us > 0)
		return true;
	snprintf(error, OPTIONS_ERROR_SIZE, "bad %s '%s': expected seconds, more than 0", what,
		optarg);
	return false;
}

static bool parse_max_flows(
	struct options *options, const char *text, char error[static OPTIONS_ERROR_SIZE])
{
	size_t digits = strspn(text, "0123456789");
	bool is_number = digits > 0 && digits <= 9 && text[digits] == '\0';

	options->max_flows = is_number ? strtoul(text, NULL, 10) : 0;
	if (options->max_flows >= 1 && options->max_flows <= TAGS)
		return true;
	snprintf(error, OPTIONS_ERROR_SIZE, "bad number of flows '%s': expected 1 to %d", text,
		TAGS);
	return false;
}

static bool parse_source(
	struct options *options, const char *host, char error[static OPTIONS_ERROR_SIZE])
{
	const char *wrong = host_port_join(host, "0", &options->source);

	options->has_source = true;
	if (wrong)
		snprintf(error, OPTIONS_ERROR_SIZE, "bad source address '%s': %s", host, wrong);
	return !wrong;
}

/* The words before "--": one or two of them are the address. */
static bool parse_address(
	struct options *options, int words, char **word, char error[static OPTIONS_ERROR_SIZE])
{
	const char *wrong;

	if (words == 0) {
		snprintf(error, OPTIONS_ERROR_SIZE, "expected %s",
			options->program == UOTT_ENC ? "[HOST:]PORT to listen on"
						     : "HOST:PORT to send to");
		return false;
	}
	if (words > 2) {
		snprintf(error, OPTIONS_ERROR_SIZE,
			"unexpected '%s': expected HOST PORT, and -- in front of a COMMAND",
			word[2]);
		return false;
	}
	wrong = words == 2 ? host_port_join(word[0], word[1], &options->address)
			   : host_port_split(word[0], &options->address);
	if (!wrong && options->program == UOTT_DEC) {
		if (options->address.host[0] == '\0')
			wrong = "expected HOST:PORT";
		else if (strcmp(options->address.host, "*") == 0)
			wrong = "* is no host to send to";
		else if (strspn(options->address.port, "0") == strlen(options->address.port))
			wrong = "0 is no port to send to";
	}
	if (wrong)
		snprintf(error, OPTIONS_ERROR_SIZE, "bad address '%s%s%s': %s", word[0],
			words == 2 ? " " : "", words == 2 ? word[1] : "", wrong);
	return !wrong;
}

static const char *long_name(int letter)
{
	for (const struct option *option = long_options; option->name; option++)
		if (option->val == letter)
			return option->name;
	return NULL;
}

/* What getopt_long() did not like; it leaves the letter in optopt, or 0 for an unknown word. */
static void describe_wrong_option(int found, char **argv, char error[static OPTIONS_ERROR_SIZE])
{
	const char *name = long_name(optopt);

	if (optopt == 0)
		snprintf(error, OPTIONS_ERROR_SIZE, "unknown option '%s'", argv[optind - 1]);
	else if (!name)
		snprintf(error, OPTIONS_ERROR_SIZE, "unknown option '-%c'", optopt);
	else
		snprintf(error, OPTIONS_ERROR_SIZE, "option '-%c' or '--%s' %s", optopt, name,
			found == ':' ? "wants a value" : "takes no value");
}

/* Returns false, with *result and `error` set, when there is nothing more to parse. */
static bool parse_option(struct options *options, int found, char **argv,
	enum options_result *result, char error[static OPTIONS_ERROR_SIZE])
{
	*result = OPTIONS_WRONG;
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
		return parse_max_flows(options, optarg, error);
	case 'l':
		if (parse_time(optarg, US_PER_MS, LATENCY_MAX_MS, &options->latency_us))
			return true;
		snprintf(error, OPTIONS_ERROR_SIZE,
			"bad latency '%s': expected milliseconds, at most %d", optarg,
			LATENCY_MAX_MS);
		return false;
	case 'r':
		options->retry_us = RETRY_DEFAULT_US;
		return !optarg || parse_interval("retry time", &options->retry_us, error);
	case 's':
		return parse_interval("time between counters", &options->stats_us, error);
	case 'v':
		options->verbose = true;
		return true;
	case 'q':
		options->quiet = true;
		return true;
	case 't':
		if (parse_seconds(optarg, &options->linger_us))
			return true;
		snprintf(error, OPTIONS_ERROR_SIZE,
			"bad linger time '%s': expected seconds, as in 0.5", optarg);
		return false;
	case 'b':
		if (options->program == UOTT_DEC)
			return parse_source(options, optarg, error);
		snprintf(error, OPTIONS_ERROR_SIZE, "option '-b' is uott-dec's");
		return false;
	case 'h':
		*result = OPTIONS_HELP;
		return false;
	case 'V':
		*result = OPTIONS_VERSION;
		return false;
	default:
		describe_wrong_option(found, argv, error);
		return false;
	}
}

static enum options_result parse_words(
	struct options *options, int argc, char **argv, char error[static OPTIONS_ERROR_SIZE])
{
	enum options_result result;
	int found;

	opterr = 0;
	optind = 0; /* also forgets how far another parse had got */
	while ((found = getopt_long(argc, argv, short_options, long_options, NULL)) != -1)
		if (!parse_option(options, found, argv, &result, error))
			return result;
	return parse_address(options, argc - optind, argv + optind, error) ? OPTIONS_RUN
									   : OPTIONS_WRONG;
}

enum options_result options_parse(struct options *options, enum program program, int argc,
	char **argv, char error[static OPTIONS_ERROR_SIZE])
{
	enum options_result result;
	int own = 1; /* how many words come before "--", which are ours */
	char *separator;

	*options = (struct options){
		.program = program,
		.family = AF_UNSPEC,
		.latency_us = LATENCY_DEFAULT_US,
		.linger_us = LINGER_DEFAULT_US,
		.idle_timeout_us = IDLE_TIMEOUT_DEFAULT_US,
		.max_flows = TAGS,
	};
	while (own < argc && strcmp(argv[own], "--") != 0)
		own++;
	separator = argv[own];
	argv[own] = NULL; /* not every getopt_long() stops at argc */
	result = parse_words(options, own, argv, error);
	argv[own] = separator;
	if (result == OPTIONS_RUN && !separator && options->retry_us > 0) {
		snprintf(error, OPTIONS_ERROR_SIZE, "-r needs a COMMAND to run again, after --");
		return OPTIONS_WRONG;
	}
	if (result != OPTIONS_RUN || !separator)
		return result;
	options->command = argv + own + 1;
	if (options->command[0])
		return OPTIONS_RUN;
	snprintf(error, OPTIONS_ERROR_SIZE, "expected a COMMAND after --");
	return OPTIONS_WRONG;
}
