#include "address.h"

#include <arpa/inet.h>
#include <net/if.h>

#include "check.h"
#include "util.h"

#define BAD_PORT "a port is a number from 0 to 65535 or a service name"
#define BAD_FORM "expected HOST:PORT or [V6ADDRESS]:PORT"
#define EMPTY_HOST "the host is empty; for all addresses write *"
#define NO_BRACKETS "an IPv6 address is written in brackets, as in [::1]:53"
#define BAD_BRACKETS "expected [V6ADDRESS]:PORT"

#define SERVICE_31 "abcdefghijklmnopqrstuvwxyz-abcd"
#define LABEL_50 "label-of-fifty-bytes-label-of-fifty-bytes-label-of"
#define HOST_255 LABEL_50 LABEL_50 LABEL_50 LABEL_50 LABEL_50 ".home"

static struct host_port result;
static char text[ADDRESS_TEXT_SIZE];
static char error[ADDRESS_ERROR_SIZE];

static void check_split(const char *words, const char *host, const char *port)
{
	memset(&result, '#', sizeof(result));
	if (!CHECK_TEXT(host_port_split(words, &result), NULL))
		return;
	CHECK_TEXT(result.host, host);
	CHECK_TEXT(result.port, port);
}

static void check_join(const char *first, const char *second, const char *host)
{
	memset(&result, '#', sizeof(result));
	if (!CHECK_TEXT(host_port_join(first, second, &result), NULL))
		return;
	CHECK_TEXT(result.host, host);
	CHECK_TEXT(result.port, second);
}

/* --- one word ------------------------------------------------------------------------------ */

static void port_alone(void)
{
	check_split("53", "", "53");
	check_split("0", "", "0");
	check_split("65535", "", "65535");
	check_split("00053", "", "00053");
	check_split("domain", "", "domain");
}

static void host_and_port(void)
{
	check_split("127.0.0.1:53", "127.0.0.1", "53");
	check_split("localhost:domain", "localhost", "domain");
	check_split("a.example.org:0", "a.example.org", "0");
	check_split("host:65535", "host", "65535");
	check_split("*:53", "*", "53");
	check_split("h:1", "h", "1");
}

static void brackets(void)
{
	check_split("[::1]:53", "::1", "53");
	check_split("[::]:53", "::", "53");
	check_split("[fe80::1%eth0]:53", "fe80::1%eth0", "53");
	check_split("[2001:db8:1:2:3:4:5:6]:domain", "2001:db8:1:2:3:4:5:6", "domain");
	check_split("[::ffff:192.0.2.1]:1", "::ffff:192.0.2.1", "1");
	check_split("[127.0.0.1]:53", "127.0.0.1", "53");
	check_split("[host]:53", "host", "53");
}

static void service_names(void)
{
	check_split("host:ntp", "host", "ntp");
	check_split("host:http-alt", "host", "http-alt");
	check_split("host:3com-tsmux", "host", "3com-tsmux");
	check_split("host:" SERVICE_31, "host", SERVICE_31);
}

static void longest_host(void)
{
	CHECK_NUMBER(strlen(HOST_255), HOST_SIZE - 1);
	check_split(HOST_255 ":53", HOST_255, "53");
	check_split("[" HOST_255 "]:53", HOST_255, "53");
	check_join(HOST_255, "53", HOST_255);
}

static void bad_ports(void)
{
	static const char *const ports[] = {"", "65536", "99999", "100000", "000053", "4294967296",
		"18446744073709551669", "5 3", "53 ", " 53", "1/udp", "5[3", "5]3", SERVICE_31 "e"};
	char word[64];

	for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
		CHECK_TEXT(host_port_split(ports[i], &result), BAD_PORT);
		snprintf(word, sizeof(word), "host:%s", ports[i]);
		CHECK_TEXT(host_port_split(word, &result), BAD_PORT);
		snprintf(word, sizeof(word), "[::1]:%s", ports[i]);
		CHECK_TEXT(host_port_split(word, &result), BAD_PORT);
		CHECK_TEXT(host_port_join("host", ports[i], &result), BAD_PORT);
	}
	CHECK_TEXT(host_port_join("host", "::1", &result), BAD_PORT);
	CHECK_TEXT(host_port_join("host", "a:53", &result), BAD_PORT);
}

