#include "options.h"

#include "check.h"
#include "util.h"

enum {
	WORDS_MAX = 32,
	WORD_SIZE = 700,
};

static struct options options;
static char error[OPTIONS_ERROR_SIZE];
static char words[WORDS_MAX][WORD_SIZE];
static char *argv[WORDS_MAX + 1];

/* Parses the words, the name of the program put in front. */
#define PARSE(program, ...) parse(program, (const char *const[]){__VA_ARGS__, NULL})
#define ENC(...) PARSE(UOTT_ENC, __VA_ARGS__)
#define DEC(...) PARSE(UOTT_DEC, __VA_ARGS__)

static enum options_result parse(enum program program, const char *const *from)
{
	int argc = 0;

	snprintf(words[argc], WORD_SIZE, "%s", program == UOTT_ENC ? "uott-enc" : "uott-dec");
	argv[argc] = words[argc];
	for (argc++; *from && argc < WORDS_MAX; argc++) {
		snprintf(words[argc], WORD_SIZE, "%s", *from++);
		argv[argc] = words[argc];
	}
	argv[argc] = NULL;
	memset(&options, 0xee, sizeof(options));
	memset(error, 0, sizeof(error));
	return options_parse(&options, program, argc, argv, error);
}

static void check_address(const char *host, const char *port)
{
	CHECK_TEXT(options.address.host, host);
	CHECK_TEXT(options.address.port, port);
}

static void check_wrong(enum options_result result, const char *wanted)
{
	CHECK_NUMBER(result, OPTIONS_WRONG);
	CHECK_TEXT(error, wanted);
}

/* --- what is right ------------------------------------------------------------------------- */

static void defaults(void)
{
	CHECK_NUMBER(ENC("5353"), OPTIONS_RUN);
	CHECK_NUMBER(options.program, UOTT_ENC);
	CHECK_NUMBER(options.family, AF_UNSPEC);
	CHECK(!options.unidirectional && !options.quiet && !options.verbose);
	CHECK_NUMBER(options.linger_us, 500000);
	CHECK_NUMBER(options.latency_us, 5000);
	CHECK_NUMBER(options.idle_timeout_us, 300000000);
	CHECK_NUMBER(options.retry_us, 0);
	CHECK_NUMBER(options.stats_us, 0);
	CHECK_NUMBER(options.max_flows, 65536);
	CHECK(!options.has_source);
	CHECK(!options.command);
	check_address("", "5353");
	CHECK_NUMBER(DEC("127.0.0.1:53"), OPTIONS_RUN);
	CHECK_NUMBER(options.program, UOTT_DEC);
	CHECK_NUMBER(options.linger_us, 500000);
	CHECK_NUMBER(options.latency_us, 5000);
	CHECK(!options.has_source);
	check_address("127.0.0.1", "53");
}

static void addresses_in_one_word(void)
{
	CHECK_NUMBER(ENC("[::1]:domain"), OPTIONS_RUN);
	check_address("::1", "domain");
	CHECK_NUMBER(ENC("*:0"), OPTIONS_RUN);
	check_address("*", "0");
	CHECK_NUMBER(DEC("[fe80::1%eth0]:53"), OPTIONS_RUN);
	check_address("fe80::1%eth0", "53");
}

static void addresses_in_two_words(void)
{
	CHECK_NUMBER(ENC("*", "5353"), OPTIONS_RUN);
	check_address("*", "5353");
	CHECK_NUMBER(DEC("127.0.0.1", "53"), OPTIONS_RUN);
	check_address("127.0.0.1", "53");
	CHECK_NUMBER(DEC("::1", "53"), OPTIONS_RUN);
	check_address("::1", "53");
	CHECK_NUMBER(DEC("[::1]", "domain"), OPTIONS_RUN);
	check_address("::1", "domain");
}

static void families(void)
{
	CHECK_NUMBER(ENC("-4", "53"), OPTIONS_RUN);
	CHECK_NUMBER(options.family, AF_INET);
	CHECK_NUMBER(DEC("-6", "host:53"), OPTIONS_RUN);
	CHECK_NUMBER(options.family, AF_INET6);
	CHECK_NUMBER(DEC("-6", "-4", "host:53"), OPTIONS_RUN);
	CHECK_NUMBER(options.family, AF_INET);
}

