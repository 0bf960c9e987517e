/*
 * Each line of the input as HOST:PORT. Written again from its two parts, it is split into the same
 * ones.
 */
#include "address.h"

#include "fuzz.h"

static void check_again(const char *text, const struct host_port *one)
{
	struct host_port other;

	CHECK(!host_port_split(text, &other));
	CHECK(strcmp(one->host, other.host) == 0 && strcmp(one->port, other.port) == 0);
}

static void check_line(const char *text)
{
	char again[HOST_SIZE + PORT_SIZE + 4];
	struct host_port one, other;
	const char *wrong = host_port_split(text, &one);

	CHECK(!wrong || wrong[0]);
	if (wrong)
		return;
	CHECK(strlen(one.host) < HOST_SIZE && strlen(one.port) < PORT_SIZE && one.port[0]);
	if (!one.host[0]) {
		check_again(one.port, &one);
		return;
	}
	snprintf(again, sizeof(again), strchr(one.host, ':') ? "[%s]:%s" : "%s:%s", one.host,
		one.port);
	check_again(again, &one);
	CHECK(!host_port_join(one.host, one.port, &other));
	CHECK(strcmp(one.host, other.host) == 0 && strcmp(one.port, other.port) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	for (size_t at = 0, end; at < size; at = end + 1) {
		char *line;

		for (end = at; end < size && bytes[end] != '\n';)
			end++;
		line = strndup((const char *)bytes + at, end - at);
		CHECK(line);
		check_line(line);
		free(line);
	}
	return 0;
}
