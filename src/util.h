#ifndef UTIL_H
#define UTIL_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>
#ifdef __APPLE__
#include <Availability.h>
#include <sys/random.h> /* getentropy() */
#endif

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* For messages: how the usual pipes go without a terminal in the way, which would damage frames. */
#define NO_TERMINAL "ssh -T, adb shell -T, no -t for docker and kubectl"

enum {
	US_PER_MS = 1000,
	US_PER_SECOND = 1000000,
};

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline int64_t min_i64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static inline int64_t max_i64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* Integers of the stream are little-endian; by bytes, so that alignment and host order are moot. */
static inline uint16_t le16_load(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline void le16_store(uint8_t *p, uint16_t value)
{
	p[0] = (uint8_t)(value & 0xff);
	p[1] = (uint8_t)(value >> 8);
}

static inline uint32_t le32_load(const uint8_t *p)
{
	return le16_load(p) | (uint32_t)le16_load(p + 2) << 16;
}

static inline void le32_store(uint8_t *p, uint32_t value)
{
	le16_store(p, (uint16_t)(value & 0xffff));
	le16_store(p + 2, (uint16_t)(value >> 16));
}

static inline uint64_t le64_load(const uint8_t *p)
{
	uint64_t value = 0;

	for (int i = 7; i >= 0; i--)
		value = value << 8 | p[i];
	return value;
}

static inline void le64_store(uint8_t *p, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(value >> 8 * i);
}

/* As poll(2) wants it (negative: for ever), rounded up so that no wait ends early. */
static inline int timeout_ms(int64_t timeout_us)
{
	int64_t ms = (timeout_us + US_PER_MS - 1) / US_PER_MS;

	if (timeout_us < 0)
		return -1;
	return ms < INT32_MAX ? (int)ms : INT32_MAX;
}

/* Microseconds on a clock that nobody sets (CLOCK_MONOTONIC). */
static inline uint64_t clock_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * US_PER_SECOND + (uint64_t)now.tv_nsec / 1000;
}

#endif