static void flags(void)
{
	CHECK_NUMBER(ENC("-u", "53"), OPTIONS_RUN);
	CHECK(options.unidirectional && !options.verbose && !options.quiet);
	CHECK_NUMBER(DEC("--unidirectional", "host:53"), OPTIONS_RUN);
	CHECK(options.unidirectional && !options.verbose && !options.quiet);
	CHECK_NUMBER(ENC("-v", "53"), OPTIONS_RUN);
	CHECK(options.verbose && !options.quiet && !options.unidirectional);
	CHECK_NUMBER(DEC("--verbose", "host:53"), OPTIONS_RUN);
	CHECK(options.verbose && !options.quiet && !options.unidirectional);
	CHECK_NUMBER(ENC("-q", "53"), OPTIONS_RUN);
	CHECK(options.quiet && !options.verbose && !options.unidirectional);
	CHECK_NUMBER(DEC("--quiet", "host:53"), OPTIONS_RUN);
	CHECK(options.quiet && !options.verbose && !options.unidirectional);
}

static void clusters(void)
{
	CHECK_NUMBER(ENC("-4uv", "53"), OPTIONS_RUN);
	CHECK(options.family == AF_INET && options.unidirectional && options.verbose);
	CHECK_NUMBER(ENC("-uqt2", "53"), OPTIONS_RUN);
	CHECK(options.unidirectional && options.quiet);
	CHECK_NUMBER(options.linger_us, 2000000);
	CHECK_NUMBER(DEC("-6ub", "::1", "host:53"), OPTIONS_RUN);
	CHECK(options.family == AF_INET6 && options.unidirectional);
	CHECK_TEXT(options.source.host, "::1");
}

static void linger(void)
{
	static const struct {
		const char *text;
		uint64_t us;
	} times[] = {{"0", 0}, {"0.0", 0}, {"1", 1000000}, {"0.25", 250000}, {".5", 500000},
		{"2.", 2000000}, {"1000", 1000000000}, {"0.000001", 1}, {"007", 7000000},
		{"1000000000", 1000000000000000}};

	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		CHECK_NUMBER(ENC("-t", times[i].text, "53"), OPTIONS_RUN);
		CHECK_NUMBER(options.linger_us, times[i].us);
		CHECK_NUMBER(DEC("--linger", times[i].text, "host:53"), OPTIONS_RUN);
		CHECK_NUMBER(options.linger_us, times[i].us);
	}
}

static void values(void)
{
	CHECK_NUMBER(ENC("-t0.1", "53"), OPTIONS_RUN);
	CHECK_NUMBER(options.linger_us, 100000);
	CHECK_NUMBER(ENC("--linger=0.1", "53"), OPTIONS_RUN);
	CHECK_NUMBER(options.linger_us, 100000);
	CHECK_NUMBER(DEC("-b", "192.0.2.1", "host:53"), OPTIONS_RUN);
	CHECK_TEXT(options.source.host, "192.0.2.1");
	CHECK_NUMBER(DEC("-b192.0.2.2", "host:53"), OPTIONS_RUN);
	CHECK_TEXT(options.source.host, "192.0.2.2");
	CHECK_NUMBER(DEC("--bind", "192.0.2.3", "host:53"), OPTIONS_RUN);
	CHECK_TEXT(options.source.host, "192.0.2.3");
	CHECK_NUMBER(DEC("--bind=192.0.2.4", "host:53"), OPTIONS_RUN);
	CHECK_TEXT(options.source.host, "192.0.2.4");
	CHECK_NUMBER(DEC("--bind=a=b", "host:53"), OPTIONS_RUN);
	CHECK_TEXT(options.source.host, "a=b");
}

