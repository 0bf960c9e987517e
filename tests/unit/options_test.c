/*
 * Most tests are rows of a command line and its outcome: the error, "help", "version", or the
 * addresses as <HOST> PORT[+MORE], then NAME=VALUE for all that differs from its default, and the
 * COMMAND as [WORD]...
 *
 * A line begins with enc or dec. A word in '' may have spaces, or be empty. {A|B} stands for A,
 * and then for B; @ in the outcome is what the last {A|B} of the line stands for.
 */
#include "options.h"

#include <inttypes.h>

#include "check.h"
#include "util.h"

enum {
	WORDS_MAX = 32,
	LINE_SIZE = 1024,
	ROWS_MAX = 12,
};

#define BAD_PORT "a port is a number from 0 to 65535 or a service name"
#define BAD_FORM "expected HOST:PORT or [V6ADDRESS]:PORT"
#define NO_BRACKETS "an IPv6 address is written in brackets, as in [::1]:53"
#define EMPTY_HOST "the host is empty (uott-enc listens on all addresses with *)"
#define NO_DASHES "expected HOST PORT, and -- in front of a COMMAND"

#define NO_TIMES " |-1|-0|+1|nan|inf|-inf|infinity|s|1s|1 | 1|1,5|1.5.1|.|1000000001|1e3|1e-3|0x10"
#define NO_SPANS NO_TIMES "|0|0.0|0.0000001|00|.0"
#define NO_FLOWS "0|00|-1|+1|1.5|65537|4294967297|9999999999|x|1x"

#define A_60 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A_600 A_60 A_60 A_60 A_60 A_60 A_60 A_60 A_60 A_60 A_60

