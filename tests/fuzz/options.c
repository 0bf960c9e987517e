/* Words, one a line of the input, as the command line of both programs. */
#include "options.h"

#include "fuzz.h"

enum {
	WORDS_MAX = 40
};

static void check_services(const struct services *services, bool are_targets)
{
	size_t sum = 0;

	CHECK(services->range_count >= 1 && services->range_count <= SERVICES_MAX);
	for (size_t i = 0; i < services->range_count; i++) {
		const struct service_range *range = &services->ranges[i];
		const char *host = range->first.host, *port = range->first.port;
		bool is_number = !port[strspn(port, "0123456789")];
		unsigned long first = is_number ? strtoul(port, NULL, 10) : 0;

		CHECK(strlen(host) < HOST_SIZE && port[0] && range->count >= 1);
		CHECK(range->count == 1 || (first > 0 && first + range->count - 1 <= UINT16_MAX));
		CHECK(!are_targets || (host[0] && strcmp(host, "*") != 0));
		CHECK(!are_targets || !is_number || first > 0);
		sum += range->count;
	}
	CHECK(services->count == sum && sum >= 1 && sum <= SERVICES_MAX);
}

static void check_options(const struct options *options, char **end)
{
	check_services(&options->services, options->program == UOTT_DEC);
	CHECK(options->max_flows >= 1 && options->max_flows <= TAGS);
	CHECK(options->idle_timeout_us >= 1 && options->latency_us <= 60 * US_PER_SECOND);
	CHECK(!options->command || (options->command < end && options->command[0]));
	CHECK(options->command || options->retry_us == 0);
	CHECK(!options->has_source || (options->program == UOTT_DEC && options->source.host[0]));
}

/* Reading the same words again, which may have changed places, has the same result. */
static void check_line(enum program program, int count, char **words)
{
	static struct options options;
	char error[OPTIONS_ERROR_SIZE] = "";
	char *argv[WORDS_MAX + 2];
	enum options_result result, again;

	memcpy(argv, words, sizeof(argv));
	result = options_parse(&options, program, count, argv, error);
	CHECK(!argv[count] && argv[0] == words[0]);
	if (result == OPTIONS_RUN)
		check_options(&options, argv + count);
	CHECK((result == OPTIONS_WRONG) == (error[0] != '\0'));
	for (const char *c = error; *c; c++)
		CHECK((unsigned char)*c >= ' ' && *c != '\x7f');
	again = options_parse(&options, program, count, argv, error);
	CHECK(result == again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	char *words[WORDS_MAX + 2] = {strdup("uott")};
	struct input input = {bytes, size};
	int count = 1;

	while (input.left > 0 && count <= WORDS_MAX)
		words[count++] = take_line(&input);
	check_line(UOTT_ENC, count, words);
	check_line(UOTT_DEC, count, words);
	while (count > 0)
		free(words[--count]);
	return 0;
}