static void source_address(void)
{
	CHECK_NUMBER(DEC("-b", "::1", "host:53"), OPTIONS_RUN);
	CHECK(options.has_source);
	CHECK_TEXT(options.source.host, "::1");
	CHECK_TEXT(options.source.port, "0");
	check_address("host", "53");
	CHECK_NUMBER(DEC("host:53", "-b", "[fe80::1%eth0]"), OPTIONS_RUN);
	CHECK_TEXT(options.source.host, "fe80::1%eth0");
}

static void bad_source_address(void)
{
	CHECK_NUMBER(DEC("-b", "", "host:53"), OPTIONS_WRONG);
	CHECK_CONTAINS(error, "bad source address '': ");
	CHECK_NUMBER(DEC("-b", "[::1", "host:53"), OPTIONS_WRONG);
	CHECK_CONTAINS(error, "bad source address '[::1': ");
}

static void options_after_the_address(void)
{
	CHECK_NUMBER(ENC("53", "-u", "-t", "3"), OPTIONS_RUN);
	CHECK(options.unidirectional);
	CHECK_NUMBER(options.linger_us, 3000000);
	check_address("", "53");
	CHECK_NUMBER(DEC("-v", "host", "-4", "53", "--linger=4"), OPTIONS_RUN);
	CHECK(options.verbose && options.family == AF_INET);
	CHECK_NUMBER(options.linger_us, 4000000);
	check_address("host", "53");
}

static void last_value_counts(void)
{
	CHECK_NUMBER(ENC("-t", "1", "--linger=2", "-t3", "53"), OPTIONS_RUN);
	CHECK_NUMBER(options.linger_us, 3000000);
}

static void idle_timeout(void)
{
	CHECK_NUMBER(ENC("-i", "1", "53"), OPTIONS_RUN);
	CHECK_NUMBER(options.idle_timeout_us, 1000000);
	CHECK_NUMBER(DEC("--idle=0.000001", "host:53"), OPTIONS_RUN);
	CHECK_NUMBER(options.idle_timeout_us, 1);
}

static void latency(void)
{
	static const struct {
		const char *text;
		uint64_t us;
	} times[] = {{"0", 0}, {"0.0", 0}, {"1", 1000}, {"0.25", 250}, {".5", 500}, {"2.", 2000},
		{"0.001", 1}, {"007", 7000}, {"60000", 60000000}, {"60000.0", 60000000},
		{"59999.5", 59999500}};

	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		CHECK_NUMBER(ENC("-l", times[i].text, "53"), OPTIONS_RUN);
		CHECK_NUMBER(options.latency_us, times[i].us);
		CHECK_NUMBER(options.linger_us, 500000);
		CHECK_NUMBER(DEC("--latency", times[i].text, "host:53"), OPTIONS_RUN);
		CHECK_NUMBER(options.latency_us, times[i].us);
	}
	CHECK_NUMBER(ENC("53", "-ul20"), OPTIONS_RUN);
	CHECK(options.unidirectional);
	CHECK_NUMBER(options.latency_us, 20000);
	CHECK_NUMBER(DEC("-l1", "host:53", "--latency=2.5", "--", "ssh", "-l", "me"), OPTIONS_RUN);
	CHECK_NUMBER(options.latency_us, 2500);
}

static void max_flows(void)
{
	CHECK_NUMBER(ENC("-n", "1", "53"), OPTIONS_RUN);
	CHECK_NUMBER(options.max_flows, 1);
	CHECK_NUMBER(DEC("--max-flows=65536", "host:53"), OPTIONS_RUN);
	CHECK_NUMBER(options.max_flows, 65536);
}

static void stats(void)
{
	CHECK_NUMBER(ENC("-s", "10", "53"), OPTIONS_RUN);
	CHECK_NUMBER(options.stats_us, 10000000);
	CHECK_NUMBER(DEC("-s0.25", "host:53"), OPTIONS_RUN);
	CHECK_NUMBER(options.stats_us, 250000);
	CHECK_NUMBER(ENC("53", "--stats", "1"), OPTIONS_RUN);
	CHECK_NUMBER(options.stats_us, 1000000);
	CHECK_NUMBER(DEC("--stats=2", "host:53", "--", "ssh", "-s"), OPTIONS_RUN);
	CHECK_NUMBER(options.stats_us, 2000000);
	CHECK_NUMBER(options.retry_us, 0);
}