static const struct group {
	const char *name;
	struct row {
		const char *line, *outcome;
	} rows[ROWS_MAX];
} groups[] = {
	{"with an address alone all else has its default",
		{{"{enc|dec} a:1", "<a> 1"}, {"enc 5353", "<> 5353"}}},
	{"the address may be one word or two",
		{{"{enc|dec} [::1]:domain", "<::1> domain"}, {"enc {*:0|* 0}", "<*> 0"},
			{"dec [fe80::1%eth0]:53", "<fe80::1%eth0> 53"},
			{"{enc|dec} {127.0.0.1:53|127.0.0.1 53}", "<127.0.0.1> 53"},
			{"{enc|dec} {::1|[::1]} domain", "<::1> domain"}}},
	{"addresses may be lists, and a port may be a range of numbers",
		{{"enc 53,5060-5069", "<> 53, <> 5060+9"},
			{"enc *:1-2,[::1]:3,a:0,0,0", "<*> 1+1, <::1> 3, <a> 0, <> 0, <> 0"},
			{"dec 127.0.0.1:53,10.0.0.5:5060-5069",
				"<127.0.0.1> 53, <10.0.0.5> 5060+9"},
			{"{enc|dec} {a|[a]} 53,5-7,domain", "<a> 53, <a> 5+2, <a> domain"},
			{"{enc|dec} a:sip-tls,a:x-2,a:2-x", "<a> sip-tls, <a> x-2, <a> 2-x"},
			{"{enc|dec} a:{1|01}-1024", "<a> @+1023"},
			{"{enc|dec} a:65535-65535,b:65535", "<a> 65535, <b> 65535"}}},
	{"a bad part of a list is shown",
		{{"enc 53,{a:0-5|0-5}", "bad address '@': no range begins with port 0"},
			{"{enc|dec} a:53,{a:5069-5060|a:2-1}",
				"bad address '@': the range runs backwards"},
			{"{enc|dec} a:53,{a:1-65536|a:1-99999999999999999999}",
				"bad address '@': a port is a number from 0 to 65535"},
			{"{enc|dec} a:2,{a:2|a:02|a:1-2|a:2-3|a:1-9}",
				"bad address '@': this port is given twice"},
			{"{enc|dec} a 5-7,{5|6|7|1-5|7-9}",
				"bad address 'a @': this port is given twice"},
			{"{enc|dec} a:3,a:3com-tsmux", "<a> 3, <a> 3com-tsmux"},
			{"{enc|dec} a:ntp,a:ntp", "bad address 'a:ntp': this port is given twice"},
			{"{enc|dec} a:1,{a:2-1025|a:5000-65535}",
				"bad address '@': at most 1024 ports fit into one stream"},
			{"enc {53,|,53|53,,54}", "bad address '': " BAD_PORT},
			{"dec a:1,{53|127.0.0.1}", "bad address '@': expected HOST:PORT"},
			{"{enc|dec} a:{-5|5-|5-6-7|--}", "bad address 'a:@': " BAD_PORT}}},
	{"-4 and -6 choose the family, the last one wins",
		{{"{enc -4|dec -4|dec -6 -4} a:1", "<a> 1 ip=4"},
			{"{enc -6|dec -6|enc -46} a:1", "<a> 1 ip=6"}}},
	{"flags are short or long", {{"{enc|dec} {-u|--unidirectional} a:1", "<a> 1 one-way=1"},
					    {"{enc|dec} {-v|--verbose} a:1", "<a> 1 verbose=1"},
					    {"{enc|dec} {-q|--quiet} a:1", "<a> 1 quiet=1"}}},
	{"short options may share a word",
		{{"enc -4uv 53", "<> 53 ip=4 one-way=1 verbose=1"},
			{"enc -uqt2 53", "<> 53 one-way=1 quiet=1 linger=2000000"},
			{"enc 53 -ul20", "<> 53 one-way=1 latency=20000"},
			{"dec -6ub ::1 a:1", "<a> 1 ip=6 one-way=1 source=<::1> 0"}}},
	{"times are in seconds, and the latency in milliseconds, up to a minute",
		{{"{enc|dec} -t {0|0.0|0.0000004} -l {0|0.0004} a:1", "<a> 1 linger=0 latency=0"},
			{"{enc|dec} -t 0.000001 -l 0.001 -i 0.0000006 -s 0.000001 a:1",
				"<a> 1 linger=1 latency=1 idle=1 stats=1"},
			{"{enc|dec} -t {.25|0.25} -l {.25|0.25} -s {.25|0.25} a:1",
				"<a> 1 linger=250000 latency=250 stats=250000"},
			{"{enc|dec} -t {.5|0.5} -l {.5|0.5} a:1", "<a> 1 latency=500"},
			{"{enc|dec} -t {1|1.} -l {1|1.} -i {1|1.} a:1",
				"<a> 1 linger=1000000 latency=1000 idle=1000000"},
			{"{enc|dec} -t 007 -l 007 a:1", "<a> 1 linger=7000000 latency=7000"},
			{"{enc|dec} -t 1000 -l 59999.5 a:1",
				"<a> 1 linger=1000000000 latency=59999500"},
			{"{enc|dec} -t 1000000000 -l {60000|60000.0} a:1",
				"<a> 1 linger=1000000000000000 latency=60000000"}}},
	{"the number of flows may be limited",
		{{"{enc|dec} -n {1|65535} a:1", "<a> 1 flows=@"}, {"enc -n 65536 a:1", "<a> 1"}}},
	{"-r takes seconds from the same word only, and without them waits up to 30",
		{{"{enc|dec} {-r|--retry} a:1 -- ssh", "<a> 1 retry=30000000 [ssh]"},
			{"enc 53 -r -- ssh", "<> 53 retry=30000000 [ssh]"},
			{"{enc|dec} {-r|--retry} 5 53 -- ssh",
				"bad address '5 53': did you mean -r5?"},
			{"{enc|dec} {-r5|--retry=5} a:1 -- ssh", "<a> 1 retry=5000000 [ssh]"},
			{"enc 53 -r0.05 -- ssh", "<> 53 retry=50000 [ssh]"},
			{"enc -vr7 53 -- ssh", "<> 53 verbose=1 retry=7000000 [ssh]"}}},
	{"all other values are in the same word or the next",
		{{"{enc|dec} {-t|-t |--linger=|--linger }0.1 a:1", "<a> 1 linger=100000"},
			{"{enc|dec} {-l|-l |--latency=|--latency }2 a:1", "<a> 1 latency=2000"},
			{"{enc|dec} {-i|-i |--idle=|--idle }2 a:1", "<a> 1 idle=2000000"},
			{"{enc|dec} {-s|-s |--stats=|--stats }2 a:1", "<a> 1 stats=2000000"},
			{"{enc|dec} {-n|-n |--max-flows=|--max-flows }2 a:1", "<a> 1 flows=2"},
			{"dec {-b|-b |--bind=|--bind }a=b a:1", "<a> 1 source=<a=b> 0"}}},
	{"of a value given twice the last counts",
		{{"enc -t 1 --linger=2 -t3 53", "<> 53 linger=3000000"},
			{"dec --stats=1 -s2 a:1 -- ssh -s9", "<a> 1 stats=2000000 [ssh] [-s9]"},
			{"dec -l1 a:1 --latency=2.5 -- ssh -l me",
				"<a> 1 latency=2500 [ssh] [-l] [me]"},
			{"enc -r5 -r 53 -- ssh", "<> 53 retry=30000000 [ssh]"},
			{"enc -r --retry=6 53 -- ssh", "<> 53 retry=6000000 [ssh]"}}},
	{"the source address is a host, in brackets or not, and for dec only",
		{{"dec {-b ::1|-b [::1]} a:1", "<a> 1 source=<::1> 0"},
			{"dec a:1 -b [fe80::1%eth0]", "<a> 1 source=<fe80::1%eth0> 0"},
			{"dec -b '' a:1", "bad source address '': " EMPTY_HOST},
			{"dec -b [::1 a:1", "bad source address '[::1': " BAD_FORM},
			{"enc {-b a|--bind=a} 53",
				"option '-b' or '--bind' is for uott-dec only"}}},
	{"options may come after the address",
		{{"enc 53 -u -t 3", "<> 53 one-way=1 linger=3000000"},
			{"dec -v a -4 1 --linger=4", "<a> 1 ip=4 verbose=1 linger=4000000"}}},
	{"the words after -- are the command, with its own options",
		{{"enc 53 -t 2 -u -- cat", "<> 53 one-way=1 linger=2000000 [cat]"},
			{"enc 53 -- ssh host uott-dec 127.0.0.1:53",
				"<> 53 [ssh] [host] [uott-dec] [127.0.0.1:53]"},
			{"dec a -v 1 -- ssh -T -o A=b -- host -u --help -t x '' --",
				"<a> 1 verbose=1 [ssh] [-T] [-o] [A=b] [--] [host] [-u] [--help] "
				"[-t] [x] [] [--]"},
			{"enc 53 -- ''", "<> 53 []"}}},
	{"-- and -r need a command, and a command needs --",
		{{"{enc 53|dec host 53 -u|enc 53 -r} --", "expected a COMMAND after --"},
			{"{enc -r 53|enc -r5 53|dec a:1 --retry|dec --retry=5 -u a:1}",
				"-r needs a COMMAND to run again, after --"},
			{"{enc host|dec 127.0.0.1} 53 ssh {|file}",
				"unexpected 'ssh': " NO_DASHES}}},
	{"no address is wrong",
		{{"{enc|enc -u|enc -r|enc -- ssh host}", "expected [HOST:]PORT to listen on"},
			{"{dec|dec -t 53|dec -- ssh host}", "expected HOST:PORT to send to"}}},
	{"a bad address is shown as it was written",
		{{"enc '{|65536}'", "bad address '@': " BAD_PORT},
			{"enc ::1:53", "bad address '::1:53': " NO_BRACKETS},
			{"enc :53", "bad address ':53': " EMPTY_HOST},
			{"dec '' 53", "bad address ' 53': " EMPTY_HOST},
			{"dec {host 70000}", "bad address '@': " BAD_PORT}}},
	{"dec wants a host and a port it can send to",
		{{"dec 53", "bad address '53': expected HOST:PORT"},
			{"dec {*:53|* 53}", "bad address '@': * is no host to send to"},
			{"dec {host:0|host 000}", "bad address '@': 0 is no port to send to"}}},
	{"what is too long to be shown is cut",
		{{"{enc|dec} a:" A_600,
			 "bad address 'a:" A_60 A_60 A_60 A_60 A_60 "aaaaaaaaaaaaaaaaa'"
			 ": it is too long"},
			{"{enc|dec} {" A_600 " 53}", "bad address '@"},
			{"{enc 53|dec a:1} -t {" A_600 "}", "bad linger time '@"}}},
	{"an unknown option is shown",
		{{"{enc -x 53|enc 53 -x|dec -ux a:1|dec -uxv a:1|dec a:1 -xyz}",
			 "unknown option '-x'"},
			{"{enc|dec -u|dec a:1} {-?|-:|--frobnicate|--frobnicate=fast|--x|--=} 53",
				"unknown option '@'"}}},
	{"a flag takes no value",
		{{"enc --verbose=yes 53", "option '-v' or '--verbose' takes no value"},
			{"enc --help=all 53", "option '-h' or '--help' takes no value"}}},
	{"a missing value is told with its option",
		{{"{enc 53 -t|dec a:1 --linger|dec a:1 -vut|enc 53 -t -- ssh}",
			 "option '-t' or '--linger' wants a value"},
			{"dec a:1 {-b|--bind|--bind -- ssh}",
				"option '-b' or '--bind' wants a value"},
			{"enc 53 {-s|--stats}", "option '-s' or '--stats' wants a value"},
			{"enc 53 {-l|--latency}", "option '-l' or '--latency' wants a value"},
			{"enc 53 {-i|--idle}", "option '-i' or '--idle' wants a value"},
			{"enc 53 {-n|--max-flows}", "option '-n' or '--max-flows' wants a value"}}},
	{"what is no time is refused and shown",
		{{"{enc 53 -t|dec a:1 --linger} '{|" NO_TIMES "}'",
			 "bad linger time '@': expected seconds, as in 0.5"},
			{"{enc 53 -l|dec a:1 --latency} "
			 "'{|60000.001|60001|5ms|18446744073709551616|" NO_TIMES "}'",
				"bad latency '@': expected milliseconds, at most 60000"}}},
	{"where time must pass, none is refused",
		{{"{enc 53 -i '|dec a:1 '--idle=}{|" NO_SPANS "}'",
			 "bad idle timeout '@': expected seconds, more than 0"},
			{"{enc 53 -s '|dec a:1 '--stats=}{|" NO_SPANS "}'",
				"bad time between counters '@': expected seconds, more than 0"},
			{"enc 53 '-r{" NO_SPANS "}' -- ssh",
				"bad retry time '@': expected seconds, more than 0"},
			{"dec a:1 '--retry={|" NO_SPANS "}' -- ssh",
				"bad retry time '@': expected seconds, more than 0"}}},
	{"what is no number of flows is refused and shown",
		{{"{enc 53 -n|dec a:1 --max-flows} '{|" NO_FLOWS "}'",
			"bad number of flows '@': expected 1 to 65536"}}},
	{"help and version come before what follows",
		{{"{enc|dec} {-h|--help|-r -h|-uh no:such:address}", "help"},
			{"dec host:53 --help --frobnicate", "help"}, {"enc -hu 53", "help"},
			{"{enc|dec} {-V|--version|-V -h}", "version"},
			{"enc -x -h", "unknown option '-x'"},
			{"enc 53 -- ssh -h", "<> 53 [ssh] [-h]"}}},
};