static void host_without_port(void)
{
	CHECK_TEXT(host_port_split("127.0.0.1:", &result), BAD_PORT);
	CHECK_TEXT(host_port_split("[::1]:", &result), BAD_PORT);
	CHECK_TEXT(host_port_split("[::1]", &result), BAD_BRACKETS);
	CHECK_TEXT(host_port_split("[", &result), BAD_PORT);
	CHECK_TEXT(host_port_split("[host]", &result), BAD_PORT);
}

static void v6_without_brackets(void)
{
	CHECK_TEXT(host_port_split("::1:53", &result), NO_BRACKETS);
	CHECK_TEXT(host_port_split("::1", &result), NO_BRACKETS);
	CHECK_TEXT(host_port_split("::", &result), NO_BRACKETS);
	CHECK_TEXT(host_port_split("2001:db8::1:53", &result), NO_BRACKETS);
	CHECK_TEXT(host_port_split("fe80::1%eth0:53", &result), NO_BRACKETS);
	CHECK_TEXT(host_port_split("host:53:54", &result), NO_BRACKETS);
}

static void bad_brackets(void)
{
	CHECK_TEXT(host_port_split("[::1:53", &result), BAD_BRACKETS);
	CHECK_TEXT(host_port_split("[::1]53:54", &result), BAD_BRACKETS);
	CHECK_TEXT(host_port_split("[:53", &result), BAD_BRACKETS);
	CHECK_TEXT(host_port_split("[[::1]]:53", &result), BAD_FORM);
	CHECK_TEXT(host_port_split("[::1]]:53", &result), BAD_FORM);
	CHECK_TEXT(host_port_split("host]:53", &result), BAD_FORM);
	CHECK_TEXT(host_port_split("ho[st:53", &result), BAD_FORM);
	CHECK_TEXT(host_port_split("]:53", &result), BAD_FORM);
}

static void empty_host(void)
{
	CHECK_TEXT(host_port_split(":53", &result), EMPTY_HOST);
	CHECK_TEXT(host_port_split("[]:53", &result), EMPTY_HOST);
	CHECK_TEXT(host_port_split(":", &result), EMPTY_HOST);
	CHECK_TEXT(host_port_join("", "53", &result), EMPTY_HOST);
	CHECK_TEXT(host_port_join("[]", "53", &result), EMPTY_HOST);
}

static void too_long_host(void)
{
	CHECK_TEXT(host_port_split(HOST_255 "x:53", &result), "the host is too long");
	CHECK_TEXT(host_port_split("[" HOST_255 "x]:53", &result), "the host is too long");
	CHECK_TEXT(host_port_join(HOST_255 "x", "53", &result), "the host is too long");
}

/* --- two words ----------------------------------------------------------------------------- */

static void two_words(void)
{
	check_join("127.0.0.1", "53", "127.0.0.1");
	check_join("localhost", "domain", "localhost");
	check_join("::1", "53", "::1");
	check_join("[::1]", "53", "::1");
	check_join("fe80::1%eth0", "65535", "fe80::1%eth0");
	check_join("*", "0", "*");
	check_join("[fe80::1%eth0]", "0", "fe80::1%eth0");
}

static void two_words_with_bad_brackets(void)
{
	CHECK_TEXT(host_port_join("[::1", "53", &result), BAD_FORM);
	CHECK_TEXT(host_port_join("::1]", "53", &result), BAD_FORM);
	CHECK_TEXT(host_port_join("[", "53", &result), BAD_FORM);
	CHECK_TEXT(host_port_join("[::1]:53", "53", &result), BAD_FORM);
}

/* --- addresses ----------------------------------------------------------------------------- */

static struct address v4(const char *ip, uint16_t port)
{
	struct address address = {.v4 = {.sin_family = AF_INET, .sin_port = htons(port)}};