static void retry(void)
{
	CHECK_NUMBER(ENC("-r", "53", "--", "ssh"), OPTIONS_RUN);
	CHECK_NUMBER(options.retry_us, 30000000);
	check_address("", "53");
	CHECK_TEXT(options.command ? options.command[0] : NULL, "ssh");
	CHECK_NUMBER(DEC("--retry", "host:53", "--", "ssh"), OPTIONS_RUN);
	CHECK_NUMBER(options.retry_us, 30000000);
	check_address("host", "53");
	CHECK_NUMBER(ENC("53", "-r", "--", "ssh"), OPTIONS_RUN);
	CHECK_NUMBER(options.retry_us, 30000000);
}

static void retry_with_seconds(void)
{
	CHECK_NUMBER(ENC("-r5", "53", "--", "ssh"), OPTIONS_RUN);
	CHECK_NUMBER(options.retry_us, 5000000);
	CHECK_NUMBER(DEC("--retry=5", "host:53", "--", "ssh"), OPTIONS_RUN);
	CHECK_NUMBER(options.retry_us, 5000000);
	CHECK_NUMBER(ENC("53", "-r0.05", "--", "ssh"), OPTIONS_RUN);
	CHECK_NUMBER(options.retry_us, 50000);
	CHECK_NUMBER(ENC("-vr7", "53", "--", "ssh"), OPTIONS_RUN);
	CHECK_NUMBER(options.retry_us, 7000000);
	CHECK(options.verbose);
}

/* The value may be left out, so that it is in the same word or not there. */
static void retry_takes_no_next_word(void)
{
	CHECK_NUMBER(ENC("-r", "5", "53", "--", "ssh"), OPTIONS_RUN);
	CHECK_NUMBER(options.retry_us, 30000000);
	check_address("5", "53");
	CHECK_NUMBER(DEC("--retry", "5", "53", "--", "ssh"), OPTIONS_RUN);
	CHECK_NUMBER(options.retry_us, 30000000);
	check_address("5", "53");
}

static void last_retry_counts(void)
{
	CHECK_NUMBER(ENC("-r5", "-r", "53", "--", "ssh"), OPTIONS_RUN);
	CHECK_NUMBER(options.retry_us, 30000000);
	CHECK_NUMBER(ENC("-r", "--retry=6", "53", "--", "ssh"), OPTIONS_RUN);
	CHECK_NUMBER(options.retry_us, 6000000);
}

/* --- COMMAND ------------------------------------------------------------------------------- */

static void command(void)
{
	CHECK_NUMBER(ENC("53", "--", "ssh", "host", "uott-dec", "127.0.0.1:53"), OPTIONS_RUN);
	check_address("", "53");
	if (!CHECK(options.command))
		return;
	CHECK_TEXT(options.command[0], "ssh");
	CHECK_TEXT(options.command[1], "host");
	CHECK_TEXT(options.command[2], "uott-dec");
	CHECK_TEXT(options.command[3], "127.0.0.1:53");
	CHECK(!options.command[4]);
}

static void command_keeps_its_options(void)
{
	static const char *const wanted[] = {
		"ssh", "-T", "-o", "A=b", "--", "host", "-u", "--help", "-t", "x", "", "--"};
	size_t count = ARRAY_SIZE(wanted);

	CHECK_NUMBER(DEC("host", "-v", "53", "--", "ssh", "-T", "-o", "A=b", "--", "host", "-u",
			     "--help", "-t", "x", "", "--"),
		OPTIONS_RUN);
	check_address("host", "53");
	CHECK(options.verbose && !options.unidirectional);
	for (size_t i = 0; i < count && CHECK(options.command); i++)
		CHECK_TEXT(options.command[i], wanted[i]);
	CHECK(options.command && !options.command[count]);
}

static void command_after_options(void)
{
	CHECK_NUMBER(ENC("53", "-t", "2", "-u", "--", "cat"), OPTIONS_RUN);
	CHECK(options.unidirectional);
	CHECK_TEXT(options.command ? options.command[0] : NULL, "cat");
}