static const struct group *group = groups;
static struct options options;
static char error[OPTIONS_ERROR_SIZE];
static char *argv[WORDS_MAX];

/* Puts the words of the line into argv. Returns their number. */
static int split(char *line)
{
	int argc = 0;

	for (char *p = line; *p; p += strspn(p, " ")) {
		bool is_quoted = *p == '\'';

		argv[argc++] = p += is_quoted;
		p += strcspn(p, is_quoted ? "'" : " ");
		if (*p)
			*p++ = '\0';
	}
	argv[argc] = NULL;
	return argc;
}

static int show_range(const struct service_range *range, const char *between, char *text)
{
	int used = sprintf(text, "%s<%s> %s", between, range->first.host, range->first.port);

	return range->count == 1 ? used : used + sprintf(text + used, "+%u", range->count - 1);
}

static const char *show_options(enum program program)
{
	int ip = options.family == AF_INET ? 4 : options.family == AF_INET6 ? 6 : options.family;
	const struct {
		const char *name;
		uint64_t value, usual;
	} numbers[] = {
		{"program", options.program, program},
		{"ip", (uint64_t)ip, AF_UNSPEC},
		{"one-way", options.unidirectional, false},
		{"quiet", options.quiet, false},
		{"verbose", options.verbose, false},
		{"linger", options.linger_us, 500000},
		{"latency", options.latency_us, 5000},
		{"idle", options.idle_timeout_us, 300000000},
		{"retry", options.retry_us, 0},
		{"stats", options.stats_us, 0},
		{"flows", options.max_flows, 65536},
	};
	static char text[1024];
	char *p = text;

	for (size_t i = 0; i < options.services.range_count; i++)
		p += show_range(&options.services.ranges[i], i > 0 ? ", " : "", p);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (numbers[i].value != numbers[i].usual)
			p += sprintf(p, " %s=%" PRIu64, numbers[i].name, numbers[i].value);
	if (options.has_source)
		p += sprintf(p, " source=<%s> %s", options.source.host, options.source.port);
	for (char **word = options.command; word && *word; word++)
		p += sprintf(p, " [%s]", *word);
	return text;
}

