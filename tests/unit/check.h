/*
 * Unit tests that speak TAP. A test is a function and a sentence that says what holds; what does
 * not hold is shown as "# file:line: expression", and the test goes on.
 *
 *	int main(void)
 *	{
 *		test("an empty queue has nothing to write", empty_queue);
 *		return tests_end();
 *	}
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	CHECKS_SHOWN_MAX = 8 /* of those that failed in one test */
};

static unsigned int tests_run, tests_failed, checks_failed;
static uint64_t random_state;

/* Each is true if what it checks holds, so that a test can stop where going on makes no sense. */
#define CHECK(expression) check_that(expression, "%s:%d: %s", __FILE__, __LINE__, #expression)
#define CHECK_NUMBER(got, wanted)                                                                  \
	check_number(                                                                              \
		(unsigned long long)(got), (unsigned long long)(wanted), #got, __FILE__, __LINE__)
#define CHECK_TEXT(got, wanted) check_text(got, wanted, #got, __FILE__, __LINE__)
#define CHECK_CONTAINS(got, part) check_contains(got, part, #got, __FILE__, __LINE__)

__attribute__((format(printf, 2, 3))) static inline bool check_that(
	bool holds, const char *format, ...)
{
	va_list arguments;

	if (holds || checks_failed++ >= CHECKS_SHOWN_MAX)
		return holds;
	printf("# ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	return false;
}

static inline bool check_number(unsigned long long got, unsigned long long wanted,
	const char *expression, const char *file, int line)
{
	return check_that(got == wanted, "%s:%d: %s is %llu (0x%llx), not %llu (0x%llx)", file,
		line, expression, got, got, wanted, wanted);
}

static inline bool check_text(
	const char *got, const char *wanted, const char *expression, const char *file, int line)
{
	bool holds = got && wanted ? strcmp(got, wanted) == 0 : got == wanted;

	return check_that(holds, "%s:%d: %s is \"%s\", not \"%s\"", file, line, expression,
		got ? got : "(null)", wanted ? wanted : "(null)");
}

static inline bool check_contains(
	const char *got, const char *part, const char *expression, const char *file, int line)
{
	return check_that(strstr(got, part) != NULL, "%s:%d: %s is \"%s\", without \"%s\"", file,
		line, expression, got, part);
}

/* The same numbers in every test, on every machine (xorshift64*); others with another SEED. */
static inline uint32_t random_below(uint32_t limit)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)(random_state * 0x2545f4914f6cdd1dU >> 32) % limit;
}

static inline uint8_t random_byte(void)
{
	return (uint8_t)random_below(256);
}

/* SEED of the environment, in decimal digits, or a number of our own. Says so once. */
static inline uint64_t random_seed(void)
{
	const char *text = getenv("SEED");
	uint64_t seed = text ? strtoull(text, NULL, 10) : 20240229;

	if (tests_run == 0)
		printf("# SEED=%llu\n", (unsigned long long)seed);
	return seed > 0 ? seed : 1; /* all would be 0 */
}

static inline void test(const char *name, void (*run)(void))
{
	random_state = random_seed();
	checks_failed = 0;
	run();
	tests_run++;
	tests_failed += checks_failed > 0;
	if (checks_failed > CHECKS_SHOWN_MAX)
		printf("# ... and %u more\n", checks_failed - CHECKS_SHOWN_MAX);
	printf("%s %u - %s\n", checks_failed > 0 ? "not ok" : "ok", tests_run, name);
	fflush(stdout); /* a crash in the next test is then told apart */
}

/* The plan, and what main() is to return. */
static inline int tests_end(void)
{
	printf("1..%u\n", tests_run);
	return fflush(stdout) == 0 && tests_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