static void command_of_an_empty_word(void)
{
	CHECK_NUMBER(ENC("53", "--", ""), OPTIONS_RUN);
	CHECK_TEXT(options.command ? options.command[0] : NULL, "");
}

static void no_command(void)
{
	check_wrong(ENC("53", "--"), "expected a COMMAND after --");
	check_wrong(DEC("host", "53", "-u", "--"), "expected a COMMAND after --");
}

static void retry_without_a_command(void)
{
	static const char wanted[] = "-r needs a COMMAND to run again, after --";

	check_wrong(ENC("-r", "53"), wanted);
	check_wrong(ENC("-r5", "53"), wanted);
	check_wrong(DEC("host:53", "--retry"), wanted);
	check_wrong(DEC("--retry=5", "-u", "host:53"), wanted);
	check_wrong(ENC("53", "-r", "--"), "expected a COMMAND after --");
	check_wrong(ENC("-r"), "expected [HOST:]PORT to listen on");
	CHECK_NUMBER(ENC("-r", "-h"), OPTIONS_HELP);
}

static void command_without_dashes(void)
{
	check_wrong(ENC("host", "53", "ssh"),
		"unexpected 'ssh': expected HOST PORT, and -- in front of a COMMAND");
	check_wrong(DEC("127.0.0.1", "53", "cat", "file"),
		"unexpected 'cat': expected HOST PORT, and -- in front of a COMMAND");
}

/* --- what is wrong ------------------------------------------------------------------------- */

static void no_address(void)
{
	check_wrong(
		parse(UOTT_ENC, (const char *const[]){NULL}), "expected [HOST:]PORT to listen on");
	check_wrong(parse(UOTT_DEC, (const char *const[]){NULL}), "expected HOST:PORT to send to");
	check_wrong(ENC("-u"), "expected [HOST:]PORT to listen on");
	check_wrong(DEC("-t", "53"), "expected HOST:PORT to send to");
	check_wrong(ENC("--", "ssh", "host"), "expected [HOST:]PORT to listen on");
}

static void bad_addresses(void)
{
	check_wrong(ENC("65536"),
		"bad address '65536': a port is a number from 0 to 65535 or a service name");
	check_wrong(ENC("::1:53"),
		"bad address '::1:53': an IPv6 address is written in brackets, as in [::1]:53");
	check_wrong(ENC(":53"), "bad address ':53': the host is empty; for all addresses write *");
	check_wrong(
		ENC(""), "bad address '': a port is a number from 0 to 65535 or a service name");
	check_wrong(DEC("host", "70000"),
		"bad address 'host 70000': a port is a number from 0 to 65535 or a service name");
	check_wrong(
		DEC("", "53"), "bad address ' 53': the host is empty; for all addresses write *");
}

static void addresses_dec_cannot_send_to(void)
{
	check_wrong(DEC("53"), "bad address '53': expected HOST:PORT");
	check_wrong(DEC("*:53"), "bad address '*:53': * is no host to send to");
	check_wrong(DEC("*", "53"), "bad address '* 53': * is no host to send to");
	check_wrong(DEC("host:0"), "bad address 'host:0': 0 is no port to send to");
	check_wrong(DEC("host", "000"), "bad address 'host 000': 0 is no port to send to");
}

static void very_long_address(void)
{
	char word[WORD_SIZE];

	memset(word, 'a', sizeof(word));
	word[sizeof(word) - 1] = '\0';
	CHECK_NUMBER(ENC(word), OPTIONS_WRONG);
	CHECK_CONTAINS(error, "bad address 'aaa");
	CHECK_NUMBER(DEC(word, "53"), OPTIONS_WRONG);
	CHECK_CONTAINS(error, "bad address 'aaa");
	CHECK_NUMBER(ENC("-t", word, "53"), OPTIONS_WRONG);
	CHECK_CONTAINS(error, "bad linger time 'aaa");
}

