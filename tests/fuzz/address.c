/*
 * Each line of the input as HOST:PORT. Its two parts give the line again, and come
 * through host_port_join() unchanged.
 */
#include "address.h"

#include "fuzz.h"

static bool is_line(const char *line, const char *format, const struct host_port *parts)
{
	char text[HOST_SIZE + PORT_SIZE + 4];

	snprintf(text, sizeof(text), format, parts->host, parts->port);
	return strcmp(line, text) == 0;
}

static void check_line(const char *line)
{
	struct host_port one, other;
	const char *wrong = host_port_split(line, &one);

	CHECK(!wrong || wrong[0]);
	if (wrong)
		return;
	CHECK(strlen(one.host) < HOST_SIZE && strlen(one.port) < PORT_SIZE && one.port[0]);
	if (!one.host[0]) {
		CHECK(strcmp(line, one.port) == 0);
		return;
	}
	CHECK(is_line(line, "[%s]:%s", &one) ||
		(is_line(line, "%s:%s", &one) && !strchr(one.host, ':')));
	CHECK(!host_port_join(one.host, one.port, &other));
	CHECK(strcmp(one.host, other.host) == 0 && strcmp(one.port, other.port) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, size};

	while (input.left > 0) {
		char *line = take_line(&input);

		check_line(line);
		free(line);
	}
	return 0;
}