static const char *parse(const char *line)
{
	static char words[LINE_SIZE]; /* the command points there */
	enum program program = strncmp(line, "enc", 3) == 0 ? UOTT_ENC : UOTT_DEC;
	enum options_result result;

	snprintf(words, sizeof(words), "%s", line);
	memset(&options, 0xee, sizeof(options));
	memset(error, 0, sizeof(error));
	result = options_parse(&options, program, split(words), argv, error);
	if (result == OPTIONS_RUN)
		return show_options(program);
	if (result == OPTIONS_WRONG)
		return error;
	return result == OPTIONS_HELP ? "help" : "version";
}

/* Checks the line with each choice of its last {A|B}, and with all others in front of it. */
static void check_line(const char *line, const char *outcome)
{
	char chosen[LINE_SIZE], wanted[OPTIONS_ERROR_SIZE];
	const char *open = strrchr(line, '{'), *close = strrchr(line, '}');
	int head = (int)strcspn(outcome, "@"), size;
	bool has_at = outcome[head] == '@';

	if (!open) {
		const char *got = parse(line);

		check_that(strcmp(got, outcome) == 0, "%s: \"%s\", not \"%s\"", line, got, outcome);
		return;
	}
	for (const char *choice = open + 1; choice <= close; choice += size + 1) {
		size = (int)strcspn(choice, "|}");
		snprintf(chosen, sizeof(chosen), "%.*s%.*s%s", (int)(open - line), line, size,
			choice, close + 1);
		snprintf(wanted, sizeof(wanted), "%.*s%.*s%s", head, outcome, has_at ? size : 0,
			choice, outcome + head + has_at);
		check_line(chosen, wanted);
	}
}