	CHECK(inet_pton(AF_INET, ip, &address.v4.sin_addr) == 1);
	return address;
}

static struct address v6(const char *ip, uint16_t port, uint32_t scope)
{
	struct address address = {.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)}};

	CHECK(inet_pton(AF_INET6, ip, &address.v6.sin6_addr) == 1);
	address.v6.sin6_scope_id = scope;
	return address;
}

static void check_format(struct address address, const char *wanted)
{
	memset(text, '#', sizeof(text));
	CHECK(address_format(&address, text) == text);
	CHECK_TEXT(text, wanted);
}

static void formatted(void)
{
	check_format(v4("192.0.2.1", 53), "192.0.2.1:53");
	check_format(v4("255.255.255.255", 65535), "255.255.255.255:65535");
	check_format(v4("0.0.0.0", 0), "0.0.0.0:0");
	check_format(v6("::1", 53, 0), "[::1]:53");
	check_format(v6("::", 0, 0), "[::]:0");
	check_format(v6("2001:db8::1", 65535, 0), "[2001:db8::1]:65535");
	check_format(v6("2001:db8:1111:2222:3333:4444:5555:6666", 65535, 0),
		"[2001:db8:1111:2222:3333:4444:5555:6666]:65535");
}

static void mapped_v4_formatted(void)
{
	check_format(v6("::ffff:192.0.2.1", 53, 0), "192.0.2.1:53");
}

/* Any interface of this host will do. Returns its index, or 0 where there is none to test with. */
static uint32_t some_interface(char name[static IF_NAMESIZE])
{
	struct if_nameindex *interfaces = if_nameindex();
	uint32_t index = interfaces ? interfaces[0].if_index : 0;

	if (index > 0)
		snprintf(name, IF_NAMESIZE, "%s", interfaces[0].if_name);
	if (interfaces)
		if_freenameindex(interfaces);
	return index;
}

static void scope_formatted(void)
{
	char name[IF_NAMESIZE], wanted[ADDRESS_TEXT_SIZE];
	uint32_t index = some_interface(name);

	if (index == 0)
		return;
	snprintf(wanted, sizeof(wanted), "[fe80:1111:2222:3333:4444:5555:6666:7777%%%s]:65535",
		name);
	check_format(v6("fe80:1111:2222:3333:4444:5555:6666:7777", 65535, index), wanted);
}

static void lengths(void)
{
	struct address four = v4("192.0.2.1", 513), six = v6("::1", 65535, 0);

	CHECK_NUMBER(address_length(&four), sizeof(struct sockaddr_in));
	CHECK_NUMBER(address_length(&six), sizeof(struct sockaddr_in6));
}

static bool is_wildcard(struct address address)
{
	return address_is_wildcard(&address);
}

static void wildcards(void)
{
	CHECK(is_wildcard(v4("0.0.0.0", 53)));
	CHECK(is_wildcard(v6("::", 53, 0)));
	CHECK(!is_wildcard(v4("0.0.0.1", 0)));
	CHECK(!is_wildcard(v4("127.0.0.1", 0)));
	CHECK(!is_wildcard(v6("::1", 0, 0)));
}

static bool equal(struct address a, struct address b)
{
	bool holds = address_equal(&a, &b);

	CHECK(address_equal(&b, &a) == holds);
	return holds;
}

static void equal_addresses(void)
{
	CHECK(equal(v4("192.0.2.1", 53), v4("192.0.2.1", 53)));
	CHECK(!equal(v4("192.0.2.1", 53), v4("192.0.2.2", 53)));
	CHECK(!equal(v4("192.0.2.1", 53), v4("192.0.2.1", 54)));
	CHECK(equal(v6("fe80::1", 53, 2), v6("fe80::1", 53, 2)));
	CHECK(!equal(v6("fe80::1", 53, 2), v6("fe80::2", 53, 2)));
	CHECK(!equal(v6("fe80::1", 53, 2), v6("fe80::1", 54, 2)));
	CHECK(!equal(v6("fe80::1", 53, 2), v6("fe80::1", 53, 3)));
	CHECK(!equal(v4("192.0.2.1", 53), v6("::ffff:192.0.2.1", 53, 0)));
	CHECK(!equal(v4("0.0.0.0", 53), v6("::", 53, 0)));
}