static void unknown_short_options(void)
{
	check_wrong(ENC("-x", "53"), "unknown option '-x'");
	check_wrong(ENC("53", "-x"), "unknown option '-x'");
	check_wrong(DEC("-ux", "host:53"), "unknown option '-x'");
	check_wrong(DEC("-uxv", "host:53"), "unknown option '-x'");
	check_wrong(DEC("host:53", "-xyz"), "unknown option '-x'");
	check_wrong(ENC("-?", "53"), "unknown option '-?'");
	check_wrong(ENC("-:", "53"), "unknown option '-:'");
}

static void unknown_long_options(void)
{
	check_wrong(ENC("--frobnicate", "53"), "unknown option '--frobnicate'");
	check_wrong(DEC("host:53", "--frobnicate=fast"), "unknown option '--frobnicate=fast'");
	check_wrong(DEC("--x", "host:53"), "unknown option '--x'");
	check_wrong(ENC("-u", "--=", "53"), "unknown option '--='");
}

static void flag_with_a_value(void)
{
	check_wrong(ENC("--verbose=yes", "53"), "option '-v' or '--verbose' takes no value");
	check_wrong(ENC("--help=all", "53"), "option '-h' or '--help' takes no value");
}

static void missing_values(void)
{
	check_wrong(ENC("53", "-t"), "option '-t' or '--linger' wants a value");
	check_wrong(ENC("53", "--linger"), "option '-t' or '--linger' wants a value");
	check_wrong(DEC("host:53", "-b"), "option '-b' or '--bind' wants a value");
	check_wrong(DEC("host:53", "--bind"), "option '-b' or '--bind' wants a value");
	check_wrong(ENC("53", "-s"), "option '-s' or '--stats' wants a value");
	check_wrong(ENC("53", "--stats"), "option '-s' or '--stats' wants a value");
	check_wrong(ENC("53", "-l"), "option '-l' or '--latency' wants a value");
	check_wrong(DEC("host:53", "--latency"), "option '-l' or '--latency' wants a value");
	check_wrong(ENC("53", "-i"), "option '-i' or '--idle' wants a value");
	check_wrong(ENC("53", "-n"), "option '-n' or '--max-flows' wants a value");
	check_wrong(DEC("host:53", "-vut"), "option '-t' or '--linger' wants a value");
	/* The command is no value. */
	check_wrong(ENC("53", "-t", "--", "ssh"), "option '-t' or '--linger' wants a value");
	check_wrong(DEC("host:53", "--bind", "--", "ssh"), "option '-b' or '--bind' wants a value");
}

static const char *const no_times[] = {"", " ", "-1", "-0", "+1", "nan", "inf", "-inf", "infinity",
	"s", "1s", "1 ", " 1", "1,5", "1.5.1", ".", "1000000001", "1e3", "1e-3", "0x10"};
static const char *const no_spans[] = {"0", "0.0", "0.0000001", "00", ".0"};

static void bad_seconds(void)
{
	char wanted[128];

	for (size_t i = 0; i < ARRAY_SIZE(no_times); i++) {
		snprintf(wanted, sizeof(wanted),
			"bad linger time '%s': expected seconds, as in 0.5", no_times[i]);
		check_wrong(ENC("-t", no_times[i], "53"), wanted);
		check_wrong(DEC("host:53", "--linger", no_times[i]), wanted);
	}
}

static void check_no_latency(const char *value)
{
	char wanted[128];

	snprintf(wanted, sizeof(wanted), "bad latency '%s': expected milliseconds, at most 60000",
		value);
	check_wrong(ENC("-l", value, "53"), wanted);
	check_wrong(DEC("host:53", "--latency", value), wanted);
}

static void bad_latencies(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(no_times); i++)
		check_no_latency(no_times[i]);
	check_no_latency("60000.001");
	check_no_latency("60001");
	check_no_latency("5ms");
	check_no_latency("18446744073709551616");
}

/* Whether the option refuses the value, in the next word or, if it can be left out, the same. */
static void check_no_span(const char *letter, const char *name, const char *value, const char *what)
{
	char short_word[64], long_word[64], wanted[128];

	snprintf(short_word, sizeof(short_word), "-%s%s", letter, value);
	snprintf(long_word, sizeof(long_word), "--%s=%s", name, value);
	snprintf(wanted, sizeof(wanted), "bad %s '%s': expected seconds, more than 0", what, value);
	check_wrong(DEC(long_word, "host:53", "--", "ssh"), wanted);
	if (value[0] != '\0')
		check_wrong(ENC("53", short_word, "--", "ssh"), wanted);
}