static void check_group(void)
{
	for (const struct row *row = group->rows; row->line; row++)
		check_line(row->line, row->outcome);
}

/* The next parse does not go on where one has stopped in the middle of a word. */
static void any_order(void)
{
	for (int i = 0; i < 10000; i++) {
		const struct row *row = groups[random_below(ARRAY_SIZE(groups))].rows;

		row += random_below(ROWS_MAX);
		if (row->line)
			check_line(row->line, row->outcome);
	}
}

static void help_names_every_option(void)
{
	static const char *const both[] = {"-4", "-6", "-u, --unidirectional", "-i, --idle=SECONDS",
		"-n, --max-flows=N", "-l, --latency=MS", "-r, --retry[=SECONDS]",
		"-s, --stats=SECONDS", "-t, --linger=", "-v, --verbose", "-q, --quiet",
		"-h, --help", "-V, --version", "-- COMMAND"};
	const char *enc = options_help_enc, *dec = options_help_dec;

	for (size_t i = 0; i < ARRAY_SIZE(both); i++)
		CHECK(CHECK_CONTAINS(enc, both[i]) && CHECK_CONTAINS(dec, both[i]));
	CHECK_CONTAINS(dec, "-b, --bind=HOST");
	CHECK(!strstr(enc, "--bind"));
	CHECK(strncmp(enc, "Usage: uott-enc ", 16) == 0);
	CHECK(strncmp(dec, "Usage: uott-dec ", 16) == 0);
}

static void help_fits_a_terminal(void)
{
	for (int i = 0; i < 2; i++) {
		const char *line = i == 0 ? options_help_enc : options_help_dec;

		for (const char *end; (end = strchr(line, '\n')); line = end + 1)
			CHECK(end - line <= 100);
		CHECK_TEXT(line, ""); /* the last line is ended too */
	}
}

int main(void)
{
	unsetenv("POSIXLY_CORRECT"); /* glibc's getopt would not look behind the address */
	for (; group < groups + ARRAY_SIZE(groups); group++)
		test(group->name, check_group);
	test("one parse leaves nothing behind for the next", any_order);
	test("help names every option of the program", help_names_every_option);
	test("help has lines of at most 100 columns", help_fits_a_terminal);
	return tests_end();
}