static void flow_labels_and_padding(void)
{
	struct address six = v6("2001:db8::1", 53, 0), labelled = six;
	struct address four = v4("192.0.2.1", 53), padded;

	labelled.v6.sin6_flowinfo = htonl(0x12345);
	CHECK(equal(six, labelled));
	memset(&padded, 0xff, sizeof(padded));
	padded.v4.sin_family = four.v4.sin_family;
	padded.v4.sin_port = four.v4.sin_port;
	padded.v4.sin_addr = four.v4.sin_addr;
	CHECK(equal(four, padded));
}

static void local_addresses(void)
{
	struct local_address unknown = {.interface = 0}, a = {.interface = 2}, b;

	CHECK(inet_pton(AF_INET6, "fe80::1", &a.ip) == 1);
	b = a;
	CHECK(local_address_equal(&a, &b));
	CHECK(!local_address_equal(&a, &unknown));
	CHECK(local_address_equal(&unknown, &unknown));
	b.interface = 3;
	CHECK(!local_address_equal(&a, &b));
	b = a;
	b.ip.s6_addr[15] = 2;
	CHECK(!local_address_equal(&a, &b));
}

/* --- looking up (numbers only: no network is asked) ---------------------------------------- */

enum {
	FOUND_MAX = 8
};

static struct address found[FOUND_MAX];

static size_t resolve(const char *host, const char *port, int family)
{
	struct host_port name;

	snprintf(name.host, sizeof(name.host), "%s", host);
	snprintf(name.port, sizeof(name.port), "%s", port);
	memset(found, 0xee, sizeof(found));
	error[0] = '\0';
	return address_resolve(&name, family, found, FOUND_MAX, error);
}

/* Whether there is just that one. */
static void check_resolve(const char *host, const char *port, int family, const char *wanted)
{
	if (!CHECK_NUMBER(resolve(host, port, family), 1))
		return;
	CHECK_TEXT(address_format(&found[0], text), wanted);
	CHECK_NUMBER(found[0].any.sa_family, strchr(wanted, '[') ? AF_INET6 : AF_INET);
}

static void numeric_addresses(void)
{
	check_resolve("192.0.2.1", "53", AF_UNSPEC, "192.0.2.1:53");
	check_resolve("192.0.2.1", "53", AF_INET, "192.0.2.1:53");
	check_resolve("2001:db8::1", "65535", AF_UNSPEC, "[2001:db8::1]:65535");
	check_resolve("2001:db8::1", "0", AF_INET6, "[2001:db8::1]:0");
	check_resolve("0.0.0.0", "1", AF_UNSPEC, "0.0.0.0:1");
	check_resolve("::", "1", AF_UNSPEC, "[::]:1");
	check_resolve("192.0.2.1", "00053", AF_UNSPEC, "192.0.2.1:53");
}

static void no_host_is_loopback(void)
{
	check_resolve("", "53", AF_UNSPEC, "127.0.0.1:53");
	check_resolve("", "53", AF_INET, "127.0.0.1:53");
	check_resolve("", "53", AF_INET6, "[::1]:53");
}

static void star_is_the_wildcard(void)
{
	size_t count;

	check_resolve("*", "53", AF_INET, "0.0.0.0:53");
	check_resolve("*", "53", AF_INET6, "[::]:53");
	count = resolve("*", "53", AF_UNSPEC);
	CHECK(count >= 1 && count <= 2);
	for (size_t i = 0; i < count; i++)
		CHECK_TEXT(address_format(&found[i], text),
			found[i].any.sa_family == AF_INET ? "0.0.0.0:53" : "[::]:53");
}

static void scope_is_looked_up(void)
{
	char name[IF_NAMESIZE], host[HOST_SIZE];
	uint32_t index = some_interface(name);

	if (index == 0)
		return;
	snprintf(host, sizeof(host), "fe80::1%%%s", name);
	if (CHECK_NUMBER(resolve(host, "53", AF_UNSPEC), 1))
		CHECK_NUMBER(found[0].v6.sin6_scope_id, index);
}