static void check_no_spans(const char *letter, const char *name, const char *what)
{
	for (size_t i = 0; i < ARRAY_SIZE(no_times); i++)
		check_no_span(letter, name, no_times[i], what);
	for (size_t i = 0; i < ARRAY_SIZE(no_spans); i++)
		check_no_span(letter, name, no_spans[i], what);
}

static void bad_spans(void)
{
	check_no_spans("i", "idle", "idle timeout");
	check_no_spans("r", "retry", "retry time");
	check_no_spans("s", "stats", "time between counters");
}

static void bad_numbers_of_flows(void)
{
	static const char *const numbers[] = {
		"", "0", "00", "-1", "+1", "1.5", "65537", "4294967297", "9999999999", "x", "1x"};
	char wanted[128];

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		snprintf(wanted, sizeof(wanted), "bad number of flows '%s': expected 1 to 65536",
			numbers[i]);
		check_wrong(ENC("-n", numbers[i], "53"), wanted);
		check_wrong(DEC("host:53", "--max-flows", numbers[i]), wanted);
	}
}

static void bind_is_for_dec(void)
{
	CHECK_NUMBER(ENC("-b", "127.0.0.1", "53"), OPTIONS_WRONG);
	CHECK_CONTAINS(error, "option '-b' or '--bind' is for uott-dec only");
	CHECK_NUMBER(ENC("53", "--bind=::1"), OPTIONS_WRONG);
	CHECK_CONTAINS(error, "option '-b' or '--bind' is for uott-dec only");
}

/* --- help and version ---------------------------------------------------------------------- */

static void help(void)
{
	CHECK_NUMBER(ENC("-h"), OPTIONS_HELP);
	CHECK_NUMBER(ENC("--help"), OPTIONS_HELP);
	CHECK_NUMBER(DEC("-uh", "no:such:address"), OPTIONS_HELP);
	CHECK_NUMBER(DEC("host:53", "--help", "--frobnicate"), OPTIONS_HELP);
	CHECK_NUMBER(ENC("-V"), OPTIONS_VERSION);
	CHECK_NUMBER(DEC("--version"), OPTIONS_VERSION);
	CHECK_NUMBER(DEC("-V", "-h"), OPTIONS_VERSION);
	CHECK_NUMBER(ENC("-x", "-h"), OPTIONS_WRONG);
	CHECK_NUMBER(ENC("53", "--", "ssh", "-h"), OPTIONS_RUN);
}

static void help_names_every_option(void)
{
	static const char *const both[] = {"-4", "-6", "-u, --unidirectional", "-i, --idle=SECONDS",
		"-n, --max-flows=N", "-l, --latency=MS", "-r, --retry[=SECONDS]",
		"-s, --stats=SECONDS", "-t, --linger=", "-v, --verbose", "-q, --quiet",
		"-h, --help", "-V, --version", "-- COMMAND"};

	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		CHECK_CONTAINS(options_help(UOTT_ENC), both[i]);
		CHECK_CONTAINS(options_help(UOTT_DEC), both[i]);
	}
	CHECK_CONTAINS(options_help(UOTT_DEC), "-b, --bind=HOST");
	CHECK(!strstr(options_help(UOTT_ENC), "--bind"));
	CHECK(strncmp(options_help(UOTT_ENC), "Usage: uott-enc ", 16) == 0);
	CHECK(strncmp(options_help(UOTT_DEC), "Usage: uott-dec ", 16) == 0);
}

static void help_fits_a_terminal(void)
{
	for (int program = UOTT_ENC; program <= UOTT_DEC; program++) {
		const char *line = options_help((enum program)program);

		for (const char *end; (end = strchr(line, '\n')); line = end + 1)
			CHECK(end - line <= 100);
		CHECK_TEXT(line, ""); /* the last line is ended too */
	}
}

/* --- many times in one process ------------------------------------------------------------- */

/* Where one parse stopped, in the middle of a cluster too, the next does not go on. */
static void parses_do_not_meet(void)
{
	for (int round = 0; round < 1000; round++) {
		check_wrong(DEC("-vxu", "-q", "host:53"), "unknown option '-x'");
		CHECK_NUMBER(ENC("53"), OPTIONS_RUN);
		CHECK(!options.verbose && !options.quiet && !options.unidirectional);
		CHECK_NUMBER(ENC("-hu", "53"), OPTIONS_HELP);
		CHECK_NUMBER(DEC("-q", "-4", "a", "1", "--", "b"), OPTIONS_RUN);
		CHECK(options.quiet && !options.unidirectional && options.family == AF_INET);
		CHECK_NUMBER(ENC("53", "-vt"), OPTIONS_WRONG);
		CHECK_NUMBER(DEC("a:1", "-u"), OPTIONS_RUN);
		CHECK(options.unidirectional && !options.quiet && !options.command);
		CHECK_NUMBER(options.linger_us, 500000);
		CHECK_NUMBER(ENC("-r5", "-s1", "53", "--", "a"), OPTIONS_RUN);
		CHECK_NUMBER(ENC("-l9", "53"), OPTIONS_RUN);
		CHECK_NUMBER(ENC("53", "--", "a"), OPTIONS_RUN);
		CHECK_NUMBER(options.latency_us, 5000);
		CHECK(options.retry_us == 0 && options.stats_us == 0);
	}
}

int main(void)
{
	unsetenv("POSIXLY_CORRECT"); /* glibc's getopt would not look behind the address */
	test("with an address alone all else has its default", defaults);
	test("the address may be one word", addresses_in_one_word);
	test("the address may be two words", addresses_in_two_words);
	test("-4 and -6 choose the family, the last one wins", families);
	test("flags are short or long", flags);
	test("short options may share a word", clusters);
	test("linger takes seconds and their parts", linger);
	test("the idle timeout takes seconds and their parts", idle_timeout);
	test("the latency takes milliseconds and their parts, up to a minute", latency);
	test("the number of flows may be limited", max_flows);
	test("the counters may be shown every few seconds", stats);
	test("-r alone retries after up to 30 seconds", retry);
	test("-r takes seconds in the same word", retry_with_seconds);
	test("-r takes no seconds from the next word", retry_takes_no_next_word);
	test("of several -r the last counts", last_retry_counts);
	test("a value is in the same word or the next", values);
	test("the source address of dec is a host, in brackets or not", source_address);
	test("a bad source address is shown as it was written", bad_source_address);
	test("options may come after the address", options_after_the_address);
	test("of a value given twice the last counts", last_value_counts);

	test("the words after -- are the command", command);
	test("the command keeps its own options", command_keeps_its_options);
	test("the command may follow options", command_after_options);
	test("a command may be an empty word, which cannot be run", command_of_an_empty_word);
	test("-- without a command is wrong", no_command);
	test("-r without a command is wrong", retry_without_a_command);
	test("a command without -- is wrong", command_without_dashes);

	test("no address is wrong", no_address);
	test("a bad address is shown as it was written", bad_addresses);
	test("dec wants a host and a port it can send to", addresses_dec_cannot_send_to);
	test("what is too long to be shown is cut", very_long_address);
	test("an unknown short option is shown", unknown_short_options);
	test("an unknown long option is shown", unknown_long_options);
	test("a flag takes no value", flag_with_a_value);
	test("a missing value is told with its option", missing_values);
	test("what is no time is refused and shown", bad_seconds);
	test("what is no latency, or too much, is refused and shown", bad_latencies);
	test("where time must pass, none is refused", bad_spans);
	test("what is no number of flows is refused and shown", bad_numbers_of_flows);
	test("-b is refused by enc", bind_is_for_dec);

	test("help and version come before what follows", help);
	test("help names every option of the program", help_names_every_option);
	test("help has lines of at most 100 columns", help_fits_a_terminal);

	test("one parse leaves nothing behind for the next", parses_do_not_meet);
	return tests_end();
}