/* What the addresses are stored in may be compared and hashed byte by byte. */
static void unused_bytes_are_zero(void)
{
	struct address wanted;

	memset(&wanted, 0, sizeof(wanted));
	wanted.v4 = v4("192.0.2.1", 53).v4;
	resolve("192.0.2.1", "53", AF_UNSPEC);
	CHECK(memcmp(&found[0], &wanted, sizeof(wanted)) == 0);
}

static void no_more_than_asked_for(void)
{
	struct host_port name = {.host = "*", .port = "53"};

	memset(found, 0xee, sizeof(found));
	CHECK_NUMBER(address_resolve(&name, AF_UNSPEC, found, 1, error), 1);
	CHECK_NUMBER(((const uint8_t *)&found[1])[0], 0xee);
}

static void wrong_family(void)
{
	CHECK_NUMBER(resolve("192.0.2.1", "53", AF_INET6), 0);
	CHECK_CONTAINS(error, "192.0.2.1");
	CHECK_CONTAINS(error, "53");
	CHECK_NUMBER(resolve("2001:db8::1", "53", AF_INET), 0);
	CHECK_CONTAINS(error, "2001:db8::1");
	CHECK_NUMBER(resolve("::1", "53", AF_INET), 0);
	CHECK_CONTAINS(error, "::1");
}

static void unknown_service(void)
{
	CHECK_NUMBER(resolve("127.0.0.1", "no-such-service", AF_UNSPEC), 0);
	CHECK_CONTAINS(error, "127.0.0.1");
	CHECK_CONTAINS(error, "no-such-service");
	CHECK_NUMBER(resolve("*", "no-such-service", AF_INET), 0);
	CHECK_CONTAINS(error, "*");
}

static void longest_error_fits(void)
{
	CHECK_NUMBER(resolve(HOST_255, SERVICE_31, AF_UNSPEC), 0);
	CHECK_CONTAINS(error, HOST_255);
	CHECK_CONTAINS(error, SERVICE_31);
	CHECK(strlen(error) < sizeof(error) - 1);
}

int main(void)
{
	test("a port alone has no host", port_alone);
	test("HOST:PORT is split at the colon", host_and_port);
	test("an address in brackets loses them", brackets);
	test("a port may be a service name", service_names);
	test("the longest host fits", longest_host);
	test("what is no port is refused", bad_ports);
	test("a host alone is refused", host_without_port);
	test("an IPv6 address without brackets is refused", v6_without_brackets);
	test("brackets that do not match are refused", bad_brackets);
	test("an empty host is refused", empty_host);
	test("a host that is too long is refused", too_long_host);

	test("two words are a host, in brackets or not, and a port", two_words);
	test("of two words brackets that do not match are refused", two_words_with_bad_brackets);

	test("addresses are written with their port", formatted);
	test("an IPv4 address mapped to IPv6 is written as IPv4", mapped_v4_formatted);
	test("a link-local address is written with its interface", scope_formatted);
	test("an address has the length of its family", lengths);
	test("only the address of all zeros is the wildcard", wildcards);
	test("addresses are equal by family, address, scope and port", equal_addresses);
	test("flow labels and padding do not matter", flow_labels_and_padding);
	test("local addresses are equal by address and interface", local_addresses);

	test("numbers are looked up as they are", numeric_addresses);
	test("no host is loopback of the family", no_host_is_loopback);
	test("* is the wildcard address of the family", star_is_the_wildcard);
	test("an interface is looked up", scope_is_looked_up);
	test("an address looked up has no other bytes than its own", unused_bytes_are_zero);
	test("no more addresses are stored than asked for", no_more_than_asked_for);
	test("an address of the other family is an error that names it", wrong_family);
	test("an unknown service is an error that names it", unknown_service);
	test("an error with the longest names fits", longest_error_fits);
	return tests_end();
}
